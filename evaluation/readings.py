"""Live captions, a second reading, and one that is shown what the neighbours of a segment say.

    python -m evaluation.readings [--model nano] [SOUND TRANSCRIPT --language es]

captions a recording (the bundled talk) as it is and in noise, and has each segment read anew by
`pipeline.finishing`, as `dragoman finish --audio` does, without and with `--context`. Prints the
word error rate of the transcripts, a line for each distance of the noise.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import jiwer
import numpy as np

import dragoman
from dragoman.models.words import normalized
from dragoman.pipeline.finishing import read_again
from dragoman.pipeline.media import read_audio
from dragoman.pipeline.pool import Pool
from dragoman.pipeline.recipes import recipes
from dragoman.pipeline.start import host, locate
from dragoman.stages.messages import Caption, SessionOptions
from evaluation.noise import noisy, pieces, pink

TALK = Path(__file__).resolve().parents[1] / "samples" / "talk.wav"
SNR_DB = (None, 10, 0, -3, -6, -9)


def readings(
    samples: np.ndarray,
    said: str,
    options: SessionOptions,
    captioner: dragoman.Captioner,
    pool: Pool,
) -> list[float]:
    """The word error rates of the live text and of both second readings."""
    heard = captioner.caption(samples, options, pace="fast")
    live = [caption for caption in heard if caption.kind == "final"]
    texts: list[Sequence[Caption]] = [live]
    for context in (False, True):
        texts.append(list(read_again(live, pieces(samples), options, pool, context)))
    return [
        jiwer.wer(normalized(said), normalized(" ".join(c.transcript.whole for c in captions)))
        for captions in texts
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sound", nargs="?", type=Path, default=TALK)
    parser.add_argument("transcript", nargs="?", type=Path, default=TALK.with_name("talk.es.txt"))
    parser.add_argument("--model", default="nano")
    parser.add_argument("--language", default="es")
    parser.add_argument("--target-language", default="en")
    args = parser.parse_args()
    spec = dragoman.ModelSpec(args.model)
    options = SessionOptions(args.language, args.target_language)
    samples, said = np.concatenate([*read_audio(args.sound)]), args.transcript.read_text("utf-8")
    noise = pink(len(samples), np.random.default_rng(0))
    pool = Pool.start(host(ray=False), recipes(locate(spec))[1:], 1)
    print("| pink noise to speech | live | second reading | with neighbours |\n|---|---|---|---|")
    with dragoman.Captioner(spec) as captioner:
        for distance in SNR_DB:
            mixed = samples if distance is None else noisy(samples, noise, distance)
            rates = readings(mixed, said, options, captioner, pool)
            name = "none" if distance is None else f"{-distance:+} dB"
            print(f"| {name} | {' | '.join(f'{rate:.1%}' for rate in rates)} |", flush=True)
    pool.stop()


if __name__ == "__main__":
    main()
