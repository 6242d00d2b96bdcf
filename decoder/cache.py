"""Keys and values of one decoding, for the layers that own them.

Unusual: KV-shared layers have no buffers (they read their source's), and a cache can be truncated,
so a prompt is prefilled once and many answers are tried behind it.
"""

import torch
from torch import Tensor

from decoder.config import TextConfig


class KVCache:
    """Buffers [B, N_kv, capacity, H] for keys (already rotated) and values of each layer that owns
    them.

    Position i of the sequence lies at index i; `length` positions are filled, the rest is garbage.
    All rows of the batch have the same length. Appending beyond `capacity` doubles it, up to
    `limit` positions, so memory is bounded by `limit`; `nbytes` is what is allocated now.
    """

    def __init__(
        self,
        config: TextConfig,
        batch: int,
        capacity: int,
        dtype: torch.dtype,
        device: torch.device,
    ):
        self.limit = config.max_position_embeddings
        if batch < 1 or not 1 <= capacity <= self.limit:
            raise ValueError(
                f"a cache needs batch >= 1 and capacity in [1, {self.limit}], the model's context; "
                f"got batch {batch}, capacity {capacity}"
            )
        shape = (batch, config.num_key_value_heads, capacity, config.head_dim)
        owners = range(config.last_kv_owner + 1)
        self._keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in owners]
        self._values = [torch.zeros(shape, dtype=dtype, device=device) for _ in owners]
        self.batch, self.length = batch, 0

    @property
    def capacity(self) -> int:
        return self._keys[0].shape[2]

    @property
    def nbytes(self) -> int:
        """Bytes allocated for keys and values of all layers."""
        return sum(buffer.nbytes for buffer in (*self._keys, *self._values))

    def truncate(self, length: int) -> None:
        """Forget all positions from `length` on. Raises ValueError where that is not a prefix."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot truncate a cache of {self.length} positions to {length}")
        self.length = length

    def reserve(self, count: int) -> None:
        """Make room for `count` more positions. Raises ValueError beyond the model's context."""
        needed = self.length + count
        if needed > self.limit:
            raise ValueError(
                f"{self.length} cached and {count} new positions exceed the context of "
                f"{self.limit}; start a new segment or truncate the cache"
            )
        if needed > self.capacity:
            capacity = min(self.limit, max(needed, 2 * self.capacity))
            self._keys = [self._grown(buffer, capacity) for buffer in self._keys]
            self._values = [self._grown(buffer, capacity) for buffer in self._values]

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put [B, N_kv, L, H] behind the filled positions; all keys and values up to there.

        Does not change `length` (every owner writes the same positions): the pass ends with
        `advance`.
        """
        end = self.length + keys.shape[2]
        self._keys[layer][:, :, self.length : end] = keys
        self._values[layer][:, :, self.length : end] = values
        return self._keys[layer][:, :, :end], self._values[layer][:, :, :end]

    def advance(self, count: int) -> None:
        """Count `count` written positions as filled."""
        self.length += count

    def _grown(self, buffer: Tensor, capacity: int) -> Tensor:
        B, N, _, H = buffer.shape
        grown = buffer.new_zeros(B, N, capacity, H)
        grown[:, :, : self.length] = buffer[:, :, : self.length]
        return grown
