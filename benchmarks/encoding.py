"""The audio encoder at true size: a stream in steps of 160 ms against whole clips.

Streaming reads all weights once a step and can not do less alone; a clip in one pass reads them
once. So the least a step can take is the reading of the weights, and sessions that share a step
share that. A tower in another form has fewer bytes to read; the peer keeps its bf16.
"""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks import limits, profile, sounds
from benchmarks.context import Bench
from benchmarks.machine import Beside
from benchmarks.ours import audio_encoder
from benchmarks.rows import Measurement, Result, Row
from benchmarks.timing import Contender, alternate, clock, medians
from dragoman.encoders import StreamingAudioEncoder, split_state, stack_states
from dragoman.stages.messages import CHUNK_MS, CHUNK_SAMPLES

SECONDS = 30
SESSIONS = 4
WINDOW = 20  # steps at either end that are compared

TOWER_FORMS = ("bf16", "bf12", "int8")  # of the tower


def _stream_row(form: str) -> Row:
    title = "30 s of sound in 160 ms steps, against transformers' one pass"
    if form != "bf16":
        title = (
            f"30 s of sound in 160 ms steps, {form} tower, against transformers' one pass in bf16"
        )
    suffix = "" if form == "bf16" else f"_{form}"
    return Row(f"encoder_stream_30s{suffix}", title, "s", higher=False, target=0.5)


def _step_row(form: str) -> Row:
    title = f"a 160 ms step with a tower in {form}, against bf16"
    return Row(f"encoder_step_{form}", title, "ms", higher=False, peer="bf16")


STREAM = {form: _stream_row(form) for form in TOWER_FORMS}
STEP = {form: _step_row(form) for form in TOWER_FORMS[1:]}
OFFLINE = Row("encoder_offline_30s", "30 s of sound in one pass", "s", higher=False)
FLAT = Row(
    "encoder_step_flat",
    "a 160 ms step at the end of 30 s, against the beginning",
    "ms",
    higher=False,
    peer="first steps",
    target=0.9,
)
BATCH = Row(
    "encoder_step_batch_4",
    "a step of 4 sessions together, against one by one",
    "ms",
    higher=False,
    peer="one by one",
    target=1.0,
)


