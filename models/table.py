"""The table of per-layer embeddings left in its file: only the rows that a pass asks for are read.

:class:`models.checkpoint.Checkpoint` puts it in the place of the decoder's own table. What is
unusual: rows are read with calls, not through the memory map, though the weight is mapped as well
for whoever wants all of it. A map brings in the neighbours of what is touched (1.1 MB for a row of
15 KB was measured where the file lies in the page cache), and counts them as memory of the process
until the whole table is resident.
"""

import os
import weakref

import torch
from torch import Tensor

from dragoman.decoder.layers import LayerTable
from dragoman.models.reading import Stored


class StoredTable(LayerTable):
    """A decoder's per-layer table whose rows come from the file, on the host."""

    def __init__(self, weight: Tensor, stored: Stored) -> None:
        """weight: [V, W], which is ``stored`` mapped; nothing touches it here."""
        V, W = weight.shape
        super().__init__(V, W, _weight=weight, _freeze=True)
        self._start, self._row_bytes = stored.start, W * weight.element_size()
        self._descriptor = os.open(stored.file, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)
        if hasattr(os, "posix_fadvise"):  # no reading ahead: the next row is somewhere else
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_RANDOM)

    def rows(self, ids: Tensor, columns: slice) -> Tensor:
        """ids [...], on any device -> [..., C] on the host; raises OSError for a file cut short."""
        first, stop, _ = columns.indices(self.embedding_dim)
        out = torch.empty(ids.numel(), stop - first, dtype=self.weight.dtype)
        self._read(ids, first, out)
        return out.unflatten(0, ids.shape)

    def gather(self, ids: Tensor, out: Tensor) -> None:
        """Whole rows; raises OSError for a file cut short."""
        self._read(ids, 0, out)

    def _read(self, ids: Tensor, first: int, out: Tensor) -> None:
        begin = self._start + first * out.element_size()
        for row, token in zip(out.view(torch.uint8).numpy(), ids.flatten().tolist(), strict=True):
            if os.preadv(self._descriptor, [row], begin + token * self._row_bytes) != row.nbytes:
                raise OSError(f"the per-layer table ends before the row of token {token}")
