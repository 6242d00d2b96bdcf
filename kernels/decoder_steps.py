"""A decode step, or any pass over a cache for few positions, recorded once, replayed in one call.

It computes what `LanguageModel._run` and `decoder.layers` define, for one sequence of at most
`MOST` new positions with activations in bf16: the products of `kernels.products` and, between them,
the kernels of `kernels.layer_loops` and `kernels.head_loops`. A recording belongs to a plan, a
number of positions and of wanted ones; a model keeps those that it used last, and they share their
memory.
"""

import weakref
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dragoman.decoder.cache import KVCache
from dragoman.decoder.config import TextConfig, kv_sources
from dragoman.decoder.layers import Attention, DecoderLayer
from dragoman.decoder.slices import Plan
from dragoman.decoder.storage import LEAST, least, shape, stored
from dragoman.kernels import head_loops
from dragoman.kernels import layer_loops as loops
from dragoman.kernels.products import multiplies
from dragoman.kernels.recording import Arguments, Products, Recording, Recordings, Scratch

MOST = 32  # positions
KEPT = 48  # recordings of a model
AT_ONCE = 8  # parts of products that no thread waits between: two of k, v, q and LAuReL's first
# A matrix of each number of inputs, which decides its form.
MATRICES = ("self_attn.q_proj", "self_attn.o_proj", "mlp.down_proj", "per_layer_projection")
EVERYTHING = 2**40  # a window that leaves nothing out
Rotary = Mapping[bool, tuple[Tensor, Tensor]]  # cos and sin, by whether a layer slides


def serves_pass(layers: nn.ModuleList, config: TextConfig, cache: KVCache, rows: int) -> bool:
    """Whether a pass of `rows` positions can be one call."""
    matrices = [stored(layers[0].get_submodule(name)) for name in MATRICES]
    like = cache.buffers(cache.plan.owners[0])[0]
    heads = config.num_attention_heads * config.head_dim
    inputs = (
        config.hidden_size, config.hidden_size_per_layer_input, config.laurel_rank, heads,
        *config.ffn_widths,
    )  # fmt: skip
    return (
        cache.batch == 1
        and rows <= MOST
        and like.is_cpu
        and like.dtype == torch.bfloat16
        and config.head_dim % LEAST == 0
        and not any(n % LEAST for n in inputs)
        and all(multiplies(form, weight) for form, weight, _ in matrices)
    )


class Steps:
    """The recordings of a model; a copy of the model begins without any."""

    def __init__(self, config: TextConfig) -> None:
        self._config = config
        self.recordings = Recordings[Memory, RecordedPass](KEPT, partial(Memory, config))
        self._cache: weakref.ref[KVCache] | None = None  # of the last pass

    def __reduce__(self) -> tuple[Any, ...]:
        return Steps, (self._config,)

    def run(
        self, layers: nn.ModuleList, cache: KVCache, streams: Tensor, told: Mapping[int, Tensor],
        rotary: Rotary, wanted: int,
    ) -> Tensor:  # fmt: skip
        """The layers of the cache's plan at positions that follow what it holds: streams
        [1, L, A, D] to those of the last `wanted` positions.

        told: [1, L, P] for each layer, from the last owner's on [1, wanted, P]; rotary: each
        [1, L, 1, H / 2].
        """
        key = (cache.plan, streams.shape[1], wanted)
        with self.recordings.lock:
            # Once for a cache is enough: what it holds was made with the weights of then.
            if self._cache is None or self._cache() is not cache:
                self.recordings.look(layers)
                self._cache = weakref.ref(cache)
            recorded = self.recordings.get(
                key, lambda memory: RecordedPass(layers, cache.config, memory, *key)
            )
            return recorded.run(cache, streams, told, rotary)


