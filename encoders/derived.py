"""What is computed from weights alone: once, and again when a weight has changed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Derived:
    """A tensor made from weights, kept until one of them changes.

    The weights it was made from are kept with it: as long as they are alive no new weight can have
    their address.
    """

    def __init__(self) -> None:
        self._weights: list[Tensor] = []
        self._seen: list[tuple[object, ...]] = []
        self._made: Tensor | None = None

    def get(self, make: Callable[[], Tensor], *weights: Tensor) -> Tensor:
        """What `make` makes of `weights`, without gradients."""
        seen = [_mark(weight) for weight in weights]
        if self._made is None or seen != self._seen:
            with torch.no_grad():
                self._made = make()
            self._weights, self._seen = [weight.detach() for weight in weights], seen
        return self._made


def _mark(weight: Tensor) -> tuple[object, ...]:
    version = 0 if weight.is_inference() else weight._version
    return weight.data_ptr(), weight.dtype, weight.device, version
