"""The language model alone: prompts of several lengths, and decoding token by token.

Both sides get the same ids and the same weights. A prompt counts until its last position's logits
are there; decoding feeds back the likeliest token, which both sides choose themselves.
"""

import statistics
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from benchmarks import limits, machine, profile
from benchmarks.context import Bench
from benchmarks.peer import Peer
from benchmarks.rows import Measurement, Result, Row
from benchmarks.timing import Contender, alternate, medians
from decoder import LanguageModel

LENGTHS = (64, 256, 512)
PROMPT = 128  # tokens before the decoded ones
STEPS = 8  # tokens a round
READS = 3  # of a large array in a round; the quickest counts
TOKENS_S = "tokens/s"


def _prefill_row(length: int, size: str) -> Row:
    targets = {"E2B": 2.0, "E4B": 2.3}
    return Row(
        f"prefill_{length}_bf16" + _suffix(size),
        f"prompt of {length} tokens, {size}, bf16",
        TOKENS_S,
        higher=True,
        target=targets[size] if length >= 256 else None,
    )


def _decode_row(form: str, size: str) -> Row:
    targets = {"bf16": (1.9, 0.80), "int8": (3.0, 0.65), "int4": (4.8, 0.60)}
    target, limit = targets[form] if size == "E2B" else (None, None)
    title = f"decoding, {size}, {form}"
    name = f"decode_{form}" + _suffix(size)
    return Row(name, title, TOKENS_S, higher=True, target=target, limit_target=limit)


def _suffix(size: str) -> str:
    return "" if size == "E2B" else f"_{size.lower()}"


PREFILL = {(n, size): _prefill_row(n, size) for size in ("E2B", "E4B") for n in LENGTHS}
DECODE = {
    (form, size): _decode_row(form, size)
    for form, size in (("bf16", "E2B"), ("int8", "E2B"), ("int4", "E2B"), ("bf16", "E4B"))
}


def prefill(bench: Bench, size: str) -> Iterable[Result]:
    """Prompts, bf16, against transformers."""
    ours, theirs = bench.model(size), bench.peer(size)
    work, weights = limits.prompt_work(ours), limits.read_bytes(ours)
    for length in LENGTHS:
        ids = prompt(ours, length)
        contenders = {
            "ours": Contender(lambda _, ids=ids: prefill_ours(ours, ids)),
            "theirs": Contender(lambda _, ids=ids: _prefill_theirs(theirs, ids)),
        }
        spent = medians(alternate(contenders, bench.rounds))
        least = bench.machine.seconds(weights, work.flops(length))
        detail = {}
        if length == LENGTHS[-1]:
            detail["profile"] = profile.shares(lambda ids=ids: prefill_ours(ours, ids))
        yield Result(
            PREFILL[length, size],
            length / spent["ours"],
            length / spent["theirs"],
            length / least,
            bench.rounds,
            detail=detail,
        )


def decode(bench: Bench, size: str, form: str) -> Iterable[Result]:
    """Tokens behind a prompt; the peer is transformers in bf16, whatever our form is.

    On a shared machine memory is quick and slow by turns, so its speed is measured in every round.
    """
    ours, theirs = bench.model(size, form), bench.peer(size)
    ids, reading = prompt(ours, PROMPT), machine.Reading(bench.device, 0.1 if bench.small else 1.0)
    bandwidths: list[float] = []
    spent = medians(
        alternate(
            {
                "ours": Contender(stepper(*own_step(ours, ids))),
                "theirs": Contender(stepper(*_theirs(theirs, ids))),
                "memory": Contender(lambda _: bandwidths.append(reading.bandwidth(READS))),
            },
            bench.rounds,
        )
    )
    weights, closed = limits.read_bytes(ours), limits.closed_bytes(ours)
    bandwidth = statistics.median(bandwidths[1:])
    one_round = stepper(*own_step(ours, ids[:, :8]))
    detail = {
        "weights_gb": round(weights / 1e9, 3),
        "of_that_behind_closed_gates_gb": round(closed / 1e9, 3),
        "reads_gb_s": round(bandwidth / 1e9, 1),
        "profile": profile.shares(lambda: one_round(None)),
    }
    yield Result(
        DECODE[form, size],
        STEPS / spent["ours"],
        STEPS / spent["theirs"],
        bandwidth / (weights - closed),
        bench.rounds,
        detail=detail,
    )


def prompt(model: LanguageModel, length: int) -> Tensor:
    """Ids [1, L] of text, the same for every run."""
    top = model.config.vocab_size_per_layer_input
    generator = torch.Generator().manual_seed(length)
    return torch.randint(300, top, (1, length), generator=generator).to(model.device)


def prefill_ours(model: LanguageModel, ids: Tensor) -> None:
    cache = model.new_cache(1, ids.shape[1] + STEPS)
    model.prefill(model.embed(ids), ids, cache).argmax(-1).item()


def _prefill_theirs(peer: Peer, ids: Tensor) -> None:
    peer.text(ids, peer.new_cache()).argmax(-1).item()


Step = Callable[[Tensor], Tensor]  # an id [1] to the logits [1, V] after it


def own_step(model: LanguageModel, ids: Tensor) -> tuple[Step, Tensor]:
    """A step behind the prompt ``ids``, and the first token to take it."""
    cache = model.new_cache(1, 1024)
    first = model.prefill(model.embed(ids), ids, cache).argmax(-1)
    return (lambda token: model.step(token, cache)), first


def _theirs(peer: Peer, ids: Tensor) -> tuple[Step, Tensor]:
    cache = peer.new_cache()
    first = peer.text(ids, cache).argmax(-1)
    return (lambda token: peer.text(token[:, None], cache)), first


def stepper(step: Step, token: Tensor) -> Callable[[object], None]:
    """Decodes STEPS tokens a call, each behind the last."""

    def run(_: object) -> None:
        nonlocal token
        for _ in range(STEPS):
            token = step(token).argmax(-1)
        token.item()

    return run


def _measure_prefill(size: str, heavy: bool) -> Measurement:
    rows = tuple(row for (_, wanted), row in PREFILL.items() if wanted == size)
    return Measurement(f"prefill{_suffix(size)}", rows, lambda b: prefill(b, size), heavy)


def _measure_decode(form: str, size: str) -> Measurement:
    row = DECODE[form, size]
    return Measurement(row.name, (row,), lambda b: decode(b, size, form), heavy=size != "E2B")


MEASUREMENTS = (
    _measure_prefill("E2B", heavy=False),
    *(_measure_decode(form, "E2B") for form in ("bf16", "int8", "int4")),
)
LARGE = (_measure_prefill("E4B", heavy=True), _measure_decode("bf16", "E4B"))
