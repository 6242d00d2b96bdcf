"""What the stage keeps of the ids that a reference generates up to the end of its turn.

A newline is part of a text; a transcript ends where the reader of answers finds its end.
"""

from dragoman.models.answers import Part
from dragoman.stages.policies.commit import without_loop
from dragoman.stages.spoken import Reader


def translation(reader: Reader, transcript: list[int], answer: list[int]) -> list[int]:
    """The ids of ``answer``, given behind ``transcript`` and the label, that are a translation."""
    if not reader.has_words(transcript):
        return []
    ends = (n for n in range(len(answer)) if reader.ended(Part.TRANSLATION, answer[:n]))
    return without_loop(answer[: next(ends, len(answer))])
