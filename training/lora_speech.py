"""Speech of one synthetic voice with its texts, to try fine-tuning on: a stand-in for one's own.

    python -m training.lora_speech --out build/own-voice --utterances 300

Spanish sentences of the grammar that `nano` knows, spoken by a synthesizer that it never heard:
NAME.wav, NAME.txt and NAME.en.txt, as :mod:`training.lora_data` reads them. Training sentences
only, none twice.
"""

import argparse
import random
import wave
from pathlib import Path

import numpy as np

from training.grammar import Sentence, sample, split
from training.synthesizers import open_synthesizer
from training.voices import SAMPLE_RATE_HZ


def sentences(count: int, rng: random.Random) -> list[Sentence]:
    """So many different training sentences."""
    found: dict[str, Sentence] = {}
    while len(found) < count:
        drawn = sample(rng)
        if split(drawn) == "train":
            found.setdefault(drawn.spanish, drawn)
    return [*found.values()]


def write(folder: Path, name: str, sentence: Sentence, samples: np.ndarray) -> None:
    """samples: int16 [S]."""
    with wave.open(str(folder / f"{name}.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(samples.tobytes())
    for suffix, text in ((".txt", sentence.spanish), (".en.txt", sentence.english)):
        (folder / f"{name}{suffix}").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Speech of one voice, to try fine-tuning on.")
    parser.add_argument("--out", type=Path, default=Path("build/own-voice"))
    parser.add_argument("--utterances", type=int, default=300)
    parser.add_argument("--synthesizer", default="pico")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng, synthesizer = random.Random(args.seed), open_synthesizer(args.synthesizer)
    voice = synthesizer.draw(rng, "es", "train")
    args.out.mkdir(parents=True, exist_ok=True)
    for number, sentence in enumerate(sentences(args.utterances, rng)):
        write(
            args.out, f"{number:04}", sentence, synthesizer.speak(sentence.spanish, voice).samples
        )
    print(f"{args.out}: {args.utterances} utterances of {voice}")


if __name__ == "__main__":
    main()
