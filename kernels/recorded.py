"""Products of modules, recorded on a tape."""

import torch
from torch import nn

from dragoman.kernels.products import FORMS, operands, parts, scratch_bytes, shape
from dragoman.kernels.tape import Tape
from dragoman.kernels.weights import stored


class Scratch:
    """Memory for products of at most ``rows`` in any form, with at most ``inputs``, of which
    ``together`` parts run without a wait between them: these must not meet in it."""

    def __init__(self, rows: int, inputs: int, threads: int, together: int):
        size = max(scratch_bytes(form, True, rows, inputs) for form in FORMS)
        self._memory = torch.empty(together, threads * size, dtype=torch.uint8)

    def at(self, part: int) -> int:
        return self._memory[part].data_ptr()


class Products:
    """Records products on ``tape``, whose threads they use."""

    def __init__(self, tape: Tape, scratch: Scratch):
        self._tape, self._scratch = tape, scratch
        self._unwaited = 0  # parts of products since all threads have met

    def add(
        self, module: nn.Module, x: int, y: int, rows: int, outputs: int | None = None,
        inputs: int | None = None, wait: bool = True,
    ) -> None:  # fmt: skip
        """y [rows, outputs] = x [rows, inputs] @ weight^T, in bf16, of a `Linear` or of what is
        quantized in its place; the first outputs and inputs, or all."""
        form, weight, scale = stored(module)
        whole = shape(form, weight)
        outputs, inputs = outputs or whole[0], inputs or whole[1]
        for program, first, count in parts(form, True, rows):
            meet = wait and first + count == rows
            given = {
                "y": y + 2 * first * outputs, "x": x + 2 * first * inputs, "outputs": outputs,
                "inputs": inputs, "scratch": self._scratch.at(self._unwaited),
                **operands(weight, scale),
            }  # fmt: skip
            if "rows" in program.arguments:
                given["rows"] = count
            self._tape.add(program, meet, **given)
            self._unwaited = 0 if meet else self._unwaited + 1
