"""Finds the utterances of a stream and hands their audio on while they are being spoken.

Between :mod:`stages.chunk` and the encoder. A segment is opened by speech, with some audio before
it, and closed by silence, of which a long segment needs less, or at the length limit in the
quietest place. Everything is decided on 20 ms frames counted from the first sample, so the borders
do not depend on how the stream was cut.

What is unusual: in the last second before the limit audio is held back, because the place of the
cut is only known once the limit is reached. After a cut the next segment begins at that very
sample, but is opened only when speech is heard in it; so a speaker who stops just at the limit
does not leave behind a segment of silence.

The detector is the Gaussian-mixture voice activity detector of WebRTC (package webrtcvad-wheels).
It learns the room and the speaker, so it lives as long as the session: started afresh with every
segment it misses quiet speakers. Digital silence teaches it nothing, though, and it takes for
speech what is much louder than the room it knows, or simply loud: an air conditioner, a hum. So
sound whose level hardly moves is no speech here, whatever the detector says.
"""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import webrtcvad

from dragoman.stages.messages import SAMPLE_RATE_HZ, Chunk, SessionOptions, Speech

FRAME_MS = 20
FRAME_SAMPLES = SAMPLE_RATE_HZ * FRAME_MS // 1000

# The detector goes on saying "speech" for four frames after a sound, so nine voiced frames are
# about 100 ms of it: shorter than the shortest words, longer than clicks.
WINDOW_FRAMES = 12
OPENING_VOICED = 9
OPENING_LOUD = 5
FLOOR_DBFS = -60.0
FLOOR_POWER = 10 ** (FLOOR_DBFS / 10)

# Noise of many frequencies varies by 0.35 to 0.55 dB from frame to frame over half a second, speech
# by several dB, even 5 dB below such noise. Neighbouring samples are subtracted before, so that a
# rumble does not hide how steady the rest is.
STEADY_FRAMES = 25
STEADY_DB = 0.6
SILENT_DB = -120.0

# An endpoint below 300 ms would keep the silence from the encoder that it needs to hear the last
# sound; a pre-roll longer than the window before a cut could outgrow the shortest segment.
RANGES_MS = {
    "pre_roll_ms": (0, 1_000),
    "endpoint_ms": (300, 5_000),
    "max_segment_ms": (2_000, 600_000),
}
HOLD_MS = 1_000  # how far before the limit the place of the cut is looked for

# People who speak on leave less silence than an endpoint between their sentences. So the longer a
# segment is, the less silence ends it: the endpoint's until 4 s, and from 8 s on less than the
# encoder needs to hear the last sound; then the next segment begins where this one ends.
LONG_MS, LONGER_MS, LONGEST_MS = 4_000, 8_000, 15_000
PAUSE_MS, DIP_MS = 300, 100
SMOOTHING_FRAMES = 2  # on either side of a possible cut


@dataclass(frozen=True)
class VadFrame:
    """20 ms: ``samples`` float32 [320], ``power`` without offset, ``voiced`` by the detector.

    ``level_db`` is that of the differences between samples; ``steady`` says that it has hardly
    moved for half a second. ``sounds`` says that this may be speech: voiced, loud, and not steady.
    """

    samples: np.ndarray
    power: float
    level_db: float
    voiced: bool
    loud: bool
    steady: bool
    sounds: bool


@dataclass(frozen=True)
class Limits:
    """The session's options in frames. ``silence`` is how much ends a segment of each length."""

    pre_roll: int
    endpoint: int
    silence: tuple[int, ...]
    segment: int
    hold: int


@dataclass
class SegmentState:
    """One stream's detector, and the audio that is not handed on yet.

    ``frames`` end at sample index ``position``, where ``rest`` (less than a frame) begins; None
    before the first chunk. Between segments they are the possible pre-roll, inside one what is held
    back before the limit. ``joined`` says that they begin exactly where the last segment was cut,
    ``paused`` that it was cut in a pause, after which nothing may follow. ``length`` counts the
    frames of the open segment, ``silent`` those since speech was last heard.
    """

    limits: Limits
    vad: webrtcvad.Vad
    levels_db: deque[float] = field(default_factory=lambda: deque(maxlen=STEADY_FRAMES))
    position: int | None = None
    rest: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    frames: deque[VadFrame] = field(default_factory=deque[VadFrame])
    segment: int = 0
    is_open: bool = False
    joined: bool = False
    paused: bool = False
    begun: bool = False  # the open segment's first piece has been handed on
    length: int = 0
    silent: int = 0
    sounded: bool = False  # the frame before this one may be speech


