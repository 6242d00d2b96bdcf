"""Compiled parts of the model for training: a step takes about 0.6 of its time on a CPU.

Most of an eager step goes into small operations between the products, which a compiler fuses. The
Conformer's blocks are compiled once for each shape of a batch, since tiled attention cannot be
compiled for all shapes at once; the decoder's layers are compiled for all lengths. Compiling takes
some 15 s for each shape. Measured by the log of `python -m training.train`, eager and compiled, on
one of two busy cores of an Intel machine: 1.8 and 1.15 s of processor time a step.
"""

import torch
import torch._dynamo
from torch import nn

from training.model import Nano

SHAPES = 256  # most versions of one function


def compile_parts(model: Nano, backend: str = "inductor") -> None:
    """Replaces what takes most of a step by compiled functions with the same results.

    backend: a name that `torch.compile` knows.
    """
    torch._dynamo.config.recompile_limit = SHAPES
    torch._dynamo.config.accumulated_recompile_limit = 8 * SHAPES
    for block in model.audio_tower.conformer:
        _compile(block, "forward", backend, dynamic=False)
    for number, layer in enumerate(model.language_model.layers):
        _compile(layer, "begin", backend, dynamic=True)
        if number not in model.guide.layers:  # a watched one stays as it is
            _compile(layer, "finish", backend, dynamic=True)


def _compile(module: nn.Module, name: str, backend: str, dynamic: bool) -> None:
    setattr(module, name, torch.compile(getattr(module, name), backend=backend, dynamic=dynamic))
