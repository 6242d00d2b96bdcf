"""Kernels recorded with their arguments and replayed one behind the other in one call.

What a CUDA graph is for a GPU. A decode step is some five hundred small kernels. Called from Python
one by one they would take longer to be called, and threads to be woken, than to run; so all threads
go through the whole list and wait for one another only where one kernel reads what another wrote.

`Recording` is such a list, `Products` adds the products of modules to it, and `Recordings` keeps
the lists of a module until its weights change.
"""

import ctypes
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from functools import cache
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from dragoman.decoder.storage import FORMS, shape, stored
from dragoman.kernels.compiler import I64, Builder, Kernel, Value, lanes
from dragoman.kernels.products import operands, parts, scratch_bytes

REPLAY = ("steps", "count")
MemoryT = TypeVar("MemoryT")
RecordedT = TypeVar("RecordedT")


class Arguments:
    """What a recorded kernel is given, by name: addresses and numbers, which may be changed."""

    def __init__(self, names: tuple[str, ...], given: dict[str, int]):
        if given.keys() != set(names):
            raise ValueError(f"expected the arguments {names}, got {tuple(given)}")
        self._places = {name: i for i, name in enumerate(names)}
        self._values = (ctypes.c_int64 * len(names))(*(given[name] for name in names))
        self.address = ctypes.addressof(self._values)

    def __setitem__(self, name: str, value: int) -> None:
        self._values[self._places[name]] = value


class Recording:
    """A list of kernels for `threads` threads, which `replay` goes through.

    Whoever records keeps the memory alive that the arguments point to, and its kernels must not
    need more threads than there are.
    """

    def __init__(self, threads: int):
        self.threads = threads
        self._kept: list[tuple[Kernel, Arguments]] = []
        self._steps: list[int] = []
        self._table: ctypes.Array[ctypes.c_int64] | None = None

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, kernel: Kernel, wait: bool = True, /, **given: int) -> Arguments:
        """Records one more; wait: whether all threads finish it before any goes on."""
        arguments = Arguments(kernel.arguments, given)
        self._kept.append((kernel, arguments))
        self._table = None
        self._steps += (kernel.address, arguments.address, int(wait))
        return arguments

    def replay(self) -> None:
        """Does all of it; the interpreter is free for others meanwhile."""
        if self._table is None:
            self._table = (ctypes.c_int64 * len(self._steps))(*self._steps)
        _player().run(self.threads, ctypes.addressof(self._table), len(self._kept))


class Scratch:
    """Memory for products of at most ``rows`` in any form, with at most ``inputs``, of which
    ``together`` parts run without a wait between them: these must not meet in it."""

    def __init__(self, rows: int, inputs: int, threads: int, together: int):
        size = max(scratch_bytes(form, True, rows, inputs) for form in FORMS)
        self._memory = torch.empty(together, threads * size, dtype=torch.uint8)

    def at(self, part: int) -> int:
        return self._memory[part].data_ptr()


class Products:
    """Adds products to a recording, whose threads they use."""

    def __init__(self, recording: Recording, scratch: Scratch):
        self._recording, self._scratch = recording, scratch
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
        for kernel, first, count in parts(form, True, rows):
            meet = wait and first + count == rows
            given = {
                "y": y + 2 * first * outputs, "x": x + 2 * first * inputs, "outputs": outputs,
                "inputs": inputs, "scratch": self._scratch.at(self._unwaited),
                **operands(weight, scale),
            }  # fmt: skip
            if "rows" in kernel.arguments:
                given["rows"] = count
            self._recording.add(kernel, meet, **given)
            self._unwaited = 0 if meet else self._unwaited + 1


class Recordings(Generic[MemoryT, RecordedT]):
    """What was recorded of a module, the last `kept` used, with memory that they share.

    make_memory: that memory, for so many threads. Hold `lock` while one of them is looked for and
    replayed. A copy of the module begins without any.
    """

    def __init__(self, kept: int, make_memory: Callable[[int], MemoryT]) -> None:
        self.lock = threading.Lock()
        self._kept, self._make_memory = kept, make_memory
        self._found: OrderedDict[Hashable, RecordedT] = OrderedDict()
        self._weights: Weights | None = None
        self._memory: tuple[int, MemoryT] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Recordings, (self._kept, self._make_memory)

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[Hashable]:
        """Keys of what is kept, the longest unused first."""
        return iter(self._found)

    def look(self, modules: nn.Module) -> "Weights | None":
        """Forgets everything where the weights are others, or elsewhere, than they were; then they
        are returned, else None."""
        if self._weights is not None and self._weights.unmoved():
            return None
        self._weights = Weights(modules)
        self._found.clear()
        return self._weights

    def get(self, key: Hashable, record: Callable[[MemoryT], RecordedT]) -> RecordedT:
        """What was recorded under `key`, or is recorded now."""
        threads = torch.get_num_threads()
        if self._memory is None or self._memory[0] != threads:
            self._memory = threads, self._make_memory(threads)
            self._found.clear()
        if key not in self._found:
            self._found[key] = record(self._memory[1])
        self._found.move_to_end(key)
        if len(self._found) > self._kept:
            self._found.popitem(last=False)
        return self._found[key]


class Weights:
    """Where the weights of some modules lie. Keeps that memory."""

    def __init__(self, modules: nn.Module):
        self._parts = [
            (mapping, name, part)
            for module in modules.modules()
            for mapping in (module._modules, module._parameters, module._buffers)
            for name, part in mapping.items()
        ]
        self.tensors = [part for _, _, part in self._parts if isinstance(part, Tensor)]
        self._places = [tensor.data_ptr() for tensor in self.tensors]
        self._kept = [tensor.detach() for tensor in self.tensors]

    def unmoved(self) -> bool:
        """Whether all modules still have the same parts, in the same memory."""
        return all(mapping.get(name) is part for mapping, name, part in self._parts) and all(
            tensor.data_ptr() == place
            for tensor, place in zip(self.tensors, self._places, strict=True)
        )


@cache
def _player() -> Kernel:
    """Calls `count` workers, whose addresses, arguments and whether to wait `steps` lists."""

    def write(b: Builder) -> None:
        def step(i: Value) -> None:
            address, arguments, wait = (
                b.read(I64, b.pointer("steps"), b.sum(b.times(i, 24), 8 * k)) for k in range(3)
            )
            b.call_worker(address, arguments)
            with b.if_then(b.icmp_signed("!=", wait, b.number(0))):
                b.wait()

        b.run(0, b.given["count"], step)

    return Kernel(REPLAY, write, lanes())
