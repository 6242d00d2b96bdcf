"""What a GPU does, beside transformers on the same card: the rows that `benchmarks.gpu` measures.

Everything goes the command's own way: passes of the decoder and steps of the encoder are CUDA
graphs (:mod:`kernels.graphs`) but for the row that says otherwise. Where the aim is a figure of its
own, such as 40 ms, the "peer" is that figure. Unusual: a row that fails is told with the end of its
traceback, and the others go on; one that would begin too late is left out.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from benchmarks import profile, sounds
from benchmarks.answers import Heard
from benchmarks.checkpoint import SIZES
from benchmarks.context import Bench
from benchmarks.gpu_checks import told
from benchmarks.gpu_models import Card, made
from benchmarks.ours import SCHEMES, Stages
from benchmarks.peer import Peer
from benchmarks.rows import Measurement, Result, Row, Unavailable
from benchmarks.text import PROMPT, prefill_ours, prefill_theirs, prompt, their_step
from benchmarks.timing import Contender, alternate, clock, medians
from dragoman.decoder import LanguageModel
from dragoman.decoder.packed import Request
from dragoman.decoder.quantize import quantize
from dragoman.encoders import split_state, stack_states
from dragoman.kernels import accelerate, graphed, graphs
from dragoman.models import prompt as prompts

STEPS = 64  # tokens a round
SESSIONS = 64
UTTERANCE_S = 5
DRAFT, FRESH, MORE = 12, 4, 3  # tokens of an update: drafted, heard since, decoded behind
SHOWN, PROFILED = 24, 4  # kernels of a profile, and tokens that it is of
WANTED_RATE, WANTED_FIRST_MS, WANTED_STEP_MS, WANTED_UPDATE_MS = 250.0, 40.0, 40.0, 500.0

DECODE = Row("gpu_decode_bf16", "decoding, E2B, bf16, CUDA graph", "tokens/s", True, target=3.0)
EAGER = Row("gpu_decode_eager", "decoding, E2B, bf16, without a graph", "tokens/s", True)
INT8 = Row("gpu_decode_int8", "decoding, E2B, int8", "tokens/s", True)
INT4 = Row("gpu_decode_int4", "decoding, E2B, int4", "tokens/s", True)
PREFILL = Row("gpu_prefill_512", "prompt of 512 tokens, E2B, bf16", "tokens/s", True, target=2.0)
FIRST = Row(
    "gpu_first_token", f"end of speech to first token, {UTTERANCE_S} s, E2B, bf16", "ms", False
)
STEP = Row(
    "gpu_encoder_64", "a 160 ms step of the encoder for 64 streams", "ms", False,
    peer="wanted", target=1.0,
)  # fmt: skip
UPDATE = Row(
    "gpu_update_64", "an update of 64 live sessions together, 95th percentile", "ms", False,
    peer="wanted", target=1.0,
)  # fmt: skip
MEMORY = Row("gpu_memory", "weights on the card, E2B, bf16", "GB", False)
ROWS = (DECODE, EAGER, PREFILL, FIRST, STEP, UPDATE, MEMORY, INT8, INT4)


@dataclass(frozen=True)
class Missed:
    """A row that could not be measured, and why."""

    row: Row
    reason: str


class Sides:
    """Both sides on a card, each made when a row first wants it."""

    def __init__(self, card: Card) -> None:
        self.card, self._absent = card, ""

    @cached_property
    def ours(self) -> Stages:
        return self.card.stages(self.card.language_model())

    @cached_property
    def _peer(self) -> Peer | None:
        try:
            return self.card.peer()
        except Exception:
            self._absent = told()
            return None

    @property
    def peer(self) -> Peer:
        """Raises Unavailable where it could not be made."""
        if self._peer is None:
            raise Unavailable(f"transformers' model was not made: {self._absent}")
        return self._peer


def gpu(bench: Bench) -> Iterator[Result]:
    """All rows; Unavailable without a GPU, and where one could not be measured."""
    if bench.device == "cpu" and not bench.small:
        raise Unavailable("no GPU was at hand: run `python -m benchmarks.gpu` on one")
    card = made(SIZES["tiny" if bench.small else "E2B"], bench.device, bench.small)
    for found in measured(card):
        if isinstance(found, Missed):
            raise Unavailable(found.reason)
        yield found


def measured(card: Card, until: float = float("inf")) -> Iterator[Result | Missed]:
    """Every row, or why there is none; none begins later than ``until``, of time.monotonic."""
    sides = Sides(card)
    for row, measure in WORK.items():
        if time.monotonic() > until:
            yield Missed(row, "no time was left")
            continue
        try:
            yield from measure(sides)
        except Exception:
            yield Missed(row, told())


def _decoding(sides: Sides) -> Iterable[Result]:
    model, rounds = sides.ours.model, sides.card.rounds
    count = _steps(sides.card)
    ours = _ours(model, count)
    spent = medians(
        alternate(
            {
                "recorded": ours,
                "eager": replace(ours, work=lambda given: _unrecorded(ours, given)),
                "theirs": _theirs(sides, model, count),
            },
            rounds,
        )
    )
    rates = {side: count / seconds for side, seconds in spent.items()}
    few = _ours(model, PROFILED)
    detail = _profile(lambda: few.work(few.prepare())) | _recordings(model)
    target = max(3.0, WANTED_RATE / rates["theirs"])
    yield Result(DECODE, rates["recorded"], rates["theirs"], None, rounds, target, detail)
    yield Result(EAGER, rates["eager"], rates["theirs"], rounds=rounds)


def _quantized(row: Row, form: str, sides: Sides) -> Iterable[Result]:
    """Beside transformers in bf16."""
    card, count = sides.card, _steps(sides.card)
    model = accelerate(quantize(card.language_model(), SCHEMES[form]))
    contenders = {
        "ours": _ours(model, count),
        "theirs": _theirs(sides, model, count),
    }
    spent = medians(alternate(contenders, card.rounds))
    ours, theirs = count / spent["ours"], count / spent["theirs"]
    yield Result(row, ours, theirs, rounds=card.rounds)


def _steps(card: Card) -> int:
    return 4 if card.small else STEPS


def _recordings(model: LanguageModel) -> dict[str, object]:
    """How many there are, and why they failed if they did."""
    if not isinstance(model, graphed.GraphedLanguageModel):
        return {}
    return {"recordings": len(model.recorded), "recording_error": model.recorded.error}


def _profile(work: Callable[[], object]) -> dict[str, object]:
    """Where a round's time goes, by kernel: name, share, calls."""
    try:
        return {"profile": [(name[:90], *rest) for name, *rest in profile.shares(work, SHOWN)]}
    except RuntimeError as error:  # the driver may not allow it
        return {"profile": str(error)}


