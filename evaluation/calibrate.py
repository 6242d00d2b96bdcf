"""Fits a model's confidences to held-out speech, and writes what it finds into its folder.

    python -m evaluation.calibrate models/nano --speech build/speech

The dev split of every synthesizer is heard at several temperatures; that at which the words'
confidences surprise least is kept as `confidence_temperature`, and the mean confidence below which
a cue does more harm than good as `min_confidence` (see :mod:`models.confidence`). The test split is
for figures alone.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from dragoman.models.confidence import LEAST, TEMPERATURE
from evaluation import confidence
from evaluation.bench import LANGUAGES
from evaluation.folders import note
from evaluation.listening import Listener
from evaluation.sets import SETS, TestSet, directions
from evaluation.store import Row


@dataclass(frozen=True)
class Calibration:
    """What was found, and how well confidences fit at a temperature of 1 and at this one."""

    temperature: float
    least: float
    surprise_before: float
    surprise: float
    error_before: float
    error: float


class Ears:
    """A model and the speech that it is calibrated on: so many clips of each set and language."""

    def __init__(self, listener: Listener, speech: Path, clips: int) -> None:
        self._listener, self._heard = listener, []
        for name in SETS:
            found = TestSet.open(speech, name, clips, split="dev")
            spoken = {pair[0]: pair for pair in directions(listener.pairs, LANGUAGES)}
            for language in spoken.keys() & set(found.languages):
                self._heard.append((list(found.clips(language)), *spoken[language]))
        if not self._heard:
            raise SystemExit(
                f"{speech} has no dev speech in the model's languages: make it with "
                "python -m training.speech --split dev"
            )

    def answers(self, temperature: float) -> Iterator[Row]:
        """What it hears; the words are the same at every temperature."""
        self._listener.translate.temperature = temperature
        for clips, spoken, written in self._heard:
            yield from self._listener.answers(clips, spoken, written)


def calibrated(ears: Ears) -> Calibration:
    """The best temperature and threshold."""
    temperature = confidence.fitted(ears.answers)
    before, rows = confidence.words(ears.answers(1.0)), list(ears.answers(temperature))
    after = confidence.words(rows)
    return Calibration(
        temperature,
        confidence.cue_threshold(rows),
        confidence.surprise(before),
        confidence.surprise(after),
        confidence.calibration(before),
        confidence.calibration(after),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.calibrate", description="Fit a model's confidences to speech."
    )
    parser.add_argument("folder", type=Path, help="of the model")
    parser.add_argument("--speech", type=Path, default=Path("build/speech"))
    parser.add_argument("--clips", type=int, default=15, help="of each set and language")
    parser.add_argument("--dry-run", action="store_true", help="write nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = calibrated(Ears(Listener.load(str(args.folder)), args.speech, args.clips))
    print(
        f"{TEMPERATURE} {found.temperature:g}, {LEAST} {found.least:g}; surprise "
        f"{found.surprise_before:.3f} -> {found.surprise:.3f} nats a word, calibration error "
        f"{found.error_before:.3f} -> {found.error:.3f}"
    )
    if not args.dry_run:
        note(args.folder, {TEMPERATURE: found.temperature, LEAST: found.least})


if __name__ == "__main__":
    main()
