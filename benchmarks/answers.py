"""How soon the first word of the transcript comes after the end of speech.

Both sides are timed from the last sample on, in compute time. transformers then encodes the whole
utterance and prefills instruction and sound; we have heard all but the last 160 ms by then and do
what is left, through the real stages: the encoder closes, and what waits goes through the decoder
in one pass with the question. Unusual: nothing was drafted before, so what the live system would
know already does not count; but as many soft tokens wait as do between updates of 640 ms.
"""

import copy
import statistics
from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import numpy as np

from benchmarks import encoding, limits, sounds
from benchmarks.context import Bench
from benchmarks.ours import Stages, stages
from benchmarks.passes import Watched
from benchmarks.rows import Measurement, Result, Row
from benchmarks.timing import Contender, alternate, clock, medians
from dragoman.models import prompt as prompts
from dragoman.stages.messages import SessionOptions

SECONDS = (5, 10, 28)
WAITING = 3  # chunks heard since the last update
ONLY_AT_THE_END = SessionOptions(update_chunks=10_000, max_answer_tokens=1)


def _row(seconds: int, form: str) -> Row:
    return Row(
        f"first_token_after_{seconds}s" + _suffix(form),
        f"end of speech to first transcript token, {seconds} s, E2B, {form}",
        "ms",
        higher=False,
        target=10.0 if form == "bf16" else None,
    )


def _suffix(form: str) -> str:
    return "" if form == "bf16" else f"_{form}"


ROWS = {form: {seconds: _row(seconds, form) for seconds in SECONDS} for form in ("bf16", "bf12")}


def first_tokens(bench: Bench, form: str) -> Iterable[Result]:
    """All lengths of utterance; transformers has bf16, whatever our form is."""
    checkpoint = bench.checkpoint("E2B", form)
    ours = stages(checkpoint, bench.model("E2B", form), bench.device)
    theirs = bench.peer("E2B")
    text = prompts.build(checkpoint.tokenizer, "es", "en")
    weights = limits.read_bytes(ours.model) + encoding.read_bytes(ours.encoder)
    rounds = min(5, bench.rounds)
    for seconds, row in ROWS[form].items():
        samples = sounds.noise(seconds / 10 if bench.small else seconds)
        heard, beside = Heard(ours, samples), bench.beside()
        contenders = {
            "ours": Contender(heard.finish, heard.rest),
            "theirs": Contender(
                lambda _, sound=samples: _answer(theirs, sound, text),
            ),
            "machine": beside.contender,
        }
        spent = medians(alternate(contenders, rounds))
        yield Result(
            row,
            1000 * spent["ours"],
            1000 * spent["theirs"],
            1000 * beside.seconds(weights),
            rounds,
            detail={
                "where": heard.shares(),
                "peer_soft_tokens": 188,
                "limit": "encoder and decoder read once each",
                **beside.detail(weights),
            },
        )


class Heard:
    """A session that has heard all of an utterance but its last 160 ms."""

    def __init__(self, ours: Stages, samples: np.ndarray) -> None:
        self._stages = ours
        *pieces, self._last = sounds.segment(samples)
        count = max(1, len(pieces) - WAITING)
        # One large piece gives the same state as many small ones, sooner.
        whole = np.concatenate([piece.samples for piece in pieces[:count]])
        encode, translate = ours.encode, ours.translate
        self._encoded = encode.init_state(ONLY_AT_THE_END)
        self._translated = translate.init_state(ONLY_AT_THE_END)
        for piece in (replace(pieces[0], samples=whole), *pieces[count:]):
            (tokens,), self._encoded = encode.step(piece, self._encoded)
            _, self._translated = translate.step(tokens, self._translated)
        self._parts: list[tuple[float, float, float, float]] = []

    def rest(self):
        """The state that a round may use up."""
        return copy.deepcopy(self._encoded), copy.deepcopy(self._translated)

    def finish(self, states) -> float:
        """Ends the utterance; the clock when the first token was chosen."""
        first: list[tuple[int, float]] = []
        with Watched(
            self._stages.model, lambda *_: first.append((watched.rows, watched.seconds))
        ) as watched:
            begun = clock()
            (tokens,), _ = self._stages.encode.step(self._last, states[0])
            encoded = clock()
            self._stages.translate.step(tokens, states[1])
        assert watched.first_answer is not None, "the stage asked the model for nothing"
        rows, passes = first[0]
        rest = watched.first_answer - encoded - passes
        self._parts.append((encoded - begun, passes, rest, rows))
        return watched.first_answer

    def shares(self) -> dict[str, float]:
        """Where a round's time goes, in ms (medians), and how many positions the decoder ran."""
        middle = [statistics.median(part) for part in zip(*self._parts, strict=True)]
        encoder, passes, rest, rows = middle
        parts = {"encoder_ms": encoder, "decoder_ms": passes, "rest_ms": rest}
        return {name: round(1000 * part, 1) for name, part in parts.items()} | {"rows": rows}


def _answer(theirs, samples: np.ndarray, text: prompts.Prompt) -> float:
    theirs.answer(samples, list(text.before), list(text.after))
    return clock()


def _measurement(form: str) -> Measurement:
    rows, run = tuple(ROWS[form].values()), partial(first_tokens, form=form)
    return Measurement("first_token" + _suffix(form), rows, run)


MEASUREMENTS = {form: _measurement(form) for form in ROWS}
