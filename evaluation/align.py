"""Finds the heads that look at the sound of the word they write, and how late they look.

    python -m evaluation.align models/nano

espeak-ng, which tells when each word is spoken, says sentences in voices that training never had.
The model writes them down, and all of its heads are watched. Heads are added one by one, each time
the one that brings the middles of the words nearest to the truth, as long as that helps. They and
the median of how late they look are written into the model's folder (:mod:`models.alignment`).

Unusual: a head is judged by the words that were heard right, and by how steady it is, not by how
late: a decoder cannot write a word before it has heard it, and lateness is taken off again.
"""

import argparse
import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dragoman.decoder.alignment import Heads
from dragoman.decoder.batching import alone
from dragoman.models.alignment import DELAY, HEADS
from dragoman.models.words import normalized, words
from dragoman.stages.looks import Looks
from dragoman.stages.messages import SAMPLE_RATE_HZ, SessionOptions, Speech
from dragoman.stages.spans import middles_of, rising
from evaluation.folders import note
from evaluation.listening import Listener
from evaluation.sets import BEFORE_SAMPLES, directions, in_quiet
from training.synthesizers import Espeak

MOST_HEADS = 6
BETTER = 0.98  # of the error without it: a head that brings less is left out
SAMPLES = Path(__file__).resolve().parents[1] / "samples"


@dataclass(frozen=True)
class Heard:
    """One utterance as the model wrote it down.

    said: its words, pieces: its tokens as text; shares: float32 [heads, tokens, K], what each head
    sees of the soft tokens; middles: samples of the segment, None for a word that was heard wrong.
    """

    said: list[str]
    pieces: list[str]
    shares: Tensor
    middles: list[float | None]


@dataclass(frozen=True)
class Alignment:
    """``heads``, how late they look, and how far from the truth the middles of words then are."""

    heads: Heads
    delay_ms: int
    error_ms: float
    words: int


def every_head(listener: Listener) -> Heads:
    config = listener.translate.model.config
    layers, each = range(config.num_hidden_layers), range(config.num_attention_heads)
    return tuple((layer, head) for layer in layers for head in each)


def listened(
    listener: Listener, sentences: Sequence[str], pair: tuple[str, str], voices: int
) -> Iterator[Heard]:
    """Every sentence in so many voices of the dev split."""
    espeak, rng = Espeak(), random.Random(0)
    for text in [*sentences] * voices:
        spoken = espeak.speak(text, espeak.draw(rng, pair[0], "dev"))
        samples = in_quiet(spoken.samples.astype(np.float32) / 2**15)
        starts, ends = spoken.word_starts_samples, spoken.word_ends_samples
        middles = [BEFORE_SAMPLES + (s + e) / 2 for s, e in zip(starts, ends, strict=True)]
        found = _heard(listener, samples, pair, text.split(), middles)
        if found is not None:
            yield found


@torch.inference_mode()
def _heard(
    listener: Listener,
    samples: np.ndarray,
    pair: tuple[str, str],
    truth: Sequence[str],
    middles: Sequence[float],
) -> Heard | None:
    encode, translate, options = listener.encode, listener.translate, SessionOptions(*pair)
    speech = Speech(0, 0, samples, opens=True, closes=True)
    (tokens,), _ = encode.step(speech, encode.init_state(options))
    captions, state = translate.step(tokens, translate.init_state(options))
    if not captions or state.cache is None:
        return None
    ids, looks = state.transcript.ids, Looks(translate.context, every_head(listener))
    shares = alone(translate.model, looks.shares(state.cache, state.audio, state.prompt, 0, ids))
    said, pieces = words(captions[0].transcript.whole), [*map(translate.tokenizer.piece, ids)]
    return Heard(said, pieces, shares, _matched(said, truth, middles))


def _matched(
    said: Sequence[str], truth: Sequence[str], middles: Sequence[float]
) -> list[float | None]:
    """The true middle of each word of ``said`` that is one of ``truth``, in order."""
    alike = SequenceMatcher(None, [*map(normalized, said)], [*map(normalized, truth)], False)
    found: list[float | None] = [None] * len(said)
    for block in alike.get_matching_blocks():
        found[block.a : block.a + block.size] = middles[block.b : block.b + block.size]
    return found


def aligned(heard: Sequence[Heard], heads: Heads) -> Alignment:
    """The best of ``heads``, which are those of the shares."""
    chosen: list[int] = []
    best = float("inf")
    while len(chosen) < MOST_HEADS:
        errors = {n: _errors(heard, [*chosen, n]) for n in range(len(heads)) if n not in chosen}
        found = min(errors, key=lambda n: _spread(errors[n]))
        if _spread(errors[found]) > BETTER * best:
            break
        chosen, best = [*chosen, found], _spread(errors[found])
    late = _errors(heard, chosen)
    return Alignment(
        tuple(sorted(heads[n] for n in chosen)),
        max(0, round(statistics.median(late) * 1000 / SAMPLE_RATE_HZ)),
        best * 1000 / SAMPLE_RATE_HZ,
        len(late),
    )


def _errors(heard: Sequence[Heard], chosen: Sequence[int]) -> list[float]:
    """By how many samples the middles that the heads show are later than the true ones."""
    late: list[float] = []
    for one in heard:
        looks = [int(place) for place in one.shares[list(chosen)].sum(0).argmax(-1)]
        shown = rising(middles_of(one.said, one.pieces, looks))
        late += [at - truth for at, truth in zip(shown, one.middles, strict=True) if truth]
    return late


def _spread(late: Sequence[float]) -> float:
    """The mean distance from their median."""
    median = statistics.median(late)
    return statistics.fmean(abs(error - median) for error in late)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.align", description="Find the heads that align words and sound."
    )
    parser.add_argument("folder", type=Path, help="of the model")
    parser.add_argument(
        "--sentences",
        type=Path,
        default=SAMPLES,
        help="folder with talk.LANGUAGE.txt, a sentence a line",
    )
    parser.add_argument("--voices", type=int, default=6, help="that say each sentence")
    parser.add_argument("--dry-run", action="store_true", help="write nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    listener, heard = Listener.load(str(args.folder)), list[Heard]()
    written = {path.suffixes[0][1:]: path for path in args.sentences.glob("talk.*.txt")}
    for spoken, target in dict(directions(listener.pairs, [*written])).items():
        lines = written[spoken].read_text(encoding="utf-8").splitlines()
        heard += listened(listener, [*filter(None, lines)], (spoken, target), args.voices)
    if not any(map(any, (one.middles for one in heard))):
        raise SystemExit(f"{args.folder} heard no word of {args.sentences} right: train it first")
    found = aligned(heard, every_head(listener))
    print(
        f"{HEADS} {[list(head) for head in found.heads]}, {DELAY} {found.delay_ms}: middles of "
        f"{found.words} words are {found.error_ms:.0f} ms from the truth on the average"
    )
    if not args.dry_run:
        note(args.folder, {HEADS: [list(head) for head in found.heads], DELAY: found.delay_ms})


if __name__ == "__main__":
    main()
