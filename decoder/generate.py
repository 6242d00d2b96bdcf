"""Greedy decoding from a cache, with a draft checked in one pass.

Streaming re-decodes almost the same text many times: what was said a moment ago is the draft now.
Unusual: the first answer of the draft costs no pass (its logits are known already), so a draft
that is wrong from the start is free.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dragoman.decoder.cache import KVCache
from dragoman.decoder.model import LanguageModel

ROWS = 4  # of logits that are copied at a time


@dataclass(frozen=True)
class Generation:
    """What `greedy` found.

    tokens: forced and decoded ids, without a stop id; stopped: ended by a stop id, not by
        `max_tokens`;
    drafted, accepted: how many draft ids were offered and kept; passes: how often the model ran.
    """

    tokens: tuple[int, ...]
    stopped: bool
    drafted: int
    accepted: int
    passes: int


def greedy(
    model: LanguageModel,
    cache: KVCache,
    logits: Tensor,
    max_tokens: int,
    stop_ids: Collection[int],
    *,
    forced: Sequence[int] = (),
    draft: Sequence[int] = (),
    suppress: Tensor | None = None,
) -> Generation:
    """Decode the likeliest token again and again; ties go to the lowest id.

    cache: batch 1, holding the prompt; the model runs at its size.
    logits: [V] or [1, V], the model's answer at the prompt's last position.
    forced: ids that stand at the start of the answer whatever the model thinks (committed text).
    draft: a guess of what follows `forced`. It is checked together with `forced` in one pass; the
        longest prefix that greedy decoding would have chosen is kept. It changes the cost, never
        the result.
    suppress: bool [V], True for ids never to be chosen; `forced` is exempt.
    max_tokens bounds the answer, `forced` included.
    Afterwards the cache holds the prompt and some or all of the answer: truncate it to the
    prompt's length to ask again. Raises ValueError for a cache of several rows and for a `forced`
    longer than `max_tokens` or holding a stop id.
    """
    if cache.batch != 1:
        raise ValueError(f"greedy decodes one row, got a cache of {cache.batch}")
    if len(forced) > max_tokens or not set(forced).isdisjoint(stop_ids):
        raise ValueError(
            f"forced must have at most max_tokens ({max_tokens}) ids and no stop id "
            f"({sorted(stop_ids)}), got {len(forced)} ids: {list(forced)}; cut it first"
        )
    tokens, passes = list(forced), 0
    following = choices(logits.reshape(1, -1), suppress)[0]
    guess = _usable(draft, max_tokens - len(tokens), stop_ids)
    if not forced and guess and guess[0] != following:
        guess = []
    if forced or guess:
        start = cache.length
        ids = torch.tensor([[*forced, *guess]], device=logits.device)
        chosen = [following, *choices(model.verify(ids, cache)[0], suppress)]
        passes += 1
        chosen = chosen[len(forced) :]
        kept = _common_prefix(guess, chosen)
        tokens += guess[:kept]
        following = chosen[kept]
        cache.truncate(start + len(tokens))
    accepted = len(tokens) - len(forced)
    while len(tokens) < max_tokens and following not in stop_ids:
        tokens.append(following)
        if len(tokens) < max_tokens:
            ids = torch.tensor([following], device=logits.device)
            following = choices(model.step(ids, cache), suppress)[0]
            passes += 1
    stopped = len(tokens) < max_tokens
    return Generation(tuple(tokens), stopped, len(draft), accepted, passes)


def choices(logits: Tensor, suppress: Tensor | None) -> list[int]:
    """The likeliest allowed id of each row [L, V]; of equal ones the lowest.

    Unusual: a few rows at a time, since a long draft has hundreds of them, of a megabyte each.
    """
    chosen = []
    for some in logits.split(ROWS):
        if suppress is not None:
            some = some.masked_fill(suppress, float("-inf"))
        chosen.append(some.argmax(-1))
    return torch.cat(chosen).tolist()


def _usable(draft: Sequence[int], room: int, stop_ids: Collection[int]) -> list[int]:
    """The draft up to its first stop id, at most `room` long."""
    usable = []
    for token in draft[:room]:
        if token in stop_ids:
            break
        usable.append(token)
    return usable


def _common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many leading entries of `a` and `b` agree."""
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))
