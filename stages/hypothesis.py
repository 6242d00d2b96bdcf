"""The current best tokens of a segment's two texts, and how new ones are decoded behind the old.

Used by :mod:`stages.translate` for every update. What is committed of a text is forced, what was
tentative is a draft, so a text that stays as it was costs no pass of its own.

The transcript ends where :mod:`models.answers` reads its translation's label, whatever markup that
has; behind a newline the label we would write is guessed, so looking whether the model writes it
takes no pass of its own. Then our own separator asks for the translation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from os.path import commonprefix

from dragoman.decoder.batching import Decoding
from dragoman.decoder.speculation import Lookahead
from dragoman.models.answers import Part
from dragoman.models.prompt import Prompt
from dragoman.stages.spoken import Reader


@dataclass
class Hypothesis:
    """The current best tokens of one text, of which the first ``committed`` are promised;
    ``shown`` is what people were promised of their text. ``chances`` says how probable each token
    was when the model was last asked, ``ages`` how many updates in a row have had it, with all
    before it; ``looks`` which soft token each looks at, where somebody wants to know.
    """

    ids: list[int] = field(default_factory=list[int])
    committed: int = 0
    shown: str = ""
    chances: list[float] = field(default_factory=list[float])
    ages: list[int] = field(default_factory=list[int])
    looks: list[int] = field(default_factory=list[int])

    def updated(
        self,
        cut: list[int],
        found: Sequence[int],
        chances: Callable[[list[int]], Sequence[float | None]],
    ) -> "Hypothesis":
        """The hypothesis after a new decoding gave ``found``, of which only ``cut`` is text; what
        is committed stays in any case, and no more is committed yet.

        chances: of the new ids; None for one that was given, which keeps the chance that it had.
        """
        ids = cut + [*found[len(cut) : self.committed]]
        known = [
            self.chances[place] if chance is None else chance
            for place, chance in enumerate(chances(ids))
        ]
        stayed = len(commonprefix((self.ids, ids)))
        ages = [age + 1 for age in self.ages[:stayed]] + [1] * (len(ids) - stayed)
        return Hypothesis(ids, self.committed, self.shown, known, ages)


@dataclass(frozen=True)
class Answering:
    """One answer, which ``ahead`` decodes: texts of at most ``most`` tokens.

    ``final``: the segment has closed, so what is committed is judged by all of its sound, too.
    """

    ahead: Lookahead
    prompt: Prompt
    reader: Reader
    most: int
    final: bool

    def transcript(self, last: Hypothesis, translation: Hypothesis) -> Decoding[list[int]]:
        """The answer up to the end of its transcript, after ``last`` and its ``translation``.

        A newline belongs to it unless the label of the translation follows, which is guessed with
        the old translation behind it: of an answer in the form that was asked for the pass that
        reads the label is the one that begins the translation.
        """
        behind, found = [*self.prompt.separator, *translation.ids], last.ids[: last.committed]
        guess, judge = last.ids[last.committed :], self.final
        # After the silence that closes a segment both texts stay as a rule: one pass checks both.
        # And where nothing was said as yet, mostly nothing is said.
        if (self.final and translation.ids) or not last.ids:
            guess = [*guess, *behind]
        ended = partial(self.reader.ended, Part.TRANSCRIPT)
        while True:
            found = yield from self.ahead.text(
                before=[],
                forced=found,
                guess=guess,
                max_tokens=self.most,
                stop_ids=(*self.prompt.newlines, *self.prompt.stop),
                halt=ended,
                judge=judge,
            )
            if len(found) >= self.most or ended(found):
                return found
            chosen = yield from self.ahead.after(found)  # known: it is what the text stopped at
            if chosen in self.prompt.stop:
                return found
            found, guess, judge = [*found, chosen], behind[1:], False

    def translation(self, last: Hypothesis, transcript: Sequence[int]) -> Decoding[list[int]]:
        """The translation of ``transcript``, after ``last``."""
        found = yield from self.ahead.text(
            before=[*transcript, *self.prompt.separator],
            forced=last.ids[: last.committed],
            guess=last.ids[last.committed :],
            max_tokens=self.most,
            stop_ids=self.prompt.stop,
            halt=partial(self.reader.ended, Part.TRANSLATION),
            judge=self.final,
        )
        return found
