"""The two normalisations of the audio tower: root mean square, and cumulative group norm over time.

Both compute in float32 whatever the weights are. Unusual: the group norm sees the past only, so it
streams, and its whole memory is three numbers a row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dragoman.encoders.streaming import StreamingLayer

# Below this mean square a vector is silence to `RMSNorm`; see there.
SILENT_MEAN_SQUARE = 1e-12


def clamp(x: Tensor, limit: float) -> Tensor:
    """Keeps values within +-limit, or within what the dtype can hold if that is less."""
    limit = min(limit, torch.finfo(x.dtype).max)
    return x.clamp(-limit, limit)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps), times a learnt scale where there is one (Zhang and Sennrich 2019,
    arXiv 1910.07467), of x within +-limit.

    A vector of zeros passes as zeros, but there the slope is 1/sqrt(eps) = 1000, and a frame that
    is masked to zero from the first mel frame on meets dozens of norms in a row: their product
    overflows and the gradient turns into NaN. So (near) zero vectors pass forward as ever and pass
    no gradient back.
    """

    def __init__(
        self, width: int, eps: float = 1e-6, scale: bool = True, limit: float = math.inf
    ) -> None:
        super().__init__()
        self.eps, self.limit = eps, limit
        self.weight = nn.Parameter(torch.ones(width)) if scale else None

    def forward(self, x: Tensor) -> Tensor:
        """x: float [..., D]; the same shape and dtype comes back."""
        y = (x if self.limit == math.inf else clamp(x, self.limit)).float()
        mean_square = y.pow(2).mean(-1, keepdim=True)
        if y.requires_grad:
            silent = mean_square < SILENT_MEAN_SQUARE
            y = torch.where(silent, y.detach(), y)
            mean_square = torch.where(silent, mean_square.detach(), mean_square)
        y = y * torch.rsqrt(mean_square + self.eps)
        if self.weight is not None:
            y = y * self.weight.float()
        return y.to(x.dtype)

    def added(self, onto: Tensor, x: Tensor, factor: float = 1.0) -> Tensor:
        """onto + factor * norm of x, the sum of a residual branch; both float [..., D]."""
        return onto + factor * self(x)


@dataclass
class GroupNormState:
    """Running statistics; each float64 [B]. See `CumulativeGroupNorm`."""

    count: Tensor
    total: Tensor
    squares: Tensor


class CumulativeGroupNorm(StreamingLayer[GroupNormState]):
    """Group norm of one group whose statistics at step t cover the steps up to t; scale only.

    The mean at t is the running sum over the running count. The variance is the running sum of
    squared deviations over the same count, where each step deviates from the mean *as it was at
    that step*: past deviations are not revised.

    The running numbers are float64. A stream adds 50 steps a second, so after an hour a float32 sum
    would drop 17 of each addend's 24 bits; a float64 sum keeps all 24 for four months. On clips
    both agree within 1e-5 of the largest output.
    """

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))

    def init_state(
        self, batch: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> GroupNormState:
        """Empty statistics; `dtype` is ignored, as they are always float64."""
        zeros = torch.zeros(3, batch, dtype=torch.float64, device=device or self.weight.device)
        return GroupNormState(*zeros.clone().unbind())

    def step(self, x: Tensor, state: GroupNormState) -> tuple[Tensor, GroupNormState]:
        """x: float [B, T, F, C]; the same shape and dtype comes back."""
        _, T, F, C = x.shape
        if T == 0:
            return x, state
        values = x.float()
        steps = torch.arange(1, T + 1, dtype=torch.float64, device=x.device)
        count = state.count[:, None] + steps * (F * C)
        total = state.total[:, None] + values.sum((2, 3)).double().cumsum(1)
        deviation = values - (total / count).float()[:, :, None, None]
        squares = state.squares[:, None] + deviation.pow(2).sum((2, 3)).double().cumsum(1)
        inverse = torch.rsqrt((squares / count).float() + self.eps)[:, :, None, None]
        y = deviation * inverse * self.weight.float()
        return y.to(x.dtype), GroupNormState(count[:, -1], total[:, -1], squares[:, -1])

    def flush(self, state: GroupNormState) -> Tensor:
        """Nothing is held back; the time axis is empty."""
        return self.weight.new_empty(state.count.shape[0], 0, 0, self.weight.shape[0])
