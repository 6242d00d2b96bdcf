"""The messages that pass between stages, and the event that every screen and file is made of.

All times inside are integer sample indices from the start of the stream, at 16 kHz; seconds appear
only in :meth:`Caption.to_event`, where people read them. Messages are frozen, so an actor may pass
one on without copying it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dragoman.models.words import words

if TYPE_CHECKING:  # a process that only passes messages on, or shows captions, needs no torch
    from torch import Tensor

SAMPLE_RATE_HZ = 16_000
CHUNK_MS = 160
CHUNK_SAMPLES = SAMPLE_RATE_HZ * CHUNK_MS // 1000  # 2 560: what one soft token stands for

Span = tuple[int, int]  # first sample, and that past the last
Timing = tuple[int, int, int]  # ms of the sound's clock: heard, shown, committed


@dataclass(frozen=True)
class SessionOptions:
    """What one session asks for.

    ``update_chunks`` is how many chunks lie between two updates of the hypothesis; with
    ``finals_only`` there are none before a segment closes. ``pre_roll_ms`` is how much audio before
    the decision that speech began belongs to a segment, ``endpoint_ms`` how much silence ends it
    (a segment of more than 4 s needs less, see :mod:`stages.segment`).
    With ``pad_audio`` the model is shown every segment's audio filled up to 30 s, as the reference
    processor shows it. ``size`` is the part of the model that runs (see :mod:`models.sizes`;
    `auto`: smaller while the session lags, empty: all of it), ``draft_size`` another one for
    partial captions. ``prompt_style`` words the instruction: `short`, `long`, or one's own
    text (the public API reads it from a file as well, see :func:`models.prompt.style_of`).
    ``commit_policy`` is one of :data:`stages.policies.commit.POLICIES`. Subtitles leave out a
    segment whose transcript has a lower mean confidence than ``min_confidence``; None: than the
    model's folder names (:mod:`models.confidence`).
    """

    language: str = "es"
    target_language: str = "en"
    update_chunks: int = 2
    finals_only: bool = False
    vad_aggressiveness: int = 2
    pre_roll_ms: int = 300
    endpoint_ms: int = 560
    max_segment_ms: int = 28_000
    max_answer_tokens: int = 256
    pad_audio: bool = False
    size: str = ""
    draft_size: str = ""
    prompt_style: str = "short"
    commit_policy: str = "local-agreement"
    min_confidence: float | None = None


@dataclass(frozen=True)
class VideoFrame:
    """A picture shown to the model: ``time`` in seconds from the start, ``index`` in the track."""

    time: float
    index: int


@dataclass(frozen=True)
class Picture:
    """A picture of the video track: ``pixels`` uint8 [H, W, 3], RGB, upright.

    Once it was looked at, ``tokens`` float32 [256, D] are its soft tokens in the decoder's space,
    ``end`` float32 [1, D] is the hard embedding of `<end_of_image>`, and the pixels are gone. They
    are gone, and there are no tokens, where a picture is only named.
    """

    frame: VideoFrame
    pixels: np.ndarray | None = None
    tokens: Tensor | None = None
    end: Tensor | None = None

    @property
    def start(self) -> int:
        """Sample index from which on the picture is current."""
        return round(self.frame.time * SAMPLE_RATE_HZ)

    def without_pixels(self) -> Picture:
        return replace(self, pixels=None)


@dataclass(frozen=True)
class Chunk:
    """160 ms of a stream, less at its end, more where its session lags: ``samples`` float32 [S] in
    [-1, 1], the first at index ``start``.

    ``pictures`` are those that became current since the chunk before, up to this one's end.

    ``late`` says that the session lags: the audio is heard, an update that is due now is skipped,
    so that only the newest hypothesis is computed.
    """

    start: int
    samples: np.ndarray
    late: bool = False
    pictures: tuple[Picture, ...] = ()

    @property
    def end(self) -> int:
        """Sample index just past the chunk."""
        return self.start + len(self.samples)


@dataclass(frozen=True)
class Speech:
    """A piece of one segment's audio: ``samples`` float32 [S], the first at index ``start``.

    The first piece of a segment has ``opens`` set, the last one ``closes`` (it may be empty).
    ``pictures``, of a piece that opens, are what the segment is about, oldest first.
    """

    segment: int
    start: int
    samples: np.ndarray
    opens: bool = False
    closes: bool = False
    late: bool = False
    pictures: tuple[Picture, ...] = ()

    @property
    def end(self) -> int:
        """Sample index just past the piece."""
        return self.start + len(self.samples)


@dataclass(frozen=True)
class SoftTokens:
    """What the encoder made of a piece: ``tokens`` float32 [K, D] in the decoder's space.

    ``end`` is the sample index up to which the segment has been heard. ``update`` says that its
    hypothesis is to be made anew now (:mod:`stages.policies.updates`), ``late`` that its session
    lags. ``pictures``, of the tokens that open it, stand in the prompt before its audio, or are
    only named.
    """

    segment: int
    end: int
    tokens: Tensor
    opens: bool = False
    closes: bool = False
    update: bool = True
    start: int = 0
    late: bool = False
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class Text:
    """Words for people: ``committed`` is never retracted inside a segment, ``tail`` may change.

    ``confidences`` are the probabilities that the words are right, as the model sees it: one for
    each word of ``whole`` as :mod:`models.words` counts them, or none where they are not known.
    ``spans`` are when the words of a final text were spoken, once :mod:`stages.spans` or
    :mod:`pipeline.word_times` has found out.
    ``timing`` says of them how much had been heard when they came, when they were shown and when
    committed, once :mod:`pipeline.lateness` has noted it.
    Texts that say the same are equal whatever these are: the last digits depend on who shared a
    pass.
    """

    committed: str = ""
    tail: str = ""
    confidences: tuple[float, ...] = field(default=(), compare=False)
    spans: tuple[Span, ...] = field(default=(), compare=False)
    timing: tuple[Timing, ...] = field(default=(), compare=False)

    @property
    def whole(self) -> str:
        return self.committed + self.tail

    @property
    def words(self) -> tuple[tuple[str, float | None], ...]:
        """The words of ``whole``, each with its confidence if it is known."""
        said = words(self.whole)
        return tuple(zip(said, self.confidences or [None] * len(said), strict=True))

    @property
    def confidence(self) -> float | None:
        """The mean confidence of the words; None where it is not known."""
        return sum(self.confidences) / len(self.confidences) if self.confidences else None

    def to_event(self) -> dict[str, Any]:
        event = {"committed": self.committed, "tail": self.tail, "confidence": self.rounded}
        return event | ({"timing": [list(times) for times in self.timing]} if self.timing else {})

    @property
    def rounded(self) -> list[float]:
        """``confidences`` as events and files have them."""
        return [round(confidence, 2) for confidence in self.confidences]


@dataclass(frozen=True)
class Caption:
    """The current best transcript and translation of one segment, and what it cost.

    ``partial`` captions replace each other; the ``final`` one has empty tails. ``frames`` are the
    pictures that the segment is about, also where the model cannot see. ``guards`` says what was
    wrong with the answers behind a final caption (`models.answers.Flag`), of which nothing is
    shown; there may be no words then. ``session``, ``seq`` and
    ``latency`` are what only the session knows, which adds them.
    """

    kind: Literal["partial", "final"]
    segment: int
    start: int
    end: int
    language: str
    target_language: str
    transcript: Text
    translation: Text
    frames: tuple[VideoFrame, ...] = ()
    latency: dict[str, int] = field(default_factory=dict[str, int])
    size: str = ""
    guards: tuple[str, ...] = ()
    session: str = ""
    seq: int = 0

    def to_event(self) -> dict[str, Any]:
        """The JSON object of the event stream; ``start`` and ``end`` in seconds."""
        return {
            "session": self.session,
            "seq": self.seq,
            "kind": self.kind,
            "segment": self.segment,
            "start": round(self.start / SAMPLE_RATE_HZ, 3),
            "end": round(self.end / SAMPLE_RATE_HZ, 3),
            "language": self.language,
            "target_language": self.target_language,
            "transcript": self.transcript.to_event(),
            "translation": self.translation.to_event(),
            "frames": [{"time": f.time, "index": f.index} for f in self.frames],
            "latency": dict(self.latency),
            "size": self.size,
            "guards": list(self.guards),
        }
