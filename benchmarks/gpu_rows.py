"""What a GPU does, beside transformers on the same card: the rows that `benchmarks.gpu` measures.

Unusual: decode steps and the encoder's live steps go through CUDA graphs (:mod:`kernels.graphs`),
which the command does not use yet; prompts, and updates of many sessions, go the way they always
do. Where the aim is a figure of its own, such as 40 ms, the "peer" is that figure.
"""

import statistics
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from benchmarks import sounds
from benchmarks.answers import Heard
from benchmarks.context import Bench
from benchmarks.ours import Stages, stages
from benchmarks.rows import Measurement, Result, Row, Unavailable
from benchmarks.text import (
    PROMPT,
    own_step,
    prefill_ours,
    prefill_theirs,
    prompt,
    stepper,
    their_step,
)
from benchmarks.timing import Contender, alternate, clock, medians
from dragoman.decoder import LanguageModel
from dragoman.decoder.packed import Request
from dragoman.kernels.graphs import DecodeSteps, EncoderSteps
from dragoman.models import prompt as prompts

STEPS = 64  # tokens a round
SESSIONS = 64
UTTERANCE_S = 5
DRAFT, FRESH, MORE = 12, 4, 3  # tokens of an update: drafted, heard since, decoded behind
WANTED_RATE, WANTED_FIRST_MS, WANTED_STEP_MS, WANTED_UPDATE_MS = 250.0, 40.0, 40.0, 500.0

DECODE = Row("gpu_decode_bf16", "decoding, E2B, bf16, CUDA graph", "tokens/s", True, target=3.0)
EAGER = Row("gpu_decode_eager", "decoding, E2B, bf16, without a graph", "tokens/s", True)
PREFILL = Row("gpu_prefill_512", "prompt of 512 tokens, E2B, bf16", "tokens/s", True, target=2.0)
FIRST = Row(
    "gpu_first_token", f"end of speech to first token, {UTTERANCE_S} s, E2B, bf16", "ms", False
)
STEP = Row(
    "gpu_encoder_64", "a 160 ms step of the encoder for 64 streams, CUDA graph", "ms", False,
    peer="wanted", target=1.0,
)  # fmt: skip
UPDATE = Row(
    "gpu_update_64", "an update of 64 live sessions together, 95th percentile", "ms", False,
    peer="wanted", target=1.0,
)  # fmt: skip
MEMORY = Row("gpu_memory", "weights on the card, E2B, bf16", "GB", False)
ROWS = (DECODE, EAGER, PREFILL, FIRST, STEP, UPDATE, MEMORY)


def gpu(bench: Bench) -> Iterable[Result]:
    """All rows; Unavailable without a GPU."""
    if bench.device == "cpu" and not bench.small:
        raise Unavailable("no GPU was at hand: run `python -m benchmarks.gpu` on one")
    model, checkpoint = bench.model("E2B"), bench.checkpoint("E2B")
    ours = stages(checkpoint, model, bench.device)
    yield from _decoding(bench, model)
    yield _prompt(bench, model)
    yield _first_token(bench, ours)
    yield _encoder_step(bench, ours)
    yield _update(bench, ours)
    yield _memory(bench, ours)


def _decoding(bench: Bench, model: LanguageModel) -> Iterable[Result]:
    peer, ids = bench.peer("E2B"), prompt(model, PROMPT)
    cache = model.new_cache(1, 1024)
    first = int(model.prefill(model.embed(ids), ids, cache).argmax())
    steps, count = DecodeSteps(model, 1024), 4 if bench.small else STEPS

    def recorded(_: object) -> None:
        steps.begin(cache)
        token = first
        for _ in range(count):
            token = int(steps.step(token).argmax())

    spent = medians(
        alternate(
            {
                "recorded": Contender(recorded),
                "eager": Contender(stepper(*own_step(model, ids), count)),
                "theirs": Contender(stepper(*their_step(peer, ids), count)),
            },
            bench.rounds,
        )
    )
    rates = {side: count / seconds for side, seconds in spent.items()}
    target = max(3.0, WANTED_RATE / rates["theirs"])
    yield Result(DECODE, rates["recorded"], rates["theirs"], rounds=bench.rounds, target=target)
    yield Result(EAGER, rates["eager"], rates["theirs"], rounds=bench.rounds)


