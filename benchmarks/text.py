"""The language model alone: prompts of several lengths, and decoding token by token.

Both sides get the same ids and the same weights. A prompt counts until its last position's logits
are there; decoding feeds back the likeliest token, which both sides choose themselves.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks import limits, profile
from benchmarks.context import Bench
from benchmarks.machine import Beside
from benchmarks.ours import FORMS
from benchmarks.peer import Peer
from benchmarks.rows import Measurement, Result, Row
from benchmarks.timing import Contender, alternate, medians
from dragoman.decoder import LanguageModel

LENGTHS = (64, 256, 512)
PROMPT = 128  # tokens before the decoded ones
STEPS = 8  # tokens a round
TOKENS_S = "tokens/s"


def _prefill_row(length: int, size: str, form: str) -> Row:
    targets = {"E2B": 2.0, "E4B": 2.3}
    return Row(
        f"prefill_{length}_{form}" + _suffix(size),
        f"prompt of {length} tokens, {size}, {form}",
        TOKENS_S,
        higher=True,
        target=targets[size] if length >= 256 and form == "bf16" else None,
    )


def _decode_row(form: str, size: str) -> Row:
    targets = {"bf16": (1.9, 0.80), "bf12": (1.9, 0.80), "int8": (3.0, 0.65), "int4": (4.8, 0.60)}
    target, limit = targets[form] if size == "E2B" else (None, None)
    title = f"decoding, {size}, {form}"
    name = f"decode_{form}" + _suffix(size)
    return Row(name, title, TOKENS_S, higher=True, target=target, limit_target=limit)


def _suffix(size: str) -> str:
    return "" if size == "E2B" else f"_{size.lower()}"


def prefill(bench: Bench, rows: Mapping[int, Row], size: str, form: str) -> Iterable[Result]:
    """Prompts of the lengths that have ``rows``; the peer is transformers in bf16."""
    ours, theirs = bench.model(size, form), bench.peer(size)
    work, weights = limits.prompt_work(ours.config), limits.read_bytes(ours)
    for length, row in rows.items():
        ids, beside = prompt(ours, length), bench.beside(products=True)
        contenders = {
            "ours": Contender(lambda _, ids=ids: prefill_ours(ours, ids)),
            "theirs": Contender(lambda _, ids=ids: prefill_theirs(theirs, ids)),
            "machine": beside.contender,
        }
        spent = medians(alternate(contenders, bench.rounds))
        least = beside.seconds(weights, work.flops(length))
        detail = beside.detail(weights)
        if length == LENGTHS[-1]:
            detail["profile"] = profile.shares(lambda ids=ids: prefill_ours(ours, ids))
        ours_s, theirs_s = (length / spent[side] for side in ("ours", "theirs"))
        yield Result(row, ours_s, theirs_s, length / least, bench.rounds, detail=detail)


def decode(bench: Bench, row: Row, size: str, form: str) -> Iterable[Result]:
    """Tokens behind a prompt; the peer is transformers in bf16, whatever our form is."""
    ours, theirs = bench.model(size, form), bench.peer(size)
    ids, beside = prompt(ours, PROMPT), bench.beside()
    contenders = {
        "ours": Contender(stepper(*own_step(ours, ids))),
        "theirs": Contender(stepper(*their_step(theirs, ids))),
        "machine": beside.contender,
    }
    spent = medians(alternate(contenders, bench.rounds))
    most, detail = decoding_limit(ours, beside)
    one_round = stepper(*own_step(ours, ids[:, :8]))
    detail["profile"] = profile.shares(lambda: one_round(None))
    ours_s, theirs_s = (STEPS / spent[side] for side in ("ours", "theirs"))
    yield Result(row, ours_s, theirs_s, most, bench.rounds, detail=detail)


def decoding_limit(model: LanguageModel, beside: Beside) -> tuple[float, dict[str, Any]]:
    """Tokens/s at most, by the bytes that our code reads for one; and what was counted."""
    weights = limits.read_bytes(model)
    return 1 / beside.seconds(weights), beside.detail(weights)


def prompt(model: LanguageModel, length: int) -> Tensor:
    """Ids [1, L] of text, the same for every run."""
    top = model.config.vocab_size_per_layer_input
    generator = torch.Generator().manual_seed(length)
    return torch.randint(300, top, (1, length), generator=generator).to(model.device)


def prefill_ours(model: LanguageModel, ids: Tensor) -> None:
    cache = model.new_cache(1, ids.shape[1] + STEPS)
    model.prefill(model.embed(ids), ids, cache).argmax(-1).item()


def prefill_theirs(peer: Peer, ids: Tensor) -> None:
    peer.text(ids, peer.new_cache()).argmax(-1).item()


Step = Callable[[Tensor], Tensor]  # an id [1] to the logits [1, V] after it


def own_step(model: LanguageModel, ids: Tensor) -> tuple[Step, Tensor]:
    """A step behind the prompt ``ids``, and the first token to take it."""
    cache = model.new_cache(1, 1024)
    first = model.prefill(model.embed(ids), ids, cache).argmax(-1)
    return (lambda token: model.step(token, cache)), first


def their_step(peer: Peer, ids: Tensor) -> tuple[Step, Tensor]:
    cache = peer.new_cache()
    first = peer.text(ids, cache).argmax(-1)
    return (lambda token: peer.text(token[:, None], cache)), first


def stepper(step: Step, token: Tensor, count: int = STEPS) -> Callable[[object], None]:
    """Decodes so many tokens a call, each behind the last."""

    def run(_: object) -> None:
        nonlocal token
        for _ in range(count):
            token = step(token).argmax(-1)
        token.item()

    return run


def _measure_prefill(size: str, form: str, lengths: Sequence[int]) -> Measurement:
    rows = {length: _prefill_row(length, size, form) for length in lengths}
    run = partial(prefill, rows=rows, size=size, form=form)
    name = "prefill" + ("" if form == "bf16" else f"_{form}") + _suffix(size)
    return Measurement(name, tuple(rows.values()), run, heavy=size != "E2B")


def _measure_decode(size: str, form: str) -> Measurement:
    row = _decode_row(form, size)
    run = partial(decode, row=row, size=size, form=form)
    return Measurement(row.name, (row,), run, heavy=size != "E2B")


# bf12 unpacks its weights for a long prompt: what that costs, one length shows.
PREFILL = {
    "bf16": _measure_prefill("E2B", "bf16", LENGTHS),
    "bf12": _measure_prefill("E2B", "bf12", LENGTHS[-1:]),
}
DECODE = {form: _measure_decode("E2B", form) for form in FORMS}
LARGE = (_measure_prefill("E4B", "bf16", LENGTHS), _measure_decode("E4B", "bf16"))
