"""What tensors kernels can take, how many threads a call is worth, and what quick classes share."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

FLOATS = (torch.bfloat16, torch.float32)


def serves(*tensors: Tensor) -> bool:
    """Whether a kernel can take these together: on the CPU, of one of `FLOATS`, contiguous, and no
    gradient is wanted of any."""
    kind = tensors[0].dtype
    if kind not in FLOATS or differentiated(*tensors):
        return False
    return all(t.dtype == kind and t.is_cpu and t.is_contiguous() and t.numel() for t in tensors)


def differentiated(*tensors: Tensor) -> bool:
    """Whether a gradient is wanted of any of these: then it is torch's to do."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def threads_for(amount: int, alone: int) -> int:
    """One thread for less than it has done, `alone`, before a second one would begin; else all."""
    return 1 if amount < alone else torch.get_num_threads()


class Keeping:
    """A quick class that keeps something besides its weights."""

    def begin(self) -> None:
        """Called once, when a module has become quick."""
        raise NotImplementedError


def give(model: nn.Module, classes: Mapping[type[nn.Module], type[nn.Module]]) -> None:
    """Gives every module of a model whose class is among ``classes`` the one it stands for."""
    for module in model.modules():
        quick = classes.get(type(module))
        if quick is not None:
            module.__class__ = quick
            if isinstance(module, Keeping):
                module.begin()
