"""A linear layer of the audio tower."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class Linear(nn.Linear):
    """A weight [outputs, inputs] without bias. Nobody else reads `weight`, so that a module which
    holds it in another form can stand in its place.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        # Not typed by torch, as nn.Linear does not say what its device and dtype are.
        super().__init__(inputs, outputs, bias=False)  # pyright: ignore[reportUnknownMemberType]

    def forward(self, input: Tensor) -> Tensor:
        """input: float [..., inputs]; gives [..., outputs]."""
        return functional.linear(input, self.weight)