def _unrecorded(contender: Contender, given: object) -> None:
    with graphs.off():
        contender.work(given)


def _ours(model: LanguageModel, count: int) -> Contender:
    """So many tokens a round behind one prompt, each told to the host as a session does it."""
    ids, cache = prompt(model, PROMPT), model.new_cache(1, 1024)
    first = model.prefill(model.embed(ids), ids, cache).argmax(-1)
    work = _telling(lambda token: model.step(token, cache), first, count)
    return Contender(work, lambda: cache.truncate(PROMPT))


def _theirs(sides: Sides, model: LanguageModel, count: int) -> Contender:
    return Contender(_telling(*their_step(sides.peer, prompt(model, PROMPT)), count))


def _telling(
    step: Callable[[Tensor], Tensor], first: Tensor, count: int
) -> Callable[[object], None]:
    def run(_: object) -> None:
        token = first
        for _ in range(count):
            token = step(token).argmax(-1)
            token.item()

    return run


def _prompt(sides: Sides) -> Iterable[Result]:
    model, peer, rounds = sides.ours.model, sides.peer, 3 * sides.card.rounds
    ids = prompt(model, 512)
    contenders = {
        "ours": Contender(lambda _: prefill_ours(model, ids)),
        "theirs": Contender(lambda _: prefill_theirs(peer, ids)),
    }
    spent = medians(alternate(contenders, rounds))
    detail = _profile(lambda: prefill_ours(model, ids))
    ours, theirs = (512 / spent[side] for side in ("ours", "theirs"))
    yield Result(PREFILL, ours, theirs, rounds=rounds, detail=detail)


