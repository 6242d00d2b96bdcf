"""Commit policies: how much of a hypothesis is promised never to change.

A policy sees token ids only. What it commits is then forced on every later decoding of the
segment, so committed text is append-only by construction, and the model goes on from it instead of
against it.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from dragoman.errors import UsageError


class CommitPolicy(Protocol):
    """Decides from the previous and the current hypothesis how many tokens are committed."""

    def __call__(self, previous: Sequence[int], current: Sequence[int], committed: int) -> int:
        """The new number of committed tokens: at least ``committed``, at most ``len(current)``."""
        ...


class LocalAgreement:
    """Commits what two successive hypotheses agree on, but for the last word they agree on.

    Source: local agreement with n = 2, Liu, Spanakis, Niehues, "Low-Latency Sequence-to-Sequence
    Speech Recognition and Translation by Partial Hypothesis Selection", 2020.

    ``begins_word(token)`` says that a token cannot continue the word before it. A word is committed
    once both hypotheses also agree on the token after it, and that begins another word: where they
    part, the word before is in doubt too ("leaves on" Tuesday, or Thursday, or "leaves" tomorrow).
    """

    def __init__(self, begins_word: Callable[[int], bool]) -> None:
        self._begins_word = begins_word

    def __call__(self, previous: Sequence[int], current: Sequence[int], committed: int) -> int:
        agreed = 0
        for before, now in zip(previous, current, strict=False):
            if before != now:
                break
            agreed += 1
        whole = agreed - 1
        while whole > committed and not self._begins_word(current[whole]):
            whole -= 1
        return max(whole, committed)


class Hold:
    """Commits all but the last ``words`` words of every hypothesis: earlier, and less careful.

    Source: hold-n, Liu, Spanakis, Niehues, "Low-Latency Sequence-to-Sequence Speech Recognition and
    Translation by Partial Hypothesis Selection", 2020. ``begins_word`` as in `LocalAgreement`.
    """

    def __init__(self, begins_word: Callable[[int], bool], words: int = 3) -> None:
        self._begins_word, self._words = begins_word, words

    def __call__(self, previous: Sequence[int], current: Sequence[int], committed: int) -> int:
        starts = [at for at, token in enumerate(current) if at and self._begins_word(token)]
        held = starts[-self._words] if len(starts) >= self._words else 0
        return max(held, committed)


# A policy is added by an entry here; `SessionOptions.commit_policy` names it.
POLICIES: dict[str, Callable[[Callable[[int], bool]], CommitPolicy]] = {
    "local-agreement": LocalAgreement,
    "hold-3": Hold,
}


def policy(name: str, begins_word: Callable[[int], bool]) -> CommitPolicy:
    """The policy called ``name``; raises UsageError with the names that there are."""
    if name not in POLICIES:
        raise UsageError(f"no commit policy {name!r}: choose one of {', '.join(POLICIES)}")
    return POLICIES[name](begins_word)


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
