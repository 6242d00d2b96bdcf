"""Whether a model knows when it does not know: the confidences of its words against what was said.

`curve` says what a listener gets who is shown only words of at least some confidence;
`calibration` how far confidences are from the shares of right words; `cue_threshold` below which
mean a subtitle does more harm than good. `fitted` finds the temperature by which a model's logits
are divided before they are probabilities (Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern
Neural Networks", 2017): one number, kept in its config.json as `confidence_temperature`.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from evaluation.scores import right_words
from evaluation.store import Row

THRESHOLDS = tuple(step / 20 for step in range(20)) + (0.97, 0.99)
BINS = 10
LEAST = 1e-4  # a confidence of 0 or 1 would make one wrong word outweigh all others
TEMPERATURES = (0.5, 8.0)
TRIALS = 12

Word = tuple[float, bool]  # its confidence, and whether it is right


@dataclass(frozen=True)
class Point:
    """Of the words with a confidence of at least ``threshold``: the share that is right
    (``right_of_shown``), and the share that they are of all right words (``shown_of_right``).
    """

    threshold: float
    shown: int
    right_of_shown: float
    shown_of_right: float


def words(rows: Iterable[Row]) -> list[Word]:
    """All words of transcripts whose confidences are known. Raises ValueError where a transcript
    has another number of words than of confidences.
    """
    found: list[Word] = []
    for row in rows:
        confidences = row["transcript_confidences"]
        if confidences:
            found += zip(confidences, right_words(row), strict=True)
    return found


def curve(found: Sequence[Word], thresholds: Iterable[float] = THRESHOLDS) -> list[Point]:
    """A point for each threshold at which there are words."""
    all_right = sum(right for _, right in found)
    points = []
    for threshold in thresholds:
        shown = [right for confidence, right in found if confidence >= threshold]
        if shown:
            share = sum(shown) / max(1, all_right)
            points.append(Point(threshold, len(shown), sum(shown) / len(shown), share))
    return points


def sure_threshold(points: Iterable[Point], right: float = 0.9) -> Point | None:
    """The first point from which on at least so many of the shown words are right."""
    return next((point for point in points if point.right_of_shown >= right), None)


def calibration(found: Sequence[Word]) -> float:
    """Expected calibration error: the mean distance between confidence and share of right words,
    over `BINS` bins of equal width, weighted by their words.
    """
    bins: list[list[Word]] = [[] for _ in range(BINS)]
    for word in found:
        bins[min(BINS - 1, int(word[0] * BINS))].append(word)
    gaps = [abs(sum(c for c, _ in some) - sum(r for _, r in some)) for some in bins]
    return sum(gaps) / max(1, len(found))


def cue_threshold(rows: Iterable[Row]) -> float:
    """The mean confidence below which an utterance is better left out: what stays has the most
    right words less wrong ones. Of equal thresholds the lowest; 0: leave out nothing.
    """
    cues = []
    for row in rows:
        if confidences := row["transcript_confidences"]:
            right = right_words(row)
            cues.append((sum(confidences) / len(confidences), 2 * sum(right) - len(right)))
    gains = {t: sum(gain for mean, gain in cues if mean >= t) for t in THRESHOLDS}
    return max(gains, key=lambda threshold: (gains[threshold], -threshold))


def surprise(found: Sequence[Word]) -> float:
    """Mean negative log-likelihood of the words being right or wrong, in nats; inf without any."""
    if not found:
        return math.inf
    chances = [confidence if right else 1 - confidence for confidence, right in found]
    return -sum(math.log(max(LEAST, chance)) for chance in chances) / len(found)


def fitted(answers: Callable[[float], Iterable[Row]], trials: int = TRIALS) -> float:
    """The temperature at which the confidences of ``answers(temperature)`` surprise least.

    Golden section search over the logarithm, since the likelihood has one hill in practice.
    """
    golden = (math.sqrt(5) - 1) / 2
    low, high = map(math.log, TEMPERATURES)

    def at(place: float) -> float:
        return surprise(words(answers(math.exp(place))))

    left, right = high - golden * (high - low), low + golden * (high - low)
    of_left, of_right = at(left), at(right)
    for _ in range(trials - 2):
        if of_left <= of_right:
            high, right, of_right = right, left, of_left
            left = high - golden * (high - low)
            of_left = at(left)
        else:
            low, left, of_left = left, right, of_right
            right = low + golden * (high - low)
            of_right = at(right)
    return round(math.exp((low + high) / 2), 2)
