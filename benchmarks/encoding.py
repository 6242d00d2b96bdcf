"""The audio encoder at true size: a stream in steps of 160 ms against whole clips.

Streaming reads all weights once a step and can not do less alone; a clip in one pass reads them
once. So the least a step can take is the reading of the weights, and sessions that share a step
share that. A tower in int8 has half as many bytes to read; the peer keeps its bf16.
"""

import statistics
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from benchmarks import limits, profile, sounds
from benchmarks.context import Bench
from benchmarks.ours import audio_encoder
from benchmarks.rows import Measurement, Result, Row
from benchmarks.timing import Contender, alternate, clock, medians
from encoders import StreamingAudioEncoder, split_state, stack_states
from stages.messages import CHUNK_MS, CHUNK_SAMPLES

SECONDS = 30
SESSIONS = 4
WINDOW = 20  # steps at either end that are compared

STREAM = Row(
    "encoder_stream_30s",
    "30 s of sound in 160 ms steps, against transformers' one pass",
    "s",
    higher=False,
    target=0.5,
)
STREAM_INT8 = Row(
    "encoder_stream_30s_int8",
    "30 s of sound in 160 ms steps, int8 tower, against transformers' one pass in bf16",
    "s",
    higher=False,
    target=0.5,
)
STEP_INT8 = Row(
    "encoder_step_int8",
    "a 160 ms step with an int8 tower, against bf16",
    "ms",
    higher=False,
    peer="bf16",
)
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
    ours = audio_encoder(bench.checkpoint("E2B"), bench.device)
    small = audio_encoder(bench.checkpoint("E2B"), bench.device, "int8")
    theirs = bench.peer("E2B")
    samples = sounds.noise(4 if bench.small else SECONDS)
    clip = torch.from_numpy(samples)[None].to(bench.device)
    rounds = 1 if bench.small else 3 if bench.quick else 5
    steps: list[list[float]] = []
    small_steps: list[list[float]] = []
    spent = alternate(
        {
            "stream": Contender(lambda _: steps.append(stream(ours, clip))),
            "int8": Contender(lambda _: small_steps.append(stream(small, clip))),
            "offline": Contender(lambda _: _whole(ours, clip)),
            "theirs": Contender(lambda _: _finished(theirs.encode(samples))),
        },
        rounds,
    )
    count, seconds = clip.shape[1] // CHUNK_SAMPLES, medians(spent)
    yield from _results(bench, ours, seconds, steps, count)
    yield from _small(bench, small, seconds, steps, small_steps, count)
    yield _together(bench, ours, clip)


def _results(
    bench: Bench,
    ours: StreamingAudioEncoder,
    spent: dict[str, float],
    steps: list[list[float]],
    count: int,
) -> Iterable[Result]:
    weights = read_bytes(ours)
    least = bench.machine.seconds(weights)
    detail = {
        **_detail(ours, spent["stream"], steps, least, count),
        "times_own_one_pass": round(spent["stream"] / spent["offline"], 2),
        "profile": profile.shares(lambda: _one_step(ours)),
    }
    rounds = len(steps) - 1
    yield Result(STREAM, spent["stream"], spent["theirs"], count * least, rounds, detail=detail)
    flops = 2.0 * sum(p.numel() for p in ours.parameters() if p.dim() == 2) * 4 * count
    whole = bench.machine.seconds(weights, flops)
    yield Result(OFFLINE, spent["offline"], spent["theirs"], whole, rounds)
    window = min(WINDOW, count // 2)
    first = [seconds for run in steps[1:] for seconds in run[2 : 2 + window]]
    last = [seconds for run in steps[1:] for seconds in run[-window:]]
    begin, end = (1000 * statistics.median(part) for part in (first, last))
    yield Result(FLAT, end, begin, 1000 * least, rounds)


def _small(
    bench: Bench,
    small: StreamingAudioEncoder,
    spent: dict[str, float],
    steps: list[list[float]],
    small_steps: list[list[float]],
    count: int,
) -> Iterable[Result]:
    """Rows of a quantized tower."""
    least, rounds = bench.machine.seconds(read_bytes(small)), len(steps) - 1
    detail = _detail(small, spent["int8"], small_steps, least, count)
    limit = count * least
    yield Result(STREAM_INT8, spent["int8"], spent["theirs"], limit, rounds, detail=detail)
    ours, theirs = (statistics.median(_step_ms(each)) for each in (small_steps, steps))
    yield Result(STEP_INT8, ours, theirs, 1000 * least, rounds)


def _detail(
    encoder: StreamingAudioEncoder,
    seconds: float,
    steps: list[list[float]],
    least: float,
    count: int,
) -> dict[str, Any]:
    """Of a stream of ``count`` steps: how long one takes, could take at the least, and the end."""
    ms = _step_ms(steps)
    return {
        "step_ms": round(statistics.median(ms), 2),
        "step_p95_ms": round(sorted(ms)[int(0.95 * (len(ms) - 1))], 2),
        "least_step_ms": round(1000 * least, 2),
        "close_ms": round(1000 * closing(encoder), 2),
        "real_time_factor": round(seconds / (count * CHUNK_MS / 1000), 3),
    }


def _step_ms(steps: list[list[float]]) -> list[float]:
    """All steps but those of the round that warms up, if there are others."""
    return [1000 * seconds for run in steps[1:] or steps for seconds in run]


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

    contenders = {"at once": Contender(at_once, states), "one": Contender(one_by_one, states)}
    spent = medians(alternate(contenders, bench.rounds))
    least = 1000 * bench.machine.seconds(read_bytes(ours))
    return Result(BATCH, 1000 * spent["at once"], 1000 * spent["one"], least, bench.rounds)


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


MEASUREMENTS = (
    Measurement("encoder", (STREAM, OFFLINE, FLAT, STREAM_INT8, STEP_INT8, BATCH), encoder),
)
