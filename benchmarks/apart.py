"""The live measurement through the real graph: encoder and decoder in processes of their own.

The stages are those of a live session, on the threads that one gets, but for two: the segmenter is
replaced by one that takes all sound for one segment, and the reply is scripted in the process of
the decoder.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks import sounds
from benchmarks.context import Bench
from benchmarks.passes import Watched
from benchmarks.realtime import RUNS, SECONDS, UPDATE_CHUNKS, Script
from benchmarks.rows import Measurement, Result, Row
from dragoman.models import prompt as prompts
from dragoman.models.checkpoint import Checkpoint
from dragoman.pipeline.chain import Chain
from dragoman.pipeline.recipes import Recipe, recipes
from dragoman.pipeline.segments import parts
from dragoman.pipeline.start import host
from dragoman.spec import ModelSpec
from dragoman.stages.contract import Stage
from dragoman.stages.messages import (
    SAMPLE_RATE_HZ,
    Caption,
    Chunk,
    SessionOptions,
    SoftTokens,
    Speech,
)
from dragoman.stages.translate import TranslateStage, TranslateState

Start = Callable[[Sequence[Recipe]], Chain]
NOTHING = np.zeros(0, np.float32)
FORM = "int8"

APART = Row(
    f"live_e2b_{FORM}_graph",
    f"live E2B, {FORM}, {SECONDS} s as above, through the Ray graph: time / audio time",
    "RTF",
    higher=False,
    peer="real time",
)


def keeps_up(bench: Bench, start: Start | None = None) -> Iterable[Result]:
    """Hears a sound through the graph as fast as it is taken."""
    sound = sounds.noise(3 if bench.small else SECONDS)
    folder = str(bench.folder("E2B", FORM).resolve())
    rounds = min(RUNS, bench.rounds)
    factors = real_time_factors(folder, bench.device, sound, start or _graph, rounds)
    detail = {
        "by_run": [round(factor, 3) for factor in factors],
        "seconds_of_audio": len(sound) / SAMPLE_RATE_HZ,
    }
    yield Result(APART, statistics.median(factors), 1.0, rounds=len(factors), detail=detail)


def real_time_factors(
    folder: str, device: str, sound: np.ndarray, start: Start, rounds: int
) -> list[float]:
    """Seconds that the graph ``start`` gives needs for a second of ``sound``, float32 [S], in each
    of several rounds."""
    _, encode, translate = recipes(ModelSpec(folder, device))
    scripted = replace(translate, make=partial(Scripted, folder, translate))
    chain = start((Recipe("segment", OneSegment), encode, scripted))
    factors = []
    try:
        hear(chain, sounds.noise(1))
        for _ in range(rounds):
            begun = time.monotonic()
            hear(chain, sound)
            factors.append((time.monotonic() - begun) * SAMPLE_RATE_HZ / len(sound))
        return factors
    finally:
        chain.stop()


def hear(chain: Chain, sound: np.ndarray) -> list[Caption]:
    """The captions of a session that feeds ``sound`` as fast as it is taken."""
    name, pieces = "live", sounds.chunks(sound)
    options = SessionOptions(update_chunks=UPDATE_CHUNKS)
    chain.open(name, options)
    starts = range(0, len(sound), len(pieces[0]))
    chunks = (Chunk(start, piece) for start, piece in zip(starts, pieces, strict=True))
    speech = parts(chunks, chain.segmenter, options)
    sent = [*(chain.step(name, piece) for piece in speech), chain.finish(name)]
    return [caption for future in sent for caption in chain.outcome(name, future)]


class OneSegment:
    """Stage[Chunk, Speech, int]: all sound is speech; the state is how many samples there were."""

    def init_state(self, options: SessionOptions) -> int:
        return 0

    def step(self, item: Chunk, state: int) -> tuple[list[Speech], int]:
        return [Speech(0, item.start, item.samples, state == 0, late=item.late)], item.end

    def flush(self, state: int) -> list[Speech]:
        return [Speech(0, state, NOTHING, closes=True)] if state else []


class Scripted:
    """Stage[SoftTokens, Caption, TranslateState]: the real one, told what to say."""

    def __init__(self, folder: str, recipe: Recipe) -> None:
        stage: Stage[Any, Any, Any] = recipe.make()
        assert isinstance(stage, TranslateStage)
        self._stage = stage
        self._script = Script(prompts.build(Checkpoint.open(folder).tokenizer, "es", "en"))
        Watched(stage.model, self._script.choose).__enter__()  # as long as the process lasts

    def init_state(self, options: SessionOptions) -> TranslateState:
        return self._stage.init_state(options)

    def step(self, item: SoftTokens, state: TranslateState) -> tuple[list[Caption], TranslateState]:
        self._script.hear(item.end)
        return self._stage.step(item, state)

    def flush(self, state: TranslateState) -> list[Caption]:
        return self._stage.flush(state)


def _graph(stages: Sequence[Recipe]) -> Chain:
    return Chain.start(host(ray=True), stages)


MEASUREMENTS = {FORM: Measurement(APART.name, (APART,), keeps_up)}
