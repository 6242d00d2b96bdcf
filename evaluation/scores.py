"""Scores of answers: word errors, chrF and BLEU, and which words and sounds are confused.

Rows are what `evaluation.listening` gives. Words are compared but for case and punctuation
(`models.words`), translations as sacreBLEU does it, on the text as it is.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import jiwer
import sacrebleu

from dragoman.models.words import normalized, words
from evaluation.store import Row


@dataclass(frozen=True)
class WordErrors:
    """Counts over utterances. ``rate`` may exceed 1: invented words count, too."""

    words: int = 0
    substituted: int = 0
    deleted: int = 0
    inserted: int = 0

    @property
    def rate(self) -> float:
        """Errors a word of the reference."""
        return (self.substituted + self.deleted + self.inserted) / max(1, self.words)


def word_errors(rows: Iterable[Row]) -> WordErrors:
    """Of the transcripts of ``rows``."""
    found = jiwer.process_words(*_compared(rows))
    words = found.hits + found.substitutions + found.deletions
    return WordErrors(words, found.substitutions, found.deletions, found.insertions)


def translation_scores(rows: Sequence[Row]) -> dict[str, float]:
    """chrF and BLEU, 0 to 100, of the translations that have a reference."""
    meant = [[row["meant"] for row in rows]]
    said = [row["translation"] for row in rows]
    return {
        "chrf": round(sacrebleu.corpus_chrf(said, meant).score, 2),
        "bleu": round(sacrebleu.corpus_bleu(said, meant).score, 2),
    }


def by_voice(rows: Iterable[Row]) -> dict[str, float]:
    """Word error rate of each voice, worst first."""
    voices: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        voices[row["voice"]].append(row)
    rates = {voice: word_errors(found).rate for voice, found in voices.items()}
    return dict(sorted(rates.items(), key=lambda item: -item[1]))


@dataclass
class Confusions:
    """How often words and letters were taken for others. A letter stands for a sound, which these
    languages' spellings allow but for English and, in part, French. "" is nothing: a deletion has
    it on the right, an insertion on the left.
    """

    words: Counter[tuple[str, str]]
    letters: Counter[tuple[str, str]]

    @classmethod
    def of(cls, rows: Iterable[Row]) -> "Confusions":
        words = Counter(pair for pair in aligned_words(rows) if pair[0] != pair[1])
        letters: Counter[tuple[str, str]] = Counter()
        for (said, heard), count in words.items():
            for pair in _aligned_letters(said, heard):
                letters[pair] += count
        return cls(words, letters)


def aligned_words(rows: Iterable[Row]) -> Iterator[tuple[str, str]]:
    """(said, heard) along the cheapest alignment; "" where one side has no word."""
    found = jiwer.process_words(*_compared(rows))
    for said, heard, chunks in zip(
        found.references, found.hypotheses, found.alignments, strict=True
    ):
        yield from _pairs(said, heard, chunks)


def right_words(row: Row) -> list[bool]:
    """For each word of the transcript, as confidences count them, whether it was said.

    A word such as `dall'orbita` is right if all of its parts are; one without letters or digits is
    right, as nobody can mistake it.
    """
    parts = [normalized(word).split() for word in words(row["transcript"])]
    if not any(parts):
        return [True] * len(parts)
    found = jiwer.process_words(normalized(row["said"]), " ".join(sum(parts, [])))
    right = [False] * len(found.hypotheses[0])
    for chunk in found.alignments[0]:
        for index in range(chunk.hyp_start_idx, chunk.hyp_end_idx):
            right[index] = chunk.type == "equal"
    taken = iter(right)
    return [all([next(taken) for _ in word]) for word in parts]


def _compared(rows: Iterable[Row]) -> tuple[list[str], list[str]]:
    said = [(normalized(row["said"]), normalized(row["transcript"])) for row in rows]
    known = [pair for pair in said if pair[0]]
    return [pair[0] for pair in known], [pair[1] for pair in known]


def _pairs(said: list[str], heard: list[str], chunks: Iterable) -> Iterator[tuple[str, str]]:
    """Pairs of a jiwer alignment, whose chunks name spans of either side."""
    for chunk in chunks:
        left = said[chunk.ref_start_idx : chunk.ref_end_idx]
        right = heard[chunk.hyp_start_idx : chunk.hyp_end_idx]
        length = max(len(left), len(right))
        yield from zip(_filled(left, length), _filled(right, length), strict=True)


def _aligned_letters(said: str, heard: str) -> Iterator[tuple[str, str]]:
    """Letters that differ between two words of which more than half is alike; others say nothing
    about sounds.
    """
    if not (said and heard):
        return
    found = jiwer.process_characters(said, heard)
    if found.hits <= max(len(said), len(heard)) / 2:
        return
    chunks = found.alignments[0]
    pairs = _pairs(found.references[0], found.hypotheses[0], chunks)
    yield from (pair for pair in pairs if pair[0] != pair[1])


def _filled(words: list[str], length: int) -> list[str]:
    return [*words, *[""] * (length - len(words))]
