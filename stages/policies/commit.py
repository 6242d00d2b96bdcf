"""Commit policies: how much of a hypothesis is promised never to change.

A policy sees what one update knows of one text (`Seen`), and no words. What it commits is then
forced on every later decoding of the segment, so committed text is append-only by construction, and
the model goes on from it instead of against it. :mod:`stages.hypothesis` asks.

Unusual: a policy has no memory. How many updates have agreed on a token is counted where the
hypothesis is kept, so agreement of any order needs one hypothesis and not a row of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from dragoman.errors import UsageError
from dragoman.models.tokenizer import whole_words

BeginsWord = Callable[[int], bool]  # whether a token cannot continue the word before it
PACE_TOKENS = 2  # soft tokens that stand for a word of wait-k: 320 ms
MOST = 100  # of what stands behind a policy's name


@dataclass(frozen=True)
class Seen:
    """One text after an update: its ``ids``, of which ``committed`` are promised already.

    ages: how many updates in a row have had each id, with all before it; they never rise.
    heard: soft tokens of the segment that the update rests on.
    looks: the soft token that each id looks at most; empty but for a policy that ``watches``.
    """

    ids: Sequence[int]
    committed: int
    ages: Sequence[int]
    heard: int
    looks: Sequence[int] = ()


class CommitPolicy(Protocol):
    """Decides how many ids of a text are committed after an update."""

    def __call__(self, seen: Seen) -> int:
        """The new number of committed ids: at least ``committed``, at most all."""
        ...


class LocalAgreement:
    """Commits what ``updates`` successive hypotheses agree on, but for the last word of it.

    Source: local agreement, Liu, Spanakis, Niehues, "Low-Latency Sequence-to-Sequence Speech
    Recognition and Translation by Partial Hypothesis Selection", 2020.

    A word is committed once the hypotheses also agree on the token after it, and that begins
    another word: where they part, the word before is in doubt too ("leaves on" Tuesday, or
    Thursday, or "leaves" tomorrow).
    """

    def __init__(self, begins_word: BeginsWord, updates: int = 2) -> None:
        self._begins_word, self._updates = begins_word, updates

    def __call__(self, seen: Seen) -> int:
        agreed = sum(age >= self._updates for age in seen.ages)
        return max(whole_words(seen.ids, agreed - 1, self._begins_word), seen.committed)


class Hold:
    """Commits all but the last ``words`` words of every hypothesis: earlier, and less careful.

    Source: hold-n, in the same paper.
    """

    def __init__(self, begins_word: BeginsWord, words: int = 3) -> None:
        self._begins_word, self._words = begins_word, words

    def __call__(self, seen: Seen) -> int:
        starts = [at for at, token in enumerate(seen.ids) if at and self._begins_word(token)]
        held = starts[-self._words] if len(starts) >= self._words else 0
        return max(held, seen.committed)


class Wait:
    """Commits a word for every 320 ms of sound, ``words`` words behind it, whatever they are.

    Source: wait-k, Ma et al., "STACL", ACL 2019; with words of a fixed length in place of source
    words, as speech is given to it by Ma, Pino, Koehn, "SimulMT to SimulST", AACL 2020.
    """

    def __init__(self, begins_word: BeginsWord, words: int = 3) -> None:
        self._begins_word, self._words = begins_word, words

    def __call__(self, seen: Seen) -> int:
        starts = [at for at, token in enumerate(seen.ids) if at and self._begins_word(token)]
        due = min(seen.heard // PACE_TOKENS - self._words, len(starts))
        return max(starts[due - 1] if due > 0 else 0, seen.committed)


class AlignAtt:
    """Commits words up to the first that looks at one of the last ``frames`` soft tokens: what is
    said there may go on.

    Source: Papi, Turchi, Negri, "AlignAtt: Using Attention-based Audio-Translation Alignments as a
    Guide for Simultaneous Speech Translation", Interspeech 2023. There decoding stops at that word;
    here it goes on, so that people see what may come, and that is no part of what is committed.
    """

    watches: ClassVar[bool] = True

    def __init__(self, begins_word: BeginsWord, frames: int = 2) -> None:
        self._begins_word, self._frames = begins_word, frames

    def __call__(self, seen: Seen) -> int:
        end = seen.heard - self._frames
        late = (at for at, look in enumerate(seen.looks) if at >= seen.committed and look >= end)
        sure = min(next(late, len(seen.ids)), len(seen.ids) - 1)
        return max(whole_words(seen.ids, sure, self._begins_word), seen.committed)


# A policy is added by an entry here; `SessionOptions.commit_policy` names it, with a number or not.
POLICIES: dict[str, Callable[..., CommitPolicy]] = {
    "local-agreement": LocalAgreement,
    "hold-n": Hold,
    "wait-k": Wait,
    "align-att": AlignAtt,
}


def policy(name: str, begins_word: BeginsWord) -> CommitPolicy:
    """The policy called ``name``, which is `NAME` or `NAME:NUMBER`.

    Raises UsageError, with the names that there are, for another one.
    """
    known, colon, number = name.partition(":")
    if known not in POLICIES:
        raise UsageError(f"no commit policy {name!r}: choose one of {', '.join(POLICIES)}")
    if not colon:
        return POLICIES[known](begins_word)
    if not (number.isdecimal() and number.isascii() and 1 <= int(number) <= MOST):
        raise UsageError(
            f"commit policy {name!r}: expected a number from 1 to {MOST} behind the colon, got "
            f"{number!r}: write {known}:3, or {known} alone"
        )
    return POLICIES[known](begins_word, int(number))


def watches(policy: CommitPolicy) -> bool:
    """Whether a policy wants to know where the model looks, which costs a pass an update."""
    return getattr(policy, "watches", False)


def without_loop(ids: list[int], most: int = 3, longest: int = 8, span: int = 12) -> list[int]:
    """``ids`` cut where a phrase of up to ``longest`` tokens has come ``most`` times in a row.

    Greedy decoding can fall into a loop; what is kept has the phrase once. The repeats must also
    fill ``span`` tokens: people do say "no, no, no", and the zeros of 1 000 000 are a token each.
    """
    for size in range(1, longest + 1):
        length = size * max(most, -(-span // size))
        for start in range(len(ids) - length + 1):
            # A run that equals itself moved by one phrase is that phrase, over and over.
            if ids[start : start + length - size] == ids[start + size : start + length]:
                return ids[: start + size]
    return ids
