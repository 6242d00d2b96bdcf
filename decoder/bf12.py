"""bf16 weights in 12 bits each, nothing lost.

The weights of a row hardly use the range that bf16 has for them: nearly all lie within fourteen
powers of two. So the upper byte of each, its sign and seven of its eight bits of exponent, becomes
a code of 4 bits: the sign, and the place of those seven bits in a list of the row's own. The lower
byte stays. The few weights that the list leaves out are zeros there, and lie beside the row.

Weights [outputs, inputs], inputs a multiple of 128 and at most `MOST_INPUTS`, become
    codes  uint8 [outputs, 1.5 inputs]: for every 128 inputs the lower bytes of the first 64, those
           of the others, and 64 bytes with codes, of the first 64 below and of the others above; of
           64 the order is `ORDER`
    rest   uint8 [outputs, 16 + 4 E]: the upper byte that each code stands for, then E times the
           input (uint16) and the value (bf16) of a weight that was left out; 65535 ends them
The first outputs, or the first inputs by 128, are views of both.
Unusual: the order is the one in which bytes leave the registers of x86.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

GROUP = 128  # inputs whose bytes lie together
HALF = GROUP // 2
GROUP_BYTES = GROUP * 3 // 2
BYTES = 256  # values of a byte
CODES = 16  # upper bytes that a row can name
LISTED = CODES // 2 - 1  # exponents; zero is always one more
ENTRY_BYTES = 4  # of a weight that was left out
END = 0xFFFF  # in place of an input
MOST_INPUTS = END // GROUP * GROUP
REST_BYTES = 64  # the rest of a row comes in multiples of this
# Byte p of 64 belongs to input ORDER[p]: of every 16 bytes, 8 go to a first register.
ORDER = [8 * (p // 16) + p % 8 + 32 * (p % 16 // 8) for p in range(HALF)]
PLACE = sorted(range(HALF), key=ORDER.__getitem__)


def packed(weight: Tensor) -> tuple[Tensor, Tensor]:
    """weight bf16 [outputs, inputs] -> codes and rest."""
    outputs, inputs = weight.shape
    if weight.is_meta:
        codes = weight.new_empty(outputs, inputs * 3 // 2, dtype=torch.uint8)
        return codes, weight.new_empty(outputs, REST_BYTES, dtype=torch.uint8)
    low, high = weight.contiguous().view(torch.uint8).view(outputs, inputs, 2).unbind(-1)
    rows = torch.arange(outputs, device=weight.device)[:, None]
    named = high.long() + BYTES * rows  # a row and an upper byte
    table = _table(torch.bincount(named.flatten(), minlength=BYTES * outputs))
    places = table.new_full((outputs, BYTES), CODES)
    codes = torch.arange(CODES, dtype=torch.uint8, device=weight.device)
    places.scatter_(1, table.long(), codes.expand_as(table))
    codes = places.take(named)
    left_out = codes == CODES
    kept = (~left_out).view(torch.uint8)
    low, codes = (_ordered(part * kept) for part in (low, codes))
    both = codes[:, :, 0] | codes[:, :, 1] << 4
    return torch.cat([low.flatten(2), both], dim=-1).flatten(1), _rest(weight, table, left_out)


def unpacked(codes: Tensor, rest: Tensor) -> Tensor:
    """codes and rest of some rows -> weight bf16 [outputs, inputs]."""
    outputs, inputs = codes.shape[0], codes.shape[1] * 2 // 3
    groups = torch.unflatten(codes, 1, (-1, GROUP_BYTES))
    low, both = groups[..., :GROUP], groups[..., GROUP:]
    places = torch.stack([both & 15, both >> 4], dim=-2)[..., PLACE].reshape(outputs, inputs)
    low = torch.unflatten(low, -1, (2, HALF))[..., PLACE].reshape(outputs, inputs)
    high = rest[:, :CODES].gather(1, places.long())
    weight = torch.stack([low, high], dim=-1).flatten(1).view(torch.bfloat16)
    entries = torch.unflatten(rest[:, CODES:].contiguous().view(torch.int16), 1, (-1, 2))
    columns = entries[..., 0].to(torch.int32) & END
    row, entry = (columns < inputs).nonzero(as_tuple=True)
    values = entries[..., 1].contiguous().view(torch.bfloat16)[row, entry]
    weight[row, columns[row, entry].long()] = values
    return weight


def widened(rest: Tensor, bytes_: int) -> Tensor:
    """The rest of rows, with room for as many bytes as others have."""
    return F.pad(rest, (0, bytes_ - rest.shape[1]), value=255)


def _table(counts: Tensor) -> Tensor:
    """The upper byte of each code, by how many weights of a row have which byte [outputs * BYTES]:
    zero and the exponents that there are most of, without the sign and with it."""
    counts = counts.view(-1, 2, BYTES // 2).sum(1)[:, 1:]
    listed = counts.topk(LISTED).indices.add(1).sort().values.to(torch.uint8)
    table = F.pad(listed, (1, 0))
    return torch.cat([table, table | BYTES // 2], dim=-1)


def _ordered(part: Tensor) -> Tensor:
    """Bytes [outputs, inputs] of all halves in their order: [outputs, groups, 2, HALF]."""
    eights = part.view(torch.int64).view(len(part), -1, 2, 2, HALF // 16)
    return eights.mT.contiguous().view(torch.uint8).view(len(part), -1, 2, HALF)


def _rest(weight: Tensor, table: Tensor, left_out: Tensor) -> Tensor:
    counts = left_out.sum(1)
    bytes_ = CODES + ENTRY_BYTES * (int(counts.max()) + 1)  # one that ends them
    bytes_ = -(-bytes_ // REST_BYTES) * REST_BYTES
    rest = table.new_full((len(weight), bytes_), 255)
    rest[:, :CODES] = table
    row, column = left_out.nonzero(as_tuple=True)
    starts = counts.cumsum(0) - counts
    entry = torch.arange(len(row), device=weight.device) - starts[row]
    entries = torch.unflatten(rest.view(torch.int16)[:, CODES // 2 :], 1, (-1, 2))
    entries[row, entry, 0] = column.to(torch.int16)
    entries[row, entry, 1] = weight.view(torch.int16)[row, column]
    return rest
