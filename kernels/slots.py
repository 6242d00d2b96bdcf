"""Memory for the caches of many sequences, which stays where it is: one slot for each.

A recording (:mod:`kernels.graphs`) works on fixed memory, and it is told by numbers which slots it
works on. So sessions come and go without a new recording. Unusual: a cache that finds no slot free,
or grows out of its slot, has memory of its own as any other cache; it is then merely slower.
"""

import weakref
from typing import Any

import torch
from torch import Tensor

from dragoman.decoder import KVCache, Slice, TextConfig
from dragoman.decoder.slices import plan

CAPACITY = 1024  # positions of a slot: three pictures and half a minute of speech, or more
MOST, SHARE = 80, 8  # slots at most, and the part of the free memory that they may take
SHORTEST = 256  # caches made for fewer positions (an instruction) are copied, not continued


class Slots:
    """Keys and values [slots, N_kv, capacity, H] of each layer that owns them.

    Slot 0 belongs to no sequence: rows that fill up a recorded pass write there.
    """

    def __init__(self, config: TextConfig, dtype: torch.dtype, device: torch.device) -> None:
        self.config, self.dtype, self.device = config, dtype, device
        self.capacity = min(CAPACITY, config.max_position_embeddings)
        owners = plan(config, None).owners
        wide = config.num_key_value_heads, self.capacity, config.head_dim
        slot_bytes = 2 * len(owners) * wide[0] * wide[1] * wide[2] * dtype.itemsize
        count = 1 + max(1, min(MOST, _free_bytes(device) // SHARE // slot_bytes))
        self._buffers = {
            i: (
                torch.zeros(count, *wide, dtype=dtype, device=device),
                torch.zeros(count, *wide, dtype=dtype, device=device),
            )
            for i in owners
        }
        self._logits = torch.empty(0, device=device)
        self._free = [*range(count - 1, 0, -1)]

    def buffers(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of all slots."""
        return self._buffers[layer]

    def logits(self, rows: int, width: int) -> Tensor:
        """Room [rows, width] for the logits of a recorded pass, the same for all of them: who holds
        :data:`kernels.graphs.turn` reads it. What was given before stays valid when it grows.
        """
        if len(self._logits) < rows:
            self._logits = torch.empty(rows, width, device=self.device)
        return self._logits[:rows]

    def take(self) -> int | None:
        """A free slot, if there is one, cleared: the places that are not in use are masked, yet
        multiplied, and nought times what is no number is none.
        """
        if not self._free:
            return None
        slot = self._free.pop()
        for keys, values in self._buffers.values():
            keys[slot].zero_()
            values[slot].zero_()
        return slot

    def put_back(self, slot: int) -> None:
        """The slot is free again."""
        self._free.append(slot)


class SlotCache(KVCache):
    """A cache of one row whose memory is ``slot`` of ``slots``; None: its own."""

    def __init__(self, slots: Slots, capacity: int, size: Slice | None = None) -> None:
        fits = SHORTEST <= capacity <= slots.capacity
        self.slots, self.slot = slots, slots.take() if fits else None
        room = capacity if self.slot is None else 1
        super().__init__(slots.config, 1, room, slots.dtype, slots.device, size)
        if self.slot is not None:
            self._release = weakref.finalize(self, slots.put_back, self.slot)
            here, pairs = slice(self.slot, self.slot + 1), map(slots.buffers, self.plan.owners)
            for layer, (keys, values) in zip(self.plan.owners, pairs, strict=True):
                self._keys[layer], self._values[layer] = keys[here], values[here]

    def reserve(self, count: int) -> None:
        before = self.capacity
        super().reserve(count)
        if self.slot is not None and self.capacity != before:
            self.slot = None
            self._release()

    def copy(self, capacity: int = 256) -> "SlotCache":
        room = min(self.limit, max(capacity, self.length))
        copied = SlotCache(self.slots, room, self.size)
        for layer in self.plan.owners:
            pairs = zip(copied.buffers(layer), self.buffers(layer), strict=True)
            for to, of in pairs:
                to[:, :, : self.length] = of[:, :, : self.length]
        copied.length = self.length
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> "SlotCache":
        return self.copy(self.capacity)


def _free_bytes(device: torch.device) -> int:
    """Of the GPU's memory; on the CPU room for a few."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 2**26
