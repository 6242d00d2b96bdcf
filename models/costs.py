"""What a size costs: parameters, memory and arithmetic, from its configuration alone.

Nothing is loaded or measured; the counts are sums over the shapes of the tensors.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from dragoman.decoder import TextConfig
from dragoman.decoder.bf12 import REST_BYTES
from dragoman.decoder.storage import BITS, GROUP_INPUTS, blocks, least
from dragoman.models import reading
from dragoman.models.quantized import HEADS
from dragoman.models.reading import TOKEN_TABLE, Stored

Shapes = list[tuple[int, int]]  # outputs and inputs
CACHE_BYTES = 2  # of one number of a key or value, in bf16
SMALL_BYTES = SCALE_BYTES = 2  # of weights that are not quantized beside those that are; of scales


@dataclass(frozen=True)
class Cost:
    """A language model in numbers; the towers for sound and pictures are not in it.

    parameters: as official files hold them, with keys and values for layers that share another's;
    effective: those without the two tables of embeddings, which is how the MatFormer Lab counts;
    resident: what is loaded: without the unused ones and the per-layer table, which stays on disk;
    memory_bytes: of those, by the form in which they are loaded;
    table: the per-layer table; table_row: what one token reads of it;
    prefill, prefill_all: floating-point operations for each token of a prompt, with the layers
        above the last owner of keys and values left out, and without that; decode: for each token
        of the answer. Attention's products over the context are not in them;
    cache_bytes: of keys and values, for each position, in bf16.
    """

    parameters: int
    effective: int
    resident: int
    memory_bytes: dict[str, int]
    table: int
    table_row: int
    prefill: int
    prefill_all: int
    decode: int
    cache_bytes: int


def cost(config: TextConfig) -> Cost:
    """The cost of the whole model of `config`; for a slice, of `Slice.config`."""
    D, P = config.hidden_size, config.hidden_size_per_layer_input
    layers, owners = config.num_hidden_layers, config.last_kv_owner + 1
    each = [_count(_matrices(config, width)) + _small(config) for width in config.ffn_widths]
    keys_values = _count(_key_and_value(config)) + config.head_dim
    head, table = config.vocab_size * D, config.vocab_size_per_layer_input * layers * P
    projection, streams = D * P, _count(_streams(config))  # for one layer; before or after all
    inner = sum(each) + owners * keys_values + layers * projection + 2 * streams + P + D
    below = sum(each[: owners - 1]) + owners * keys_values + (owners - 1) * projection + streams
    effective = inner + (layers - owners) * keys_values
    return Cost(
        parameters=effective + head + table,
        effective=effective,
        resident=inner + head,
        memory_bytes=_memory_bytes(config, inner + head),
        table=table,
        table_row=layers * P,
        prefill=2 * below,
        prefill_all=2 * inner,
        decode=2 * (inner + head),
        cache_bytes=owners * 2 * config.num_key_value_heads * config.head_dim * CACHE_BYTES,
    )


def _memory_bytes(config: TextConfig, resident: int) -> dict[str, int]:
    """Bytes of `resident` parameters by the form in which they are loaded."""
    head = [(config.vocab_size, config.hidden_size)]
    matrices = [
        *(shape for width in config.ffn_widths for shape in _matrices(config, width)),
        *_key_and_value(config) * (config.last_kv_owner + 1),
        *_streams(config) * 2,
        (config.num_hidden_layers * config.hidden_size_per_layer_input, config.hidden_size),
    ]
    others = SMALL_BYTES * (resident - _count(matrices) - _count(head))
    found = {"float32": 4 * resident, "bf16": 2 * resident}
    for form, head_form in HEADS.items():
        found[form] = others + _packed_bytes(matrices, form) + _packed_bytes(head, head_form)
    return found


def _packed_bytes(matrices: Shapes, form: str) -> int:
    """Bytes of matrices with their scales; those of odd widths stay as they are."""
    return sum(
        outputs * _row_bytes(form, inputs)
        if not (outputs % blocks(form) or inputs % least(form))
        else outputs * inputs * SMALL_BYTES
        for outputs, inputs in matrices
    )


def _row_bytes(form: str, inputs: int) -> int:
    """Of one output; of bf12 where few weights are left out, as nearly always."""
    if form == "bf12":
        return inputs * 3 // 2 + REST_BYTES
    return inputs * BITS[form] // 8 + -(-inputs // GROUP_INPUTS[form]) * SCALE_BYTES


def _matrices(config: TextConfig, width: int) -> Shapes:
    """The large matrices of a layer with FFN width `width`, without those for keys and values."""
    D, P = config.hidden_size, config.hidden_size_per_layer_input
    queries = config.num_attention_heads * config.head_dim
    attention = [(queries, D), (D, queries)]
    return [*attention, (width, D), (width, D), (D, width), (P, D), (D, P)]


def _key_and_value(config: TextConfig) -> Shapes:
    return [(config.num_key_value_heads * config.head_dim, config.hidden_size)] * 2


def _streams(config: TextConfig) -> Shapes:
    """The matrices that make AltUp's streams before the layers, or merge them after."""
    return [(config.hidden_size, config.hidden_size)] * (config.altup_num_inputs - 1)


def _small(config: TextConfig) -> int:
    """Parameters of a layer's norms, AltUp and LAuReL, without the norm of keys."""
    D, A = config.hidden_size, config.altup_num_inputs
    altup = 2 * D + A * D + A * A + A * A * A
    laurel = 2 * D * config.laurel_rank + D
    return config.head_dim + altup + laurel + 5 * D


def _count(matrices: Shapes) -> int:
    return sum(outputs * inputs for outputs, inputs in matrices)


@dataclass(frozen=True)
class Group:
    """Tensors of a folder that belong together: how many, their parameters, bytes and types."""

    name: str
    tensors: int
    parameters: int
    bytes: int
    dtypes: tuple[str, ...]


def on_disk(tensors: Mapping[str, Stored]) -> list[Group]:
    """What a model folder holds, by group; the per-layer table is one of its own."""
    table = reading.GROUPS["language_model"] + TOKEN_TABLE
    members: dict[str, list[Stored]] = {}
    for name, stored in tensors.items():
        group = next(group for group, prefix in reading.GROUPS.items() if name.startswith(prefix))
        members.setdefault("per_layer_table" if name == table else group, []).append(stored)
    return [_group(name, members[name]) for name in sorted(members)]


def _group(name: str, members: list[Stored]) -> Group:
    return Group(
        name,
        len(members),
        sum(math.prod(stored.shape) for stored in members),
        sum(stored.bytes for stored in members),
        tuple(sorted({stored.dtype for stored in members})),
    )