class SegmentStage:
    """Stage[Chunk, Speech, SegmentState]: a stream in, the audio of its utterances out."""

    def init_state(self, options: SessionOptions) -> SegmentState:
        """The state of a new stream; raises ValueError for options that cannot be kept."""
        return SegmentState(_limits(options), webrtcvad.Vad(options.vad_aggressiveness))

    def step(self, item: Chunk, state: SegmentState) -> tuple[list[Speech], SegmentState]:
        """Takes a chunk of any length; raises ValueError unless it follows the one before."""
        if state.position is None:
            state.position = item.start
        expected = state.position + len(state.rest)
        if item.start != expected:
            raise ValueError(
                f"expected a chunk at sample {expected}, got one at {item.start}: "
                "feed every chunk once and in order, or open a new session"
            )
        heard = np.concatenate([state.rest, item.samples])
        whole = len(heard) - len(heard) % FRAME_SAMPLES
        out: list[Speech] = []
        for at in range(0, whole, FRAME_SAMPLES):
            out += _advance(_frame(heard[at : at + FRAME_SAMPLES], state), state, item.late)
        state.rest = heard[whole:].copy()
        if state.is_open:
            # Where the place of a cut may lie, frames are held back.
            handed = state.length - len(state.frames)
            count = min(len(state.frames), state.limits.segment - state.limits.hold - handed)
            if count > 0:
                out.append(_take(state, count, item.late))
        return out, state

    def flush(self, state: SegmentState) -> list[Speech]:
        """Closes the open segment with all that is left of the stream."""
        if not state.is_open:
            return []
        last = _take(state, len(state.frames), late=False, closes=True)
        return [replace(last, samples=np.concatenate([last.samples, state.rest]))]


