"""Speech in languages that the model is not made for, to which its answer shall be empty.

    python -m training.foreign --out build/speech

Place: beside `training.speech`, in the same form of parts, as the split `foreign`; and
`foreign-test`, of other sentences in voices that training never hears. Sentences are one a line in
`text/foreign/LANGUAGE.txt`. The records hold no texts: nobody is to write this speech down.
"""

import argparse
import json
import random
from pathlib import Path

import numpy as np

from training.voices import RATE_WPM, TRAIN_VARIANTS, Synthesizer, Voice

FOLDER = Path(__file__).parent / "text" / "foreign"
LANGUAGES = ("de", "nl", "pl", "ru")
TEST_VARIANTS = ("f2", "f5", "pablo", "sandro")
TEST_EVERY = 5  # one sentence in so many is for the test


def sentences(language: str, test: bool) -> list[str]:
    """What is said in a split."""
    lines = (FOLDER / f"{language}.txt").read_text(encoding="utf-8").splitlines()
    return [line for number, line in enumerate(lines) if (number % TEST_EVERY == 0) == test]


def build(out: Path, language: str, count: int, test: bool) -> None:
    """Writes a part of ``count`` utterances, unless it is there."""
    split = "foreign-test" if test else "foreign"
    path = out / split / "espeak" / f"{language}.jsonl"
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    rng, synthesizer = random.Random(f"{language}-{split}"), Synthesizer()
    pieces, lines = [], []
    for _ in range(count):
        variant = rng.choice(TEST_VARIANTS if test else TRAIN_VARIANTS)
        rate, pitch = rng.randint(*RATE_WPM), rng.randint(30, 70)
        voice = Voice(f"{language}+{variant}", language, variant, rate, pitch)
        samples = synthesizer.speak(rng.choice(sentences(language, test)), voice).samples
        pieces.append(samples)
        record = {
            "samples": len(samples), "language": language, "texts": {}, "ids": [],
            "synthesizer": "espeak", "voice": voice.name, "exact_times": True,
            "word_starts_samples": [], "word_ends_samples": [],
        }  # fmt: skip
        lines.append(json.dumps(record))
    np.save(path.with_suffix(".npy"), np.concatenate(pieces))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make speech in other languages.")
    parser.add_argument("--out", type=Path, default=Path("build/speech"))
    parser.add_argument("--utterances", type=int, default=150, help="a language")
    args = parser.parse_args()
    for language in LANGUAGES:
        build(args.out, language, args.utterances, test=False)
        build(args.out, language, args.utterances // 5, test=True)


if __name__ == "__main__":
    main()
