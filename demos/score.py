"""The word error rate of a session against a transcript of what was said."""

import unicodedata


def words(text: str) -> str:
    """Lower case, punctuation and symbols gone, single spaces: what is compared."""
    kept = (" " if unicodedata.category(c)[0] in "PS" else c for c in text.lower())
    return " ".join("".join(kept).split())


def word_error_rate(reference: str, heard: str) -> float:
    """Substitutions, deletions and insertions per word of the reference, which has some.

    Raises ValueError for a reference without words.
    """
    import jiwer

    if not words(reference):
        raise ValueError("the reference has no words to compare with")
    return jiwer.wer(words(reference), words(heard))
