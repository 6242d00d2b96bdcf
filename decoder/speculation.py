"""Speculative decoding, greedy: one pass of the model verifies a whole draft (arXiv:2211.17192).

The translate stage asks the same question again and again and gets almost the same answer, so the
draft is the previous answer and no second model is needed. `Lookahead` keeps what the cache holds
behind a prompt, and the model's choices there. An answer that was guessed right costs no pass of
its own, and one pass verifies a draft over several texts (an old transcript, a separator, its old
translation). The prompt's end, which is the newest sound, goes along with the first pass. A draft
changes the cost, never the result.

Unusual: the caller names the whole answer so far and not a step, so nothing has to be undone.
Logits are computed only where a choice is open, because the head is a large table. How
probable the ids of an answer are is read from the same logits, so it costs no pass either. What
needs the model is a decoding (see :mod:`decoder.batching`), so that many can share its passes.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from dragoman.decoder.batching import Decoding
from dragoman.decoder.cache import KVCache
from dragoman.decoder.model import LanguageModel
from dragoman.decoder.packed import Request

ROWS = 4  # of logits that are copied at a time


class Lookahead:
    """What the model would say next, behind one prompt.

    cache: batch 1, holding the prompt but for its end.
    embeddings: float [1, L, D] and ids: int [1, L], L >= 1, the prompt's end.
    suppress: bool [V], True for ids never to be chosen.
    temperature: what logits are divided by before they are probabilities; no choice depends on it.
    Meanwhile the cache holds what was asked and guessed; `keep` ends that. `passes` counts how
    often the model ran. Raises ValueError for a cache of several rows.
    """

    def __init__(
        self,
        model: LanguageModel,
        cache: KVCache,
        embeddings: Tensor,
        ids: Tensor,
        suppress: Tensor | None = None,
        temperature: float = 1.0,
    ):
        if cache.batch != 1:
            raise ValueError(f"speculative decoding is of one row, got a cache of {cache.batch}")
        self._model, self._cache, self._suppress = model, cache, suppress
        self._end, self._end_ids = embeddings, ids
        self._begin, self._start = cache.length, cache.length + ids.shape[1]
        self._ids: list[int] = []  # what the cache holds behind the prompt
        self._choices: dict[int, int] = {}  # the model's choice behind so many of them
        self._temperature = temperature
        self._chances: dict[tuple[int, int], float] = {}  # of an id behind so many of them
        self.passes = 0

    def after(
        self, answer: Sequence[int], guess: Sequence[int] = (), judged: int = 0
    ) -> Decoding[int]:
        """The likeliest id after the prompt and `answer`; of equal ones the lowest.

        guess: what may follow `answer`. If a pass is needed, it goes along.
        judged: how many of the last ids of `answer` shall have a chance, see `chances`.
        Raises ValueError where prompt and `answer` exceed the model's context.
        """
        agreed = _common_prefix(self._ids, answer)
        if agreed < len(answer) or agreed not in self._choices:
            kept = min(agreed, len(answer) - 1 - judged)
            yield from self._run(kept, answer, guess, judged)
        return self._choices[len(answer)]

    def chances(self, before: int, ids: Sequence[int]) -> list[float | None]:
        """How probable each of ``ids`` is where it stands: the first behind ``before`` ids, each
        further one behind those before it. None for an id that was given and not judged.
        """
        return [self._chances.get((before + place, token)) for place, token in enumerate(ids)]

    def text(
        self,
        before: Sequence[int],
        forced: Sequence[int],
        guess: Sequence[int],
        max_tokens: int,
        stop_ids: Collection[int],
        halt: Callable[[list[int]], bool] = lambda tokens: False,
        judge: bool = False,
    ) -> Decoding[list[int]]:
        """Decode one text: `forced` and the likeliest ids behind it, without a stop id.

        before: all ids between the prompt and the text.
        forced: ids that stand at its start whatever the model thinks (committed text).
        guess: what may follow `forced`: the rest of the text, and what may stand behind it.
        halt: whether the text so far is not worth going on with, as one that repeats itself.
        judge: whether `forced` shall have chances, too: the first pass computes its logits.
        max_tokens bounds the text, `forced` included. Raises ValueError for a longer `forced`.
        """
        if len(forced) > max_tokens:
            raise ValueError(f"forced has {len(forced)} ids, at most max_tokens ({max_tokens}) fit")
        tokens = list(forced)
        while len(tokens) < max_tokens and not halt(tokens):
            judged = len(forced) if judge and len(tokens) == len(forced) else 0
            chosen = yield from self.after([*before, *tokens], guess, judged)
            if chosen in stop_ids:
                break
            tokens.append(chosen)
            guess = ()
        return tokens

    def keep(self, count: int) -> Decoding[None]:
        """Cut the cache back to the prompt with `count` ids of its end, even if nothing was asked;
        the last that may be done here.
        """
        if self._cache.length == self._begin and count:
            yield Request(self._cache, self._end_ids[:, :count], self._end[:, :count], 0)
        self._cache.truncate(self._begin + count)

    def _run(
        self, kept: int, answer: Sequence[int], guess: Sequence[int], judged: int
    ) -> Decoding[None]:
        """One pass behind the first `kept` ids; where there is no choice to stand on (at first, or
        `kept` of -1) it begins with the prompt's end. Of `guess` it takes what the context holds.
        """
        whole = kept < 0 or self._cache.length == self._begin
        kept = max(kept, 0)
        self._cache.truncate(self._begin if whole else self._start + kept)
        guess = guess[: max(0, self._cache.limit - self._start - len(answer))]
        new = [*answer[kept:], *guess]
        ids = torch.tensor([new], dtype=torch.long, device=self._model.device)
        embeddings = self._model.embed(ids)
        if whole:
            ids = torch.cat((self._end_ids, ids), 1)
            embeddings = torch.cat((self._end, embeddings), 1)
        logits = yield Request(self._cache, ids, embeddings, 1 + len(guess) + judged)
        self._ids[kept:] = new
        self._choices = {n: choice for n, choice in self._choices.items() if n <= kept}
        self._chances = {at: chance for at, chance in self._chances.items() if at[0] <= kept}
        self._note(logits, len(answer) - judged)
        self.passes += 1

    def _note(self, logits: Tensor, first: int) -> None:
        """Takes choices and chances from logits [L, V], the first behind `first` ids."""
        chosen = choices(logits, self._suppress)
        self._choices |= dict(enumerate(chosen, start=first))
        known = chances(logits, chosen, self._temperature, self._suppress)
        self._chances |= {(first + n, chosen[n]): chance for n, chance in enumerate(known)}
        given = self._ids[first : first + len(chosen)]
        other = [n for n, token in enumerate(given) if token != chosen[n]]
        if other:
            rows, ids = logits[other], [given[n] for n in other]
            known = chances(rows, ids, self._temperature, self._suppress)
            self._chances |= {
                (first + n, given[n]): chance for n, chance in zip(other, known, strict=True)
            }


def chances(
    logits: Tensor, ids: Sequence[int], temperature: float, suppress: Tensor | None
) -> list[float]:
    """The probability of each of `ids` [L] by its row of logits [L, V], divided by `temperature`;
    among the ids that are not suppressed, so that of a suppressed one is 0.
    """
    known: list[Tensor] = []
    wanted = torch.tensor(ids, device=logits.device)[:, None]
    for some, of_them in zip(torch.split(logits, ROWS), torch.split(wanted, ROWS), strict=True):
        if suppress is not None:
            some = some.masked_fill(suppress, float("-inf"))
        some = some / temperature
        known.append((some.gather(1, of_them)[:, 0] - some.logsumexp(1)).exp())
    return _numbers(torch.cat(known))


def choices(logits: Tensor, suppress: Tensor | None) -> list[int]:
    """The likeliest allowed id of each row [L, V]; of equal ones the lowest.

    Unusual: a few rows at a time, since a long draft has hundreds of them, of a megabyte each.
    """
    chosen: list[Tensor] = []
    for some in torch.split(logits, ROWS):
        if suppress is not None:
            some = some.masked_fill(suppress, float("-inf"))
        chosen.append(some.argmax(-1))
    return _numbers(torch.cat(chosen))


def _numbers(of: Tensor) -> list[Any]:
    return of.tolist()  # pyright: ignore  # torch does not say of what its lists are


def _common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many leading entries of `a` and `b` agree."""
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))
