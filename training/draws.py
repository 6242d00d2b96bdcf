"""Random utterances of stored speech, for training.

Every language is as likely. Within one, a synthesizer is drawn by the square root of how much it
has said, times its weight: the slow ones, which sound most like people, have said little.
"""

import bisect
import itertools
import random

from training.speech_parts import Example, Speech

WEIGHTS = {"espeak": 0.5, "kokoro": 1.5}  # by how much they sound like people; others 1


class Draws:
    """Draws from ``speech``, also from what `refresh` finds later."""

    def __init__(self, speech: Speech) -> None:
        self.speech = speech
        self._groups: dict[str, dict[str, list[int]]] = {}
        self._known = 0
        self._sort()

    def __len__(self) -> int:
        return len(self.speech)

    def refresh(self) -> None:
        """Takes in parts that are new."""
        self.speech.refresh()
        self._sort()

    def __call__(self, rng: random.Random) -> Example:
        """One utterance; there must be some."""
        by_synthesizer = self._groups[rng.choice(sorted(self._groups))]
        names = sorted(by_synthesizer)
        chances = (WEIGHTS.get(name, 1.0) * len(by_synthesizer[name]) ** 0.5 for name in names)
        sums = list(itertools.accumulate(chances))
        name = names[bisect.bisect(sums, rng.random() * sums[-1])]
        return self.speech[rng.choice(by_synthesizer[name])]

    def _sort(self) -> None:
        records = self.speech.records
        for index in range(self._known, len(records)):
            record = records[index]
            group = self._groups.setdefault(record.language, {})
            group.setdefault(record.synthesizer, []).append(index)
        self._known = len(records)
