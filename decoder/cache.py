"""Keys and values of one decoding, for the layers that own them.

Unusual: KV-shared layers have no buffers (they read their source's), and a cache can be truncated,
so a prompt is prefilled once and many answers are tried behind it. A cache belongs to one size of
one model: another size has other keys and values, so every pass over a cache runs the cache's size.
"""

import torch
from torch import Tensor

from dragoman.decoder.config import TextConfig
from dragoman.decoder.slices import Slice, plan


class KVCache:
    """Buffers [B, N_kv, capacity, H] for keys (already rotated) and values of each layer of `size`
    (None: all of the model) that owns them.

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
        size: Slice | None = None,
    ):
        self.plan, self.config = plan(config, size), config
        self.limit = config.max_position_embeddings
        if batch < 1 or not 1 <= capacity <= self.limit:
            raise ValueError(
                f"a cache needs batch >= 1 and capacity in [1, {self.limit}], the model's context; "
                f"got batch {batch}, capacity {capacity}"
            )
        shape = (batch, config.num_key_value_heads, capacity, config.head_dim)
        owners = self.plan.owners
        self._keys = {i: torch.zeros(shape, dtype=dtype, device=device) for i in owners}
        self._values = {i: torch.zeros(shape, dtype=dtype, device=device) for i in owners}
        self.batch, self.length = batch, 0

    @property
    def size(self) -> Slice:
        """The slice of the model whose keys and values these are."""
        return self.plan.size

    @property
    def capacity(self) -> int:
        return self._keys[self.plan.owners[0]].shape[2]

    @property
    def nbytes(self) -> int:
        """Bytes allocated for keys and values of all layers."""
        return sum(buffer.nbytes for buffer in (*self._keys.values(), *self._values.values()))

    def copy(self, capacity: int = 256) -> "KVCache":
        """Another cache with the same filled positions, and room for `capacity` if that is more."""
        like = self._keys[self.plan.owners[0]]
        room = min(self.limit, max(capacity, self.length))
        copied = KVCache(self.config, self.batch, room, like.dtype, like.device, self.size)
        for i in self.plan.owners:
            copied._keys[i][:, :, : self.length] = self._keys[i][:, :, : self.length]
            copied._values[i][:, :, : self.length] = self._values[i][:, :, : self.length]
        copied.length = self.length
        return copied

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
            self._keys = {i: self._grown(b, capacity) for i, b in self._keys.items()}
            self._values = {i: self._grown(b, capacity) for i, b in self._values.items()}

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put [B, N_kv, L, H] behind the filled positions; all keys and values up to there.

        Does not change `length` (every owner writes the same positions): the pass ends with
        `advance`.
        """
        end = self.length + keys.shape[2]
        self._keys[layer][:, :, self.length : end] = keys
        self._values[layer][:, :, self.length : end] = values
        return self._keys[layer][:, :, :end], self._values[layer][:, :, :end]

    def buffers(self, layer: int) -> tuple[Tensor, Tensor]:
        """All of a layer's keys and values [B, N_kv, capacity, H], until room is made anew."""
        return self._keys[layer], self._values[layer]

    def advance(self, count: int) -> None:
        """Count `count` written positions as filled."""
        self.length += count

    def _grown(self, buffer: Tensor, capacity: int) -> Tensor:
        B, N, _, H = buffer.shape
        grown = buffer.new_zeros(B, N, capacity, H)
        grown[:, :, : self.length] = buffer[:, :, : self.length]
        return grown
