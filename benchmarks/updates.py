"""What updates cost while someone speaks: decoder passes with drafts, and without.

The bundled model hears real speech, chunk by chunk. Every update is decoded twice: as the stage
does it, from what it said before, and from scratch, by making it forget that. Passes that only take
in new sound between two updates are the same for both and are listed apart.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks import sounds
from benchmarks.context import Bench
from benchmarks.passes import Watched
from benchmarks.rows import Measurement, Result, Row
from dragoman.models.checkpoint import Checkpoint
from dragoman.stages.encode import EncodeStage
from dragoman.stages.hypothesis import Hypothesis
from dragoman.stages.messages import SAMPLE_RATE_HZ, Chunk, SessionOptions, SoftTokens
from dragoman.stages.segment import SegmentStage
from dragoman.stages.translate import TranslateStage, TranslateState

PASSES = Row(
    "live_passes_nano",
    "decoder passes for all live updates, nano, against each update from scratch",
    "passes",
    higher=False,
    peer="from scratch",
    target=3.0,
)
UTTERANCES = 40


@dataclass
class Count:
    """Passes of updates and of sound alone; draft tokens offered and kept."""

    updates: int = 0
    passes: int = 0
    sound: int = 0
    offered: int = 0
    kept: int = 0


def passes(bench: Bench) -> Iterable[Result]:
    """Counts passes over a set of utterances."""
    checkpoint = Checkpoint.open(bench.nano)
    model = checkpoint.language_model(device=bench.device)
    embedder = checkpoint.embedder("audio", device=bench.device)
    translate = TranslateStage(model, embedder, checkpoint.tokenizer)
    count = 2 if bench.small else 10 if bench.quick else UTTERANCES
    encode = EncodeStage.load(bench.nano, device=bench.device)
    spoken = sounds.utterances(bench.corpus, count)
    if bench.small:
        spoken = [sound[: 5 * SAMPLE_RATE_HZ] for sound in spoken]
    heard = [list(_heard(encode, sound)) for sound in spoken]
    with Watched(model) as watched:
        ours, scratch = Count(), Count()
        for session in heard:
            _speak(translate, session, watched, ours, lambda state: None)
            _speak(translate, session, watched, scratch, _forget)
    if not ours.updates:
        return
    detail = {
        "updates": ours.updates,
        "utterances": len(heard),
        "accept_rate": round(ours.kept / max(1, ours.offered), 3),
        "drafted_tokens": ours.offered,
        "passes_of_sound_alone": ours.sound,
        "ratio_with_sound": round(
            (scratch.passes + ours.sound) / max(1, ours.passes + ours.sound), 2
        ),
    }
    yield Result(PASSES, ours.passes, scratch.passes, rounds=1, detail=detail)


def _heard(encode: EncodeStage, samples) -> Iterable[SoftTokens]:
    """What the segmenter and the encoder make of a sound."""
    options = SessionOptions()
    segment = SegmentStage()
    cut, encoded, start = segment.init_state(options), encode.init_state(options), 0
    pieces = []
    for piece in sounds.chunks(samples):
        found, cut = segment.step(Chunk(start, piece), cut)
        pieces += found
        start += len(piece)
    for speech in [*pieces, *segment.flush(cut)]:
        out, encoded = encode.step(speech, encoded)
        yield from out


def _speak(
    stage: TranslateStage,
    session: list[SoftTokens],
    watched: Watched,
    count: Count,
    before: Callable[[TranslateState], None],
) -> None:
    """Runs a session through the stage, ``before`` each message, and counts."""
    state = stage.init_state(SessionOptions())
    for item in session:
        before(state)
        last = [(list(text.ids), text.committed) for text in (state.transcript, state.translation)]
        watched.reset()
        _, state = stage.step(item, state)
        if not watched.answers:
            count.sound += watched.count
            continue
        count.updates += 1
        count.passes += watched.count
        if item.opens:  # the texts of the segment before this one are no draft
            continue
        for (ids, committed), text in zip(last, (state.transcript, state.translation), strict=True):
            count.offered += len(ids) - committed
            count.kept += max(0, _agreed(ids, text.ids) - committed)


def _forget(state: TranslateState) -> None:
    state.transcript, state.translation = Hypothesis(), Hypothesis()


def _agreed(before: list[int], after: list[int]) -> int:
    """How many leading ids are the same."""
    for number, (old, new) in enumerate(zip(before, after, strict=False)):
        if old != new:
            return number
    return min(len(before), len(after))


MEASUREMENTS = (Measurement("live_passes_nano", (PASSES,), passes),)
