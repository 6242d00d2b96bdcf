"""Muon for a GPU: torch's, but the matrices of one shape are made orthogonal together.

A step of `torch.optim.Muon` starts about 25 kernels for each matrix, which a small model's matrices
do not fill. Here a product takes all matrices of a shape at once, and a step starts as many kernels
for a shape. State and options are torch's, so either optimizer goes on where the other stood.
"""

from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor


class GroupedMuon(torch.optim.Muon):
    """`torch.optim.Muon` with nesterov momentum and ``match_rms_adamw``, in fewer kernels."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step of every matrix that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            shapes: defaultdict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes[parameter.shape].append(parameter)
            for parameters in shapes.values():
                self._step(parameters, group)
        return loss

    def _step(self, parameters: list[Tensor], group: dict) -> None:
        """The same step for matrices of one shape."""
        grads = [p.grad for p in parameters if p.grad is not None]
        buffers = [self._momentum(p) for p in parameters]
        for buffer, grad in zip(buffers, grads, strict=True):
            buffer.lerp_(grad, 1 - group["momentum"])
        updates = torch.stack(grads).lerp(torch.stack(buffers), group["momentum"])
        updates = orthogonal(updates, group["ns_coefficients"], group["ns_steps"], group["eps"])
        rate = group["lr"] * 0.2 * max(updates.shape[1:]) ** 0.5
        for parameter, update in zip(parameters, updates, strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-rate)

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return state["momentum_buffer"]


def orthogonal(
    matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> Tensor:
    """Of matrices [N, A, B], the nearest with singular values of about 1, in bfloat16.

    By the iteration of Newton and Schulz with ``coefficients`` (Jordan et al., 2024).
    """
    a, b, c = coefficients
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x.bfloat16()
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
