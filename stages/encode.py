"""Speech to soft tokens: the streaming encoder, one soft token in the decoder's space every 160 ms.

State starts afresh with each segment. When a segment closes, 160 ms of silence go in before the
flush: up to three encoder frames after the last kept one reach no token, and without it the last
sound would be unheard.

Unusual: the encoder is not fed the pieces as they come. A segment begins anywhere between two
chunks, and states can be batched only where they stand at the same place within a token. So what
goes in always ends exactly where a token comes out, and the rest, of which no token could be made
yet, waits here: no token is later for it, and the open segments of all sessions stand alike.

Sound also waits for the update that will ask for it, which is decided here: a pass for several
tokens costs little more than a pass for one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from dragoman.encoders import (
    LogMel,
    MultimodalEmbedder,
    StreamingAudioEncoder,
    StreamingAudioState,
    split_state,
    stack_states,
)
from dragoman.models.checkpoint import Checkpoint
from dragoman.stages.messages import CHUNK_SAMPLES, SessionOptions, SoftTokens, Speech
from dragoman.stages.policies.updates import Updates

MOST_HELD = 8  # tokens whose sound waits, where no update comes for long


@dataclass
class EncodeState:
    """The open segment, if there is one: the encoder's state, where the segment started, how many
    samples the encoder was fed, and the ``rest``, float32 [S], heard but not fed yet.

    ``updates``: when there are any; ``given``: tokens made since the last one.
    """

    updates: Updates
    encoder: StreamingAudioState | None = None
    start: int = 0
    given: int = 0
    fed: int = 0
    rest: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))


@dataclass
class _Feed:
    """What the encoder gets for one message, if anything, and what came of it: ``tokens`` float32
    [K, D].
    """

    item: Speech
    state: EncodeState
    encoder: StreamingAudioState
    samples: np.ndarray
    tokens: Tensor
    update: bool
    error: Exception | None = None

    @property
    def result(self) -> tuple[list[SoftTokens], EncodeState] | Exception:
        if self.error is not None:
            return self.error
        out = SoftTokens(
            segment=self.item.segment,
            start=self.state.start,
            end=self.item.end,
            tokens=self.tokens,
            opens=self.item.opens,
            closes=self.item.closes,
            update=self.update,
            late=self.item.late,
            pictures=tuple(picture.without_pixels() for picture in self.item.pictures),
        )
        return [out], self.state


class EncodeStage:
    """BatchStage[Speech, SoftTokens, EncodeState]: one message out for each in, even without
    tokens.
    """

    def __init__(self, encoder: StreamingAudioEncoder, embedder: MultimodalEmbedder) -> None:
        self.encoder, self._embedder = encoder, embedder
        self._device = next(encoder.parameters()).device
        self._none = torch.zeros(0, embedder.width)

    @classmethod
    def load(cls, model: str, device: str = "cpu", dtype: str = "auto") -> "EncodeStage":
        """Loads the audio tower and its embedder, nothing else, as weights of ``dtype``; raises
        CheckpointError.
        """
        checkpoint = Checkpoint.open(model)
        weights = checkpoint.dtype(dtype)
        mel = LogMel(checkpoint.audio_config.input_feat_size).to(device)
        tower = checkpoint.audio_encoder(weights, device, checkpoint.audio_form(dtype))
        encoder = StreamingAudioEncoder(mel, tower)
        return cls(encoder, checkpoint.embedder("audio", weights, device))

    def init_state(self, options: SessionOptions) -> EncodeState:
        return EncodeState(Updates.of(options))

    def step(self, item: Speech, state: EncodeState) -> tuple[list[SoftTokens], EncodeState]:
        """Raises ValueError for a piece of a segment that was never opened, and for samples that
        are not float32 [S].
        """
        (result,) = self.step_batch([item], [state])
        if isinstance(result, Exception):
            raise result
        return result

    @torch.inference_mode()
    def step_batch(
        self, items: Sequence[Speech], states: Sequence[EncodeState]
    ) -> list[tuple[list[SoftTokens], EncodeState] | Exception]:
        """As `step`, for many streams: those that stand alike share a pass of the encoder."""
        feeds = [self._feed(item, state) for item, state in zip(items, states, strict=True)]
        alike: dict[tuple[bool, bool, int], list[_Feed]] = {}
        for feed in feeds:
            if isinstance(feed, _Feed) and len(feed.samples):
                kind = (feed.item.closes, feed.state.fed == 0, len(feed.samples))
                alike.setdefault(kind, []).append(feed)
        groups = [*alike.values()]
        while groups:
            group = groups.pop()
            try:
                self._hear(group)
            except Exception as error:
                if len(group) == 1:
                    group[0].error = error
                else:  # each alone, so that only the bad ones fail
                    groups += [[feed] for feed in group]
        return [feed.result if isinstance(feed, _Feed) else feed for feed in feeds]

    def flush(self, state: EncodeState) -> list[SoftTokens]:
        """Nothing is held back: the segmenter closes what is open."""
        return []

    def _feed(self, item: Speech, state: EncodeState) -> _Feed | ValueError:
        """Cuts what was heard so far behind the last sample that a token asks for."""
        if item.opens:
            state = EncodeState(state.updates, self.encoder.init_state(1), item.start)
        if state.encoder is None:
            return ValueError(f"segment {item.segment} is not open: feed its pieces from the first")
        if item.samples.ndim != 1 or item.samples.dtype != np.float32:
            return ValueError(
                f"expected samples float32 [S], got {item.samples.dtype} "
                f"{list(item.samples.shape)}: feed what the segmenter gives"
            )
        heard = np.concatenate([state.rest, item.samples])
        if item.closes:
            silence = np.zeros(CHUNK_SAMPLES, np.float32)
            heard = np.concatenate([heard, silence])
            return _Feed(item, state, state.encoder, heard, self._none, update=True)
        needed, stride = self.encoder.lookahead + 1, self.encoder.stride
        made, complete = (
            max(0, samples - needed + stride) // stride
            for samples in (state.fed, state.fed + len(heard))
        )  # tokens
        new = complete - made
        due = state.updates.due(state.given + new, item.late, item.closes)
        if not (due or new >= MOST_HELD):
            new = 0
        state.given = 0 if due else state.given + new
        count = needed + (made + new - 1) * stride - state.fed if new else 0
        state.rest = heard[count:].copy()
        return _Feed(item, state, state.encoder, heard[:count], self._none, due)

    def _hear(self, group: list[_Feed]) -> None:
        samples = torch.as_tensor(np.stack([feed.samples for feed in group]), device=self._device)
        many = len(group) > 1
        encoder = stack_states([feed.encoder for feed in group]) if many else group[0].encoder
        encoders: list[StreamingAudioState | None] = [None] * len(group)
        if group[0].item.closes:
            features = self.encoder.finish(samples, encoder)
        else:
            features, encoder = self.encoder.step(samples, encoder)
            encoders = [*split_state(encoder)] if many else [encoder]
        tokens = self._embedder.soft(features).float().cpu()
        for feed, row, after in zip(group, tokens, encoders, strict=True):
            feed.tokens = row.clone()  # pickled, a view would take its neighbours along
            feed.state.fed += len(feed.samples)
            feed.state.encoder = after
