"""Captions as text that only grows: for clients that append what they get.

Between captions, whose committed text grows within a segment, and the messages of OpenAI's and
vLLM's protocols. A client puts no spaces between pieces, so what parts one segment from the next
comes with them.
"""

from dataclasses import dataclass

from dragoman.models.words import one_line
from dragoman.stages.messages import Text

REMEMBERED = 16  # characters: enough to see whether words are parted by spaces


@dataclass(frozen=True)
class Piece:
    """``text`` is new in its segment; ``gap`` parts it from the segment before."""

    gap: str = ""
    text: str = ""

    @property
    def whole(self) -> str:
        return self.gap + self.text


class Growing:
    """One text of a session, transcript or translation, as far as it was given out."""

    def __init__(self) -> None:
        self._segment, self._given, self._end = -1, 0, ""

    def of(self, segment: int, text: Text) -> Piece:
        """What ``text`` of ``segment`` has committed since the last call."""
        if segment != self._segment:
            self._segment, self._given = segment, 0
        new = text.committed[self._given :]
        if not new:
            return Piece()
        gap = "" if self._given else self._gap(new)
        self._given = len(text.committed)
        self._end = (self._end + gap + new)[-REMEMBERED:]
        return Piece(gap, new)

    def _gap(self, new: str) -> str:
        joined = one_line([self._end, new])
        return joined[len(self._end) : len(joined) - len(new)]
