"""Products with the audio tower's weights.

Unusual: a live step multiplies four frames by every matrix, and what that costs is the reading of
the matrices. So few rows take the kernels that read at the speed of the memory.
"""

from __future__ import annotations

from torch import Tensor, nn

from dragoman.kernels import linear


class Linear(nn.Linear):
    """A weight [outputs, inputs] without bias. Nobody else reads `weight`, so that a module which
    holds it in another form can stand in its place.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: float [..., inputs]; gives [..., outputs]."""
        return linear(x, self.weight)
