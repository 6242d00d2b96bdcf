"""The word error rate of a session against a transcript of what was said; in languages without
spaces between words their letters are counted, which is a character error rate.
"""

from dragoman.models.words import normalized


def word_error_rate(reference: str, heard: str) -> float:
    """Substitutions, deletions and insertions per word of the reference, which has some.

    Raises ValueError for a reference without words.
    """
    import jiwer

    if not normalized(reference):
        raise ValueError("the reference has no words to compare with")
    return jiwer.wer(normalized(reference), normalized(heard))