def encoder(bench: Bench) -> Iterable[Result]:
    """All rows of the encoder."""
    checkpoint, theirs = bench.checkpoint("E2B"), bench.peer("E2B")
    ours = {
        form: audio_encoder(checkpoint, bench.device, None if form == "bf16" else form)
        for form in TOWER_FORMS
    }
    samples = sounds.noise(4 if bench.small else SECONDS)
    clip = torch.from_numpy(samples)[None].to(bench.device)
    rounds = 1 if bench.small else 3 if bench.quick else 5
    steps: dict[str, list[list[float]]] = {form: [] for form in TOWER_FORMS}
    beside = bench.beside(products=True)
    spent = alternate(
        {
            **{
                form: Contender(lambda _, form=form: steps[form].append(stream(ours[form], clip)))
                for form in TOWER_FORMS
            },
            "offline": Contender(lambda _: _whole(ours["bf16"], clip)),
            "theirs": Contender(lambda _: _finished(theirs.encode(samples))),
            "machine": beside.contender,
        },
        rounds,
    )
    streamed = Streamed(medians(spent), steps, clip.shape[1] // CHUNK_SAMPLES, rounds, beside)
    yield from _plain(ours["bf16"], streamed)
    for form in TOWER_FORMS[1:]:
        yield from _other(ours[form], form, streamed)
    yield _together(bench, ours["bf16"], clip)


@dataclass(frozen=True)
class Streamed:
    """What all forms of the tower took in the same rounds.

    ``seconds`` of the contenders (medians); ``steps``: seconds of each step in each round and the
    one that warms up; ``count`` of the steps in a round.
    """

    seconds: dict[str, float]
    steps: dict[str, list[list[float]]]
    count: int
    rounds: int
    beside: Beside

    def result(self, form: str, weights: int, detail: dict[str, Any]) -> Result:
        """The row of the whole stream; a step reads ``weights`` bytes."""
        least, ours = self.beside.seconds(weights), self.seconds[form]
        ms = self.step_ms(form)
        found = {
            "step_ms": round(statistics.median(ms), 2),
            "step_p95_ms": round(sorted(ms)[int(0.95 * (len(ms) - 1))], 2),
            "least_step_ms": round(1000 * least, 2),
            "real_time_factor": round(ours / (self.count * CHUNK_MS / 1000), 3),
        }
        found |= self.beside.detail(weights) | detail
        limit = self.count * least
        return Result(STREAM[form], ours, self.seconds["theirs"], limit, self.rounds, detail=found)

    def step_ms(self, form: str) -> list[float]:
        """All steps but those of the round that warms up, if there are others."""
        runs = self.steps[form]
        return [1000 * seconds for run in runs[1:] or runs for seconds in run]


def _plain(ours: StreamingAudioEncoder, streamed: Streamed) -> Iterable[Result]:
    """Rows of the tower as it is stored."""
    spent, beside, weights = streamed.seconds, streamed.beside, read_bytes(ours)
    detail = {
        "close_ms": round(1000 * closing(ours), 2),
        "times_own_one_pass": round(spent["bf16"] / spent["offline"], 2),
        "profile": profile.shares(lambda: _one_step(ours)),
    }
    yield streamed.result("bf16", weights, detail)
    count, rounds, counted = streamed.count, streamed.rounds, beside.detail(weights)
    flops = 2.0 * sum(p.numel() for p in ours.parameters() if p.dim() == 2) * 4 * count
    whole = beside.seconds(weights, flops)
    yield Result(OFFLINE, spent["offline"], spent["theirs"], whole, rounds, detail=counted)
    window, runs = min(WINDOW, count // 2), streamed.steps["bf16"][1:]
    first = [seconds for run in runs for seconds in run[2 : 2 + window]]
    last = [seconds for run in runs for seconds in run[-window:]]
    begin, end = (1000 * statistics.median(part) for part in (first, last))
    yield Result(FLAT, end, begin, 1000 * beside.seconds(weights), rounds, detail=counted)


def _other(ours: StreamingAudioEncoder, form: str, streamed: Streamed) -> Iterable[Result]:
    """Rows of the tower in another form."""
    beside, weights = streamed.beside, read_bytes(ours)
    yield streamed.result(form, weights, {"close_ms": round(1000 * closing(ours), 2)})
    mine, plain = (statistics.median(streamed.step_ms(each)) for each in (form, "bf16"))
    least, counted = 1000 * beside.seconds(weights), beside.detail(weights)
    yield Result(STEP[form], mine, plain, least, streamed.rounds, detail=counted)


def stream(encoder: StreamingAudioEncoder, clip: Tensor) -> list[float]:
    """Encodes ``clip`` [1, S] chunk by chunk; seconds of each step."""
    spent, state = [], encoder.init_state(1)
    with torch.inference_mode():
        for piece in clip.split(CHUNK_SAMPLES, dim=1):
            begun = clock()
            _, state = encoder.step(piece, state)
            spent.append(clock() - begun)
    return spent


def closing(encoder: StreamingAudioEncoder, times: int = 5) -> float:
    """Seconds of the pass that ends a segment: its last chunk, as much silence, and the end."""
    spent, rest = [], torch.zeros(1, 2 * CHUNK_SAMPLES)
    with torch.inference_mode():
        for _ in range(1 + times):
            state = encoder.init_state(1)
            device = state.mel.tail.device
            heard = torch.zeros(1, encoder.stride + encoder.lookahead + 1, device=device)
            _, state = encoder.step(heard, state)  # up to where a token came out
            begun = clock()
            _finished(encoder.finish(rest.to(device), state))
            spent.append(clock() - begun)
    return statistics.median(spent[1:])


def read_bytes(encoder: StreamingAudioEncoder) -> int:
    """Bytes of weights that a step reads: all but those of the position tables, made once."""
    tables = [p for name, p in encoder.named_parameters() if ".pos_proj." in name]
    return limits.read_bytes(encoder) - sum(p.nbytes for p in tables)


def _together(bench: Bench, ours: StreamingAudioEncoder, clip: Tensor) -> Result:
    """Steps of several sessions at once."""
    piece = clip[:, :CHUNK_SAMPLES].repeat(SESSIONS, 1)
    with torch.inference_mode():
        _, warm = ours.step(clip[:, : 4 * CHUNK_SAMPLES], ours.init_state(1))

    def states():
        joined = stack_states([warm] * SESSIONS)  # a copy: a step consumes its state
        return joined, split_state(joined)

    def at_once(given) -> None:
        with torch.inference_mode():
            ours.step(piece, given[0])

    def one_by_one(given) -> None:
        with torch.inference_mode():
            for state in given[1]:
                ours.step(piece[:1], state)

    beside, weights = bench.beside(), read_bytes(ours)
    contenders = {
        "at once": Contender(at_once, states),
        "one": Contender(one_by_one, states),
        "machine": beside.contender,
    }
    spent = medians(alternate(contenders, bench.rounds))
    together, alone = (1000 * spent[name] for name in ("at once", "one"))
    least, counted = 1000 * beside.seconds(weights), beside.detail(weights)
    return Result(BATCH, together, alone, least, bench.rounds, detail=counted)


@torch.inference_mode()
def _whole(encoder: StreamingAudioEncoder, clip: Tensor) -> None:
    _finished(encoder(clip))


def _finished(tokens: Tensor) -> None:
    tokens.flatten()[0].item()


@torch.inference_mode()
def _one_step(encoder: StreamingAudioEncoder) -> None:
    samples = torch.zeros(1, CHUNK_SAMPLES, device=encoder.init_state(1).mel.tail.device)
    _, state = encoder.step(samples, encoder.init_state(1))
    encoder.step(samples, state)


_FORMS = tuple(row for form in TOWER_FORMS[1:] for row in (STREAM[form], STEP[form]))
MEASUREMENTS = (Measurement("encoder", (STREAM["bf16"], OFFLINE, FLAT, *_FORMS, BATCH), encoder),)
