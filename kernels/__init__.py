"""The quick wing: kernels made for the CPU at run time, for what torch is slow at.

`encoders` and `decoder` define what is computed, in plain torch. `accelerate` makes a loaded model
quick: it gives its modules classes that compute the same with kernels. Nothing else needs to know.
See README.md in this folder.
"""

import os
import sys
from functools import cache
from typing import TypeVar

from torch import nn

SWITCH = "DRAGOMAN_KERNELS"  # an environment variable; "off" leaves every model to torch

ModuleT = TypeVar("ModuleT", bound=nn.Module)

__all__ = ["SWITCH", "accelerate", "available"]


def accelerate(model: ModuleT) -> ModuleT:
    """Makes a model, or any part of one, quick in place, and returns it.

    Its modules keep their weights and names; their classes become those of `kernels.modules`, each
    a subclass of the one that it replaces. Where the weights are not in this machine's memory, or
    where no kernels can be made, nothing happens. A quick module still computes as defined what its
    kernels do not take: gradients, float64.
    """
    tensors = (*model.parameters(), *model.buffers())
    if available() and all(tensor.is_cpu for tensor in tensors):
        from dragoman.kernels import modules  # needs llvmlite

        modules.replace(model)
    return model


def available() -> bool:
    """Whether kernels can be made on this machine, and `SWITCH` does not forbid it."""
    return os.environ.get(SWITCH, "on") != "off" and _possible()


@cache
def _possible() -> bool:
    try:
        from dragoman.kernels.compiler import works
    except ImportError:
        return False
    return works() and sys.byteorder == "little"