def _first_token(sides: Sides) -> Iterable[Result]:
    """The last 160 ms through the encoder and the suffix behind it, against a whole answer."""
    ours, peer, rounds = sides.ours, sides.peer, sides.card.rounds
    samples = sounds.noise(1 if sides.card.small else UTTERANCE_S)
    text = prompts.build(ours.translate.tokenizer, "es", "en")
    heard = Heard(ours, samples)

    def theirs(_: object) -> float:
        peer.answer(samples, list(text.before), list(text.after))
        return clock()

    contenders = {"ours": Contender(heard.finish, heard.rest), "theirs": Contender(theirs)}
    spent = {side: 1000 * s for side, s in medians(alternate(contenders, rounds)).items()}
    target = spent["theirs"] / WANTED_FIRST_MS
    shares = {"where": heard.shares()}
    yield Result(FIRST, spent["ours"], spent["theirs"], None, rounds, target, shares)


@torch.inference_mode()
def _encoder_step(sides: Sides) -> Iterable[Result]:
    """Of sessions that stand alike, as the stage does it: joined, stepped, and parted again."""
    card, encoder, embedder = sides.card, sides.ours.encoder, sides.ours.translate.embedder
    streams, rounds = 2 if card.small else SESSIONS, 5 * card.rounds
    sound = torch.from_numpy(sounds.noise(0.32)).to(card.device).expand(streams, -1)
    state = encoder.init_state(streams)
    for chunk in sound.split(encoder.stride, dim=1):
        _, state = encoder.step(chunk, state)
    states, chunk = split_state(state), sound[:, : encoder.stride]

    def step(_: object) -> None:
        features, after = encoder.step(chunk, stack_states(states))
        split_state(after)
        embedder.soft(features).float().cpu()

    ms = 1000 * medians(alternate({"ours": Contender(step)}, rounds))["ours"]
    yield Result(STEP, ms, WANTED_STEP_MS, rounds=rounds)


@torch.inference_mode()
def _update(sides: Sides) -> Iterable[Result]:
    """What sessions that heard five seconds ask for at once: a draft checked, and a few tokens."""
    model, sessions = sides.ours.model, 2 if sides.card.small else SESSIONS
    ids = prompt(model, PROMPT // 2)
    new, next_id = prompt(model, FRESH + DRAFT), prompt(model, 1)
    caches = [model.new_cache() for _ in range(sessions)]
    for cache in caches:
        model.extend(model.embed(ids), ids, cache)

    def update(_: object) -> None:
        for tokens, wanted in ((new, DRAFT), *[(next_id, 1)] * MORE):
            embedded = model.embed(tokens)
            asked = [Request(cache, tokens, embedded, wanted) for cache in caches]
            found = model.answer_together(asked)
            torch.cat([logits[-1:] for logits in found]).argmax(-1).tolist()
        for cache in caches:
            cache.truncate(ids.shape[1])

    rounds = 7 * sides.card.rounds
    seconds = sorted(alternate({"ours": Contender(update)}, rounds)["ours"])
    p95 = 1000 * seconds[round(0.95 * (rounds - 1))]
    detail = {"sessions": sessions, "median_ms": round(1000 * statistics.median(seconds), 1)}
    yield Result(UPDATE, p95, WANTED_UPDATE_MS, None, rounds, detail=detail)


def _memory(sides: Sides) -> Iterable[Result]:
    theirs, ours = sides.peer.model.model, sides.ours
    table = ours.model.embed_tokens_per_layer.weight
    own = _bytes(ours.model) + _bytes(ours.encoder) - table.nbytes
    detail = {"table_on_the_host_gb": round(table.nbytes / 1e9, 2), "pinned": table.is_pinned()}
    peers = _bytes(theirs.language_model) + _bytes(theirs.audio_tower)
    yield Result(MEMORY, own / 1e9, peers / 1e9, detail=detail)


def _bytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


WORK: dict[Row, Callable[[Sides], Iterable[Result]]] = {
    DECODE: _decoding,  # and EAGER
    PREFILL: _prompt,
    FIRST: _first_token,
    STEP: _encoder_step,
    UPDATE: _update,
    MEMORY: _memory,
    INT8: lambda sides: _quantized(INT8, "int8", sides),
    INT4: lambda sides: _quantized(INT4, "int4", sides),
}
MEASUREMENTS = (Measurement("gpu", ROWS, gpu),)