def _limits(options: SessionOptions) -> Limits:
    for name, (least, most) in RANGES_MS.items():
        value = getattr(options, name)
        if not least <= value <= most:
            raise ValueError(f"{name} is {value}: choose {least} to {most} milliseconds")
    if options.endpoint_ms > options.max_segment_ms // 2:
        raise ValueError(
            f"endpoint_ms is {options.endpoint_ms}: choose at most half of max_segment_ms, "
            f"{options.max_segment_ms}"
        )
    if options.vad_aggressiveness not in range(4):
        raise ValueError(
            f"vad_aggressiveness is {options.vad_aggressiveness}: choose 0 (lets most through) to 3"
        )
    return Limits(
        pre_roll=-(-options.pre_roll_ms // FRAME_MS),
        endpoint=-(-options.endpoint_ms // FRAME_MS),
        silence=_silence(options),
        segment=options.max_segment_ms // FRAME_MS,
        hold=min(HOLD_MS, options.max_segment_ms // 2) // FRAME_MS,
    )


def _silence(options: SessionOptions) -> tuple[int, ...]:
    """Frames of silence that end a segment, by its length in frames."""
    lengths = np.arange(options.max_segment_ms // FRAME_MS + 1) * FRAME_MS
    least = [min(options.endpoint_ms, ms) for ms in (options.endpoint_ms, PAUSE_MS, DIP_MS)]
    needed = np.interp(lengths, (LONG_MS, LONGER_MS, LONGEST_MS), least)
    return tuple(np.ceil(needed / FRAME_MS).astype(int).tolist())


def _frame(samples: np.ndarray, state: SegmentState) -> VadFrame:
    pcm = (np.clip(samples, -1.0, 1.0) * 32767).astype(np.int16)
    voiced = state.vad.is_speech(pcm.tobytes(), SAMPLE_RATE_HZ)
    # The variance, because a microphone's constant offset is not sound.
    power, edges = float(np.var(samples)), float(np.var(np.diff(samples)))
    level_db = max(SILENT_DB, 10 * math.log10(edges)) if edges else SILENT_DB
    state.levels_db.append(level_db)
    steady = len(state.levels_db) == STEADY_FRAMES and _is_steady(state.levels_db)
    loud = power > FLOOR_POWER
    sounds = voiced and loud and not steady
    return VadFrame(samples.copy(), power, level_db, voiced, loud, steady, sounds)


def _is_steady(levels_db: Iterable[float]) -> bool:
    return float(np.std(list(levels_db))) < STEADY_DB


def _advance(frame: VadFrame, state: SegmentState, late: bool) -> list[Speech]:
    """Takes one frame; returns the segment's last piece where one ends."""
    assert state.position is not None
    # Two in a row: a single one is a click, and neither opens a segment nor keeps it open.
    speech, state.sounded = frame.sounds and state.sounded, frame.sounds
    state.frames.append(frame)
    state.position += FRAME_SAMPLES
    hindsight = STEADY_FRAMES // 2 if frame.steady else 0  # all of them is too many in loud noise
    state.silent = 0 if speech else max(state.silent + 1, hindsight)
    if not state.is_open:
        _listen(state, speech)
        return []
    state.length += 1
    silence = state.limits.silence[min(state.length, state.limits.segment)]
    if state.silent >= silence:
        last = _end(state, len(state.frames), late)
        state.joined = state.paused = silence < PAUSE_MS // FRAME_MS
        return [last]
    if state.length >= state.limits.segment:
        return [_cut(state, late)]
    return []


def _listen(state: SegmentState, speech: bool) -> None:
    """Between segments: opens one when there is speech, else forgets what is too old."""
    if state.joined and (speech if not state.paused else _began(state) is not None):
        _open(state)
    elif state.joined and state.silent < state.limits.endpoint:
        return
    else:
        state.joined = state.paused = False
        while len(state.frames) > WINDOW_FRAMES + state.limits.pre_roll:
            state.frames.popleft()
        _open_by_window(state)


def _open_by_window(state: SegmentState) -> None:
    """Opens a segment ``pre_roll`` before the first voiced frame, if enough of the last are."""
    ago = _began(state)
    if ago is None:
        return
    for _ in range(len(state.frames) - ago - state.limits.pre_roll):
        state.frames.popleft()
    state.silent = 0
    _open(state)


def _began(state: SegmentState) -> int | None:
    """How many frames ago speech began; None unless enough of the last ones are speech."""
    window = list(state.frames)[-WINDOW_FRAMES:]
    voiced = [at for at, frame in enumerate(window) if frame.voiced]
    if len(voiced) < OPENING_VOICED or sum(frame.loud for frame in window) < OPENING_LOUD:
        return None
    if _is_steady([frame.level_db for frame in state.frames if frame.voiced][1:]):
        return None  # noise has set in; its first frame may be noise in part
    return len(window) - voiced[0]


def _open(state: SegmentState) -> None:
    """Everything in ``frames`` belongs to the segment from here on."""
    state.is_open, state.joined, state.paused, state.begun = True, False, False, False
    state.length = len(state.frames)


def _take(state: SegmentState, count: int, late: bool, closes: bool = False) -> Speech:
    """The first ``count`` frames as a piece of the open segment."""
    assert state.position is not None
    start, opens = state.position - len(state.frames) * FRAME_SAMPLES, not state.begun
    samples = [state.frames.popleft().samples for _ in range(count)]
    joined = np.concatenate(samples) if samples else np.zeros(0, np.float32)
    state.begun = True
    return Speech(state.segment, start, joined, opens, closes, late)


def _end(state: SegmentState, count: int, late: bool) -> Speech:
    """Closes the open segment after ``count`` more frames."""
    last = _take(state, count, late, closes=True)
    state.segment += 1
    state.is_open = False
    return last


def _cut(state: SegmentState, late: bool) -> Speech:
    """Closes the open segment in the quietest place held back; what follows opens the next."""
    held = list(state.frames)[-state.limits.hold :]
    last = _end(state, len(state.frames) - len(held) + _quietest(held), late)
    state.joined = True
    if any(a.sounds and b.sounds for a, b in pairwise(state.frames)):
        _open(state)
    return last


def _quietest(frames: list[VadFrame]) -> int:
    """Before which of ``frames`` to cut: least power around, the latest of equals."""
    power = np.array([frame.power for frame in frames])
    around = np.convolve(power, np.ones(2 * SMOOTHING_FRAMES), mode="valid")
    return len(around) - 1 - int(np.argmin(around[::-1])) + SMOOTHING_FRAMES
