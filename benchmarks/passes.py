"""Watches a decoder at work: how often it runs, and when it first answered.

Unusual: the model's own methods are replaced on the object while one watches, so that whatever
calls them (a stage, a decoding loop) runs as it is. A pass that another pass calls counts once.
"""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from torch import Tensor

from benchmarks.timing import clock
from dragoman.decoder import LanguageModel

METHODS = ("extend", "prefill", "answer", "verify", "step", "answer_together")
OnAnswer = Callable[[list[int], Tensor], None]


class Watched:
    """A context in which the passes of ``model`` are counted.

    ``count`` of all passes, their ``rows`` (new positions) and ``seconds``; ``answers`` of those
    that gave logits; ``first_answer`` the clock when the first of these was done. ``on_answer`` is
    given, for every sequence of a pass, all ids that it put in and the logits [K, V] behind the
    last K of them, which it may change in place.
    """

    def __init__(self, model: LanguageModel, on_answer: OnAnswer | None = None) -> None:
        self._model, self._on_answer, self._depth = model, on_answer, 0
        self.reset()

    def reset(self) -> None:
        """Forgets what was seen."""
        self.count, self.answers, self.rows, self.seconds = 0, 0, 0, 0.0
        self.first_answer: float | None = None

    def __enter__(self) -> "Watched":
        for name in METHODS:
            setattr(self._model, name, self._watching(getattr(self._model, name)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for name in METHODS:
            delattr(self._model, name)

    def _watching(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **named: Any) -> Any:
            self._depth += 1
            begun = clock() if self._depth == 1 else 0.0
            try:
                found = method(*args, **named)
            finally:
                self._depth -= 1
            if self._depth == 0:
                self.seconds += clock() - begun
                self._saw(args, found)
            return found

        return run

    def _saw(self, args: tuple[Any, ...], found: Any) -> None:
        self.count += 1
        self.rows += sum(map(len, _ids(args)))
        answered = [(ids, logits) for ids, logits in _sequences(args, found) if len(logits)]
        if not answered:
            return
        self.answers += 1
        for ids, logits in answered:
            if self._on_answer is not None:
                self._on_answer(ids, logits)
            if self.first_answer is None:
                logits.argmax(-1)  # a choice is part of the answer
        self.first_answer = self.first_answer or clock()


def _ids(args: tuple[Any, ...]) -> list[Tensor]:
    """The ids [L] of every sequence in a pass."""
    if isinstance(args[0], Sequence):  # of requests
        return [request.ids[0] for request in args[0]]
    whole = next(a for a in args if isinstance(a, Tensor) and not a.is_floating_point())
    return list(whole if whole.dim() == 2 else whole[:, None])


def _sequences(args: tuple[Any, ...], found: Any) -> list[tuple[list[int], Tensor]]:
    """The ids and the logits [K, V] of every sequence in a pass; nothing where none were wanted."""
    if found is None:
        return []
    if isinstance(found, Tensor):
        found = list(found if found.dim() == 3 else found[:, None])
    return [(ids.tolist(), logits) for ids, logits in zip(_ids(args), found, strict=True)]
