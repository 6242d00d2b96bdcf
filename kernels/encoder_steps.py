"""A live step through the Conformer blocks, recorded once and replayed in one call.

It computes what `encoders.conformer` defines, for few frames in bf16. The kernels and their order
are those of `kernels.quick_encoder`, so the bits are, too; but nothing runs between them, and
threads meet only where one kernel reads what another thread has written. A recording belongs to a
number of streams and of frames; an encoder keeps those that it used last, and they share their
memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dragoman.decoder.storage import GROUP_INPUTS, stored
from dragoman.encoders.attention import AttentionState
from dragoman.encoders.audio import AudioEncoder
from dragoman.encoders.config import AudioConfig
from dragoman.encoders.conformer import BlockState, ConformerBlock, FeedForward
from dragoman.encoders.linear import Linear
from dragoman.encoders.norms import RMSNorm
from dragoman.kernels import frames
from dragoman.kernels.products import multiplies
from dragoman.kernels.quick_encoder import QuickLightConv, QuickLocalAttention
from dragoman.kernels.recording import (
    Arguments,
    Products,
    Recording,
    Recordings,
    Scratch,
    Weights,
)
from dragoman.kernels.serving import Keeping, serves

MOST = 32  # frames of all streams together
KEPT = 8  # recordings of an encoder
AT_ONCE = 6  # parts of products that no thread waits between: two of q, k and v


class QuickAudioEncoder(AudioEncoder, Keeping):
    """A step of few frames is one recording."""

    def begin(self) -> None:
        self.recorded = Steps(self.config)

    def through(
        self, frames: Tensor, states: tuple[BlockState, ...]
    ) -> tuple[Tensor, tuple[BlockState, ...]]:
        frames = frames.contiguous()
        found = self.recorded.run(self.conformer, frames, states)
        return super().through(frames, states) if found is None else found


class Steps:
    """The recordings of an encoder; a copy of the encoder begins without any."""

    def __init__(self, config: AudioConfig) -> None:
        self._config, self._fit = config, False
        self.recordings = Recordings[Memory, RecordedStep](KEPT, partial(Memory, config))

    def __reduce__(self) -> tuple[Any, ...]:
        return Steps, (self._config,)

    def run(
        self, blocks: nn.ModuleList, x: Tensor, states: Sequence[BlockState]
    ) -> tuple[Tensor, tuple[BlockState, ...]] | None:
        """x: float [B, T, D], the next frames, through all blocks; None where the blocks are to be
        stepped one by one."""
        few = x.dtype == torch.bfloat16 and 0 < x.shape[0] * x.shape[1] <= MOST
        first = states[0]  # all are alike
        buffers = first.attention.keys, first.attention.values, first.conv
        if not few or torch.is_grad_enabled() or not serves(x, *buffers):
            return None
        key = (x.shape[0], x.shape[1])
        with self.recordings.lock:
            weights = self.recordings.look(blocks)
            if weights is not None:
                self._fit = _fit(blocks, weights)
            if not self._fit:
                return None
            recorded = self.recordings.get(
                key, lambda memory: RecordedStep(blocks, self._config, memory, *key)
            )
            return recorded.run(x, states)


def _fit(blocks: nn.ModuleList, weights: Weights) -> bool:
    """Whether kernels take all these weights."""
    matrices = [stored(part) for part in blocks.modules() if _multiplies(part)]
    scales = [s for form, _, s in matrices if s is not None and form in GROUP_INPUTS]
    return (
        all(tensor.is_cpu and tensor.is_contiguous() for tensor in weights.tensors)
        and all(part.dtype == torch.bfloat16 for part in (*blocks.parameters(), *scales))
        and all(multiplies(form, weight) for form, weight, _ in matrices)
    )


class Memory:
    """What the programs of a recording read from one another, for any recording of an encoder."""

    def __init__(self, config: AudioConfig, threads: int) -> None:

        self.threads = threads
        D, past = config.hidden_size, config.conf_conv_kernel_size - 1
        widths = {
            **dict.fromkeys(("stream", "normed", "queries", "keys", "values", "mixed", "out"), D),
            "heard": (1 + past) * D,
            "wide": 4 * D,
        }
        with torch.inference_mode(False):  # so that any other mode may write it, too
            self._rows = {
                name: torch.zeros(MOST, width, dtype=torch.bfloat16)
                for name, width in widths.items()
            }
            self.products = Scratch(MOST, 4 * D, threads, AT_ONCE)
            self.sums = torch.empty(threads, D)
            self.heads = torch.empty(threads, 2 * config.head_dim + config.history + 1)
        self.stream = self._rows["stream"]

    def at(self, name: str) -> int:
        """The address of the first row."""
        return self._rows[name].data_ptr()


class RecordedStep:
    """All blocks for so many streams and frames of each."""

    def __init__(
        self, blocks: nn.ModuleList, config: AudioConfig, memory: Memory, streams: int, frames: int
    ) -> None:
        self._config, self._memory = config, memory
        self._streams, self._frames = streams, frames
        self._rows = {"rows": streams * frames, "width": config.hidden_size}
        self._recording = Recording(memory.threads)
        self._products = Products(self._recording, memory.products)
        self._recorded = [(block, *self._record(block)) for block in _conformer(blocks)]

    def run(self, x: Tensor, states: Sequence[BlockState]) -> tuple[Tensor, tuple[BlockState, ...]]:
        """As `Steps.run`."""
        stream, after, kept = self._memory.stream[: self._rows["rows"]], [], []
        stream.copy_(x.flatten(0, 1))
        for (block, attending, convolving), state in zip(self._recorded, states, strict=True):
            old, attention, conv = state.attention, block.attention.attn, block.lconv1d
            assert isinstance(attention, QuickLocalAttention) and isinstance(conv, QuickLightConv)
            made = attention.relative_position_embedding(), attention.float_scales(), conv.taps()
            attending["table"], attending["scale"], convolving["kernel"] = map(_at, made)
            attending["old_keys"], attending["old_values"] = _at(old.keys), _at(old.values)
            attending["seen"], convolving["tail"] = _at(old.seen), _at(state.conv)
            kept.append((made, old.seen))
            new = AttentionState(old.keys, old.values, old.seen + self._frames)
            after.append(BlockState(new, state.conv))
        self._recording.replay()
        return stream.clone().view_as(x), tuple(after)

    def _record(self, block: ConformerBlock) -> tuple[Arguments, Arguments]:
        """One block; what of it depends on the state: its attention and its convolution.

        Rows of the stream belong to the same thread in all programs that read or write it.
        """
        attention, conv = block.attention, block.lconv1d
        self._feed(block.ffw_layer_start)
        self._norm(attention.pre_attn_norm)
        self._product(attention.attn.q_proj, "normed", "queries", wait=False)
        self._product(attention.attn.k_proj, "normed", "keys", wait=False)
        self._product(attention.attn.v_proj, "normed", "values")
        attending = self._attention()
        self._product(attention.post, "mixed", "out")
        self._add_norm(attention.post_norm, 1.0)
        self._norm(conv.pre_layer_norm)
        self._product(conv.linear_start, "normed", "wide")
        convolving = self._convolution(conv.conv_norm)
        self._product(conv.linear_end, "mixed", "out")
        self._add()
        self._feed(block.ffw_layer_end)
        self._norm(block.norm, "stream", wait=False)
        return attending, convolving

    def _feed(self, layer: FeedForward) -> None:

        at = self._memory.at
        self._norm(layer.pre_layer_norm)
        self._product(layer.ffw_layer_1, "normed", "wide")
        count = 4 * self._rows["rows"] * self._rows["width"]
        self._recording.add(frames.silu_in_place(True), True, x=at("wide"), count=count)
        self._product(layer.ffw_layer_2, "wide", "out")
        self._add_norm(layer.post_layer_norm, layer.weight)

    def _norm(self, norm: RMSNorm, y: str = "normed", wait: bool = True) -> None:
        """y = norm of the stream."""

        at, program = self._memory.at, frames.norm(True, norm.limit, norm.eps, None)
        self._recording.add(
            program, wait, y=at(y), x=at("stream"), onto=0, weight=_at(norm.weight), **self._rows
        )

    def _add_norm(self, norm: RMSNorm, factor: float) -> None:
        """stream = stream + factor * norm of what a branch gave."""

        at, program = self._memory.at, frames.norm(True, norm.limit, norm.eps, factor)
        stream, weight = at("stream"), _at(norm.weight)
        self._recording.add(
            program, False, y=stream, x=at("out"), onto=stream, weight=weight, **self._rows
        )

    def _add(self) -> None:
        """stream = stream + what a branch gave."""

        at = self._memory.at
        self._recording.add(frames.adding(True), False, y=at("stream"), x=at("out"), **self._rows)

    def _attention(self) -> Arguments:

        config, memory = self._config, self._memory
        new = {name: memory.at(name) for name in ("queries", "keys", "values")}
        return self._recording.add(
            frames.attention(True, config.conf_attention_logit_cap), True, y=memory.at("mixed"),
            **new, old_keys=0, old_values=0, seen=0, table=0, scale=0, scratch=_at(memory.heads),
            streams=self._streams, frames=self._frames, heads=config.conf_num_attention_heads,
            width=config.head_dim, history=config.history,
        )  # fmt: skip

    def _convolution(self, norm: RMSNorm) -> Arguments:

        config, memory = self._config, self._memory
        program = frames.convolution(True, config.conf_conv_kernel_size, norm.limit, norm.eps)
        return self._recording.add(
            program, True, y=memory.at("mixed"), x=memory.at("wide"), tail=0, kernel=0,
            weight=_at(norm.weight), heard=memory.at("heard"), sums=_at(memory.sums),
            streams=self._streams, frames=self._frames, width=config.hidden_size,
        )  # fmt: skip

    def _product(self, module: nn.Module, x: str, y: str, wait: bool = True) -> None:
        """y = x @ weight^T of a `Linear` or what stands in its place."""
        at = self._memory.at
        self._products.add(module, at(x), at(y), self._rows["rows"], wait=wait)


def _conformer(blocks: nn.ModuleList) -> list[ConformerBlock]:
    return [block for block in blocks if isinstance(block, ConformerBlock)]


def _multiplies(module: nn.Module) -> bool:
    """Whether it is a matrix that rows are multiplied by."""
    return isinstance(module, Linear) or hasattr(module, "form")


def _at(tensor: Tensor | None) -> int:
    assert tensor is not None
    return tensor.data_ptr()
