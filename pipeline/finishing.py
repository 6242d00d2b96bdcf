"""A second reading of a live session: each utterance is heard once more, as a whole.

Behind `pipeline.documents`, for `dragoman finish`. Live text is promised word by word and kept;
here nothing is promised, so a word that was committed too early can be mended. The borders of
segments stay those of the session, whose document names them.

What is unusual: a model may be shown what the neighbours of a segment say. That stands in the
instruction, so it is for models that follow instructions; one that knows a single wording, as
nano does, hears worse with it.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dragoman.models.prompt import IMAGE_SPECIALS, SPECIALS, STYLES
from dragoman.models.words import normalized
from dragoman.pipeline.onset import onset
from dragoman.pipeline.opening import Warn
from dragoman.pipeline.pool import Job, Outcome, Pool
from dragoman.pipeline.runner import Failure
from dragoman.pipeline.word_times import spoken, timed
from dragoman.stages.messages import CHUNK_SAMPLES, Caption, SessionOptions, Speech

log = logging.getLogger(__name__)

CONTEXT = "Before it was said: {before}\nAfter it is said: {after}\n{instruction}"
CONTEXT_CHARACTERS = 300  # of each neighbour: a model reads them for every segment


def read_again(
    captions: Sequence[Caption],
    sound: Iterable[np.ndarray],
    options: SessionOptions,
    pool: Pool,
    context: bool = False,
    warn: Warn = log.warning,
) -> Iterator[Caption]:
    """The final ``captions`` of a session in the order of time, each read anew from ``sound``,
    pieces float32 [S] at 16 kHz of all that the session heard; with ``context`` beside the texts of
    its neighbours. What is not heard a second time stays as it was; ``warn`` is told how many
    captions ``sound`` is too short for.

    Raises PipelineError where a stage fails.
    """
    asked = _with_neighbours(captions, options) if context else [options] * len(captions)
    found: dict[int, Caption] = {}
    lacking = 0
    for at, (caption, samples) in enumerate(zip(captions, spans(captions, sound), strict=True)):
        while pool.full:
            found.update(_collected(pool, captions))
        # Half a segment would be heard as half of its words.
        if len(samples) > max(0, caption.end - caption.start - CHUNK_SAMPLES):
            pool.submit(Job(None, Speech(at, caption.start, samples, True, True), asked[at]))
        else:
            lacking += 1
    while pool.busy:
        found.update(_collected(pool, captions))
    if lacking:
        warn(
            f"the sound ends before {lacking} of {len(captions)} segments do: these stay as they "
            "were heard live"
        )
    return (found.get(at, caption) for at, caption in enumerate(captions))


def spans(captions: Sequence[Caption], sound: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The samples of each of ``captions``, as far as ``sound`` goes; no more of it is kept."""
    pieces, at, held = iter(sound), 0, np.zeros(0, np.float32)
    for caption in captions:
        while at + len(held) < caption.end and (piece := next(pieces, None)) is not None:
            useless = min(max(0, caption.start - at), len(held))
            held, at = np.concatenate([held[useless:], piece]), at + useless
        yield held[max(0, caption.start - at) : max(0, caption.end - at)]


@dataclass(frozen=True)
class Difference:
    """How two readings differ: of so many ``words`` of the first ``changed`` are others, are gone
    or have come.
    """

    words: int = 0
    changed: int = 0

    def __add__(self, other: "Difference") -> "Difference":
        return Difference(self.words + other.words, self.changed + other.changed)


def difference(before: str, after: str) -> Difference:
    """How ``after`` differs from ``before``, without case and punctuation; the fewest changes."""
    first, second = normalized(before).split(), normalized(after).split()
    row = list(range(len(second) + 1))
    for at, word in enumerate(first, 1):
        row, last = [at], row
        for place, other in enumerate(second):
            row.append(min(last[place] + (word != other), last[place + 1] + 1, row[place] + 1))
    return Difference(len(first), row[-1])


def _with_neighbours(captions: Sequence[Caption], options: SessionOptions) -> list[SessionOptions]:
    style = STYLES.get(options.prompt_style, options.prompt_style)
    said = ["...", *(_quoted(caption.transcript.whole) for caption in captions), "..."]
    return [
        replace(
            options,
            prompt_style=CONTEXT.replace("{before}", before[-CONTEXT_CHARACTERS:])
            .replace("{after}", after[:CONTEXT_CHARACTERS])
            .replace("{instruction}", style),
        )
        for before, after in zip(said, said[2:], strict=False)
    ]


def _quoted(text: str) -> str:
    """``text`` without what an instruction may not hold."""
    for special in (*SPECIALS, *IMAGE_SPECIALS, "<eos>", "{", "}"):
        text = text.replace(special, "")
    return text or "..."


def _collected(pool: Pool, captions: Sequence[Caption]) -> Iterator[tuple[int, Caption]]:
    for job, outcome in pool.collect():
        again = _again(job.speech, outcome)
        if again is not None:
            live = captions[job.speech.segment]
            yield job.speech.segment, replace(again, segment=live.segment, frames=live.frames)


def _again(speech: Speech, outcome: Outcome) -> Caption | None:
    if isinstance(outcome, Failure):
        raise outcome.error("the second reading failed")
    if outcome is None or not outcome.transcript.whole:
        return None
    outcome = replace(outcome, start=outcome.start + onset(speech.samples))
    return timed(outcome, spoken(outcome.transcript.whole, speech))