def _prompt(bench: Bench, model: LanguageModel) -> Result:
    peer, ids = bench.peer("E2B"), prompt(model, 512)
    contenders = {
        "ours": Contender(lambda _: prefill_ours(model, ids)),
        "theirs": Contender(lambda _: prefill_theirs(peer, ids)),
    }
    spent = medians(alternate(contenders, bench.rounds))
    return Result(PREFILL, 512 / spent["ours"], 512 / spent["theirs"], rounds=bench.rounds)


def _first_token(bench: Bench, ours: Stages) -> Result:
    """The last 160 ms through the encoder and the suffix behind it, against a whole answer."""
    peer, samples = bench.peer("E2B"), sounds.noise(1 if bench.small else UTTERANCE_S)
    text = prompts.build(ours.translate.tokenizer, "es", "en")
    heard = Heard(ours, samples)

    def theirs(_: object) -> float:
        peer.answer(samples, list(text.before), list(text.after))
        return clock()

    contenders = {"ours": Contender(heard.finish, heard.rest), "theirs": Contender(theirs)}
    spent = {side: 1000 * s for side, s in medians(alternate(contenders, bench.rounds)).items()}
    target = spent["theirs"] / WANTED_FIRST_MS
    shares = {"where": heard.shares()}
    return Result(FIRST, spent["ours"], spent["theirs"], None, bench.rounds, target, shares)


@torch.inference_mode()
def _encoder_step(bench: Bench, ours: Stages) -> Result:
    encoder, streams = ours.encoder, 2 if bench.small else SESSIONS
    sound = torch.from_numpy(sounds.noise(0.32)).to(bench.device).expand(streams, -1)
    state = encoder.init_state(streams)
    for chunk in sound.split(encoder.stride, dim=1):
        _, state = encoder.step(chunk, state)
    steps = EncoderSteps(encoder, ours.translate.embedder, state)
    chunk = sound[:, : encoder.stride]
    spent = alternate({"ours": Contender(lambda _: _read(steps.step(chunk)))}, 5 * bench.rounds)
    ms = 1000 * medians(spent)["ours"]
    return Result(STEP, ms, WANTED_STEP_MS, rounds=5 * bench.rounds)


@torch.inference_mode()
def _update(bench: Bench, ours: Stages) -> Result:
    """What sessions that heard five seconds ask for at once: a draft checked, and a few tokens."""
    model, sessions = ours.model, 2 if bench.small else SESSIONS
    ids = prompt(model, PROMPT // 2)
    new, next_id = prompt(model, FRESH + DRAFT), prompt(model, 1)
    caches = [model.new_cache() for _ in range(sessions)]
    for cache in caches:
        model.extend(model.embed(ids), ids, cache)

    def update(_: object) -> None:
        for tokens, wanted in ((new, DRAFT), *[(next_id, 1)] * MORE):
            embedded = model.embed(tokens)
            asked = [Request(cache, tokens, embedded, wanted) for cache in caches]
            _read(torch.cat([found[-1:] for found in model.answer_together(asked)]).argmax(-1))
        for cache in caches:
            cache.truncate(ids.shape[1])

    rounds = 3 * bench.rounds
    seconds = sorted(alternate({"ours": Contender(update)}, rounds)["ours"])
    p95 = 1000 * seconds[round(0.95 * (rounds - 1))]
    detail = {"sessions": sessions, "median_ms": round(1000 * statistics.median(seconds), 1)}
    return Result(UPDATE, p95, WANTED_UPDATE_MS, None, rounds, detail=detail)


def _memory(bench: Bench, ours: Stages) -> Result:
    theirs = bench.peer("E2B").model.model
    table = ours.model.embed_tokens_per_layer.weight.nbytes
    own = _bytes(ours.model) + _bytes(ours.encoder) - table
    detail = {"table_on_the_host_gb": round(table / 1e9, 2)}
    peers = _bytes(theirs.language_model) + _bytes(theirs.audio_tower)
    return Result(MEMORY, own / 1e9, peers / 1e9, detail=detail)


def _bytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


def _read(tensor: Tensor) -> None:
    """Brings one number to the host, as a session does."""
    tensor.flatten()[0].item()


MEASUREMENTS = (Measurement("gpu", ROWS, gpu),)