class Memory:
    """What the programs of a recording read from one another, for any recording of a model."""

    def __init__(self, config: TextConfig, threads: int):

        self.threads = threads
        D, P, H = config.hidden_size, config.hidden_size_per_layer_input, config.head_dim
        heads, together = config.num_attention_heads * H, config.num_key_value_heads * H
        widest = max(config.ffn_widths)
        widths = {
            "streams": config.altup_num_inputs * D,
            **dict.fromkeys(("normed", "attended", "raised", "mixed", "normed_mixed", "fed"), D),
            **dict.fromkeys(("computed", "scaled", "projected"), D),
            **dict.fromkeys(("raw_queries", "queries", "heads"), heads),
            **dict.fromkeys(("raw_keys", "raw_values"), together),
            **dict.fromkeys(("gate", "up", "hidden"), widest),
            **dict.fromkeys(("layer_gate", "passed"), P),
            **dict.fromkeys(("cos", "sin", "sliding_cos", "sliding_sin"), H // 2),
            "left": config.laurel_rank,
        }
        self.rows = {
            name: torch.zeros(MOST, width, dtype=torch.bfloat16) for name, width in widths.items()
        }
        self.scratch = Scratch(MOST, max(D, heads, widest), threads, AT_ONCE)
        self.starts = torch.zeros(3, dtype=torch.int64)  # zero; of the new rows; of the wanted ones
        self.scores = torch.empty(0)

    def at(self, name: str, row: int = 0) -> int:
        """The address of a row."""
        return self.rows[name][row].data_ptr()

    def start(self, which: int) -> int:
        return self.starts[which].data_ptr()


class RecordedPass:
    """The layers of a plan for so many rows, of which the last `wanted` come out."""

    def __init__(
        self, layers: nn.ModuleList, config: TextConfig, memory: Memory, plan: Plan, rows: int,
        wanted: int,
    ):  # fmt: skip

        self._config, self._memory, self._rows, self._wanted = config, memory, rows, wanted
        self._recording = Recording(memory.threads)
        self._gates: dict[int, Arguments] = {}
        self._writes: list[tuple[int, Arguments, Arguments]] = []  # owner, for keys, for values
        self._reads: list[tuple[int, Arguments]] = []  # owner, attention
        self._attached: list[int] = []
        self._product = Products(self._recording, memory.scratch).add
        for i, width in plan.steps:
            layer = layers[i]
            assert isinstance(layer, DecoderLayer)
            self._record(layer, i, width, i == plan.owners[-1])
            if i == plan.owners[-1] and wanted == 0:
                break

    def run(
        self, cache: KVCache, streams: Tensor, told: Mapping[int, Tensor], rotary: Rotary
    ) -> Tensor:
        """As `Steps.run`."""
        memory, rows, first = self._memory, self._rows, self._rows - self._wanted
        memory.rows["streams"][:rows] = streams.flatten(2)[0]
        for sliding, tables in rotary.items():
            for name, table in zip(_rotary(sliding), tables, strict=True):
                memory.rows[name][:rows] = table[0, :, 0]
        memory.starts[1], memory.starts[2] = cache.length, cache.length + first
        for i, arguments in self._gates.items():
            arguments["told"], arguments["told_stride"] = told[i].data_ptr(), told[i].stride(1)
        self._attach(cache)
        self._recording.replay()
        return memory.rows["streams"][first:rows].clone().view(1, self._wanted, *streams.shape[2:])

    def _attach(self, cache: KVCache) -> None:
        """Lets the programs read and write this cache."""
        memory, capacity = self._memory, cache.capacity
        if len(memory.scores) < memory.threads * capacity:
            memory.scores = torch.empty(memory.threads * capacity)
        places = {i: [b.data_ptr() for b in cache.buffers(i)] for i in cache.plan.owners}
        attached = [memory.scores.data_ptr(), capacity, *sum(places.values(), [])]
        if attached == self._attached:
            return
        self._attached, stride = attached, capacity * self._config.head_dim
        for i, *both in self._writes:
            for arguments, place in zip(both, places[i], strict=True):
                arguments["y"], arguments["head_stride"] = place, stride
        for i, arguments in self._reads:
            arguments["keys"], arguments["values"] = places[i]
            arguments["scores"], arguments["room"] = memory.scores.data_ptr(), capacity
            arguments["head_stride"] = stride

    def _record(self, layer: DecoderLayer, i: int, width: int | None, narrows: bool) -> None:
        """One layer; the last owner `narrows` the rows to the wanted ones, behind keys and
        values."""

        config, at, D = self._config, self._memory.at, self._config.hidden_size
        streams, active, eps = (
            config.altup_num_inputs, config.altup_active_idx, config.rms_norm_eps,
        )  # fmt: skip
        above = not layer.owns_kv
        first = self._rows - self._wanted if above else 0
        rows = self._wanted if above else self._rows
        altup, attention = layer.altup, layer.self_attn
        router = {
            "router_norm": _at(altup.router_norm.weight),
            "router": _at(altup.modality_router.weight),
        }
        self._recording.add(
            loops.predicting(streams, active, eps), streams=at("streams", first),
            normed=at("normed", first), **router, coefficients=_at(altup.prediction_coefs.weight),
            norm=_at(layer.input_layernorm.weight), rows=rows, width=D,
        )  # fmt: skip
        if layer.owns_kv:
            self._product(attention.k_proj, at("normed"), at("raw_keys"), rows, wait=False)
            none = narrows and self._wanted == 0
            self._product(attention.v_proj, at("normed"), at("raw_values"), rows, wait=none)
        if narrows:
            first, rows = self._rows - self._wanted, self._wanted
        if rows == 0:
            self._keys_values(attention, i, layer.sliding)
            return
        normed = at("normed", first)
        self._product(attention.q_proj, normed, at("raw_queries"), rows, wait=False)
        self._product(layer.laurel.linear_left, normed, at("left"), rows)
        if layer.owns_kv:
            self._keys_values(attention, i, layer.sliding)
        self._turn(
            "queries", at("raw_queries"), _at(attention.q_norm.weight), layer.sliding, first,
            y=at("queries"), rows=rows, heads=config.num_attention_heads,
            head_stride=config.head_dim, row_stride=config.num_attention_heads * config.head_dim,
            start=self._memory.start(0),
        )  # fmt: skip
        self._product(layer.laurel.linear_right, at("left"), at("raised"), rows)
        self._attention(i, layer.sliding, first, rows)
        self._product(attention.o_proj, at("heads"), at("attended"), rows)
        own = {"streams": at("streams", first), "rows": rows, "width": D}
        self._recording.add(
            loops.mixing(streams, active, eps), mixed=at("mixed"), normed_mixed=at("normed_mixed"),
            attended=at("attended"), attended_norm=_at(layer.post_attention_layernorm.weight),
            normed=normed, raised=at("raised"),
            raised_norm=_at(layer.laurel.post_laurel_norm.weight),
            norm=_at(layer.pre_feedforward_layernorm.weight), **own,
        )  # fmt: skip
        self._feed(layer, width, rows)
        self._recording.add(
            loops.correcting(streams, active, eps, altup.scale_output), computed=at("computed"),
            scaled=at("scaled"), mixed=at("mixed"), fed=at("fed"),
            fed_norm=_at(layer.post_feedforward_layernorm.weight), **router,
            coefficients=_at(altup.correction_coefs.weight),
            scale=_at(altup.correct_output_scale), **own,
        )  # fmt: skip
        self._product(layer.per_layer_input_gate, at("scaled"), at("layer_gate"), rows)
        self._gates[i] = self._recording.add(
            loops.gating(), y=at("passed"), gate=at("layer_gate"), told=0, told_stride=0,
            rows=rows, width=config.hidden_size_per_layer_input,
        )  # fmt: skip
        self._product(layer.per_layer_projection, at("passed"), at("projected"), rows)
        # The thread that adds to a row is the one that predicts from it.
        self._recording.add(
            loops.adding(streams, eps), False, x=at("projected"),
            norm=_at(layer.post_per_layer_input_norm.weight), **own,
        )  # fmt: skip

    def _keys_values(self, attention: Attention, i: int, sliding: bool) -> None:
        """Writes the new keys and values to the cache."""
        config, memory = self._config, self._memory
        own = {
            "y": 0, "rows": self._rows, "heads": config.num_key_value_heads, "head_stride": 0,
            "row_stride": config.head_dim, "start": memory.start(1),
        }  # fmt: skip
        weight = _at(attention.k_norm.weight)
        keys = self._turn("keys", memory.at("raw_keys"), weight, sliding, 0, **own)
        values = self._turn("values", memory.at("raw_values"), 0, sliding, 0, **own)
        self._writes.append((i, keys, values))

    def _turn(
        self, what: str, x: int, weight: int, sliding: bool, first: int, **given: int
    ) -> Arguments:

        cos, sin = (self._memory.at(name, first) for name in _rotary(sliding))
        plain = what == "values"
        return self._recording.add(
            head_loops.turning(not plain, not plain, self._config.rms_norm_eps), False, x=x,
            weight=weight, cos=cos, sin=sin, width=self._config.head_dim, **given,
        )  # fmt: skip

    def _attention(self, i: int, sliding: bool, first: int, rows: int) -> None:

        config, at = self._config, self._memory.at
        arguments = self._recording.add(
            head_loops.attending(config.head_dim), y=at("heads"), queries=at("queries"), keys=0,
            values=0, scores=0, rows=rows, heads=config.num_attention_heads,
            group=config.num_attention_heads // config.num_key_value_heads, head_stride=0,
            start=self._memory.start(2 if first else 1),
            window=config.sliding_window if sliding else EVERYTHING, room=0,
        )  # fmt: skip
        self._reads.append((kv_sources(config)[i], arguments))

    def _feed(self, layer: DecoderLayer, width: int | None, rows: int) -> None:
        """The feed-forward; a width is filled up, with hidden units of zero, to what products
        take."""

        mlp, at = layer.mlp, self._memory.at
        width = shape(*stored(mlp.up_proj)[:2])[0] if width is None else width
        stride = width + -width % least(stored(mlp.down_proj)[0])
        self._product(mlp.gate_proj, at("normed_mixed"), at("gate"), rows, stride, wait=False)
        self._product(mlp.up_proj, at("normed_mixed"), at("up"), rows, stride)
        self._recording.add(
            loops.activating(mlp.deviations), y=at("hidden"), gate=at("gate"), up=at("up"),
            rows=rows, width=width, stride=stride,
        )  # fmt: skip
        self._product(mlp.down_proj, at("hidden"), at("fed"), rows, inputs=stride)


def _rotary(sliding: bool) -> tuple[str, str]:
    """The tables of a type of layer."""
    return ("sliding_cos", "sliding_sin") if sliding else ("cos", "sin")


def _at(tensor: Tensor | None) -> int:
    assert tensor is not None
    return tensor.data_ptr()
