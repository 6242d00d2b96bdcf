"""The quick wing: kernels made for the CPU at run time, and CUDA graphs for a GPU.

`encoders` and `decoder` define what is computed, in plain torch. `accelerate` makes a loaded model
quick: it gives its modules classes that compute the same with kernels. Nothing else needs to know.
See README.md in this folder.
"""

import logging
import os
import sys
from functools import cache
from typing import TypeVar

from torch import nn

log = logging.getLogger(__name__)

SWITCH = "DRAGOMAN_KERNELS"  # an environment variable; "off" leaves every model to torch

ModuleT = TypeVar("ModuleT", bound=nn.Module)

__all__ = ["SWITCH", "accelerate", "available"]


def accelerate(model: ModuleT) -> ModuleT:
    """Makes a model, or any part of one, quick in place, and returns it.

    Its modules keep their weights and names; their classes become those of `kernels.modules`, or of
    `kernels.graphed` on a GPU, each a subclass of the one that it replaces. Elsewhere, and where no
    kernels can be made, nothing happens. A quick module still computes as defined what its kernels
    do not take: gradients, float64.
    """
    tensors = (*model.parameters(), *model.buffers())
    if any(tensor.is_cuda for tensor in tensors) and _wanted():
        from dragoman.kernels import graphed

        _say_untried()
        graphed.replace(model)
    elif available() and all(tensor.is_cpu for tensor in tensors):
        from dragoman.kernels import modules  # needs llvmlite

        modules.replace(model)
    return model


def available() -> bool:
    """Whether kernels can be made for this machine's CPU, and `SWITCH` does not forbid it."""
    return _wanted() and _possible()


@cache  # once a process, however many parts of a model it loads
def _say_untried() -> None:
    log.warning(
        "what runs on a GPU was never run on one by those who wrote it: `python -m benchmarks.gpu` "
        "compares it with the CPU"
    )


def _wanted() -> bool:
    return os.environ.get(SWITCH, "on") != "off"


@cache
def _possible() -> bool:
    try:
        from dragoman.kernels.compiler import works
    except ImportError:
        return False
    return works() and sys.byteorder == "little"
