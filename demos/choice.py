"""Which of the languages of a session the people in front of it read."""

from collections.abc import Sequence

from dragoman.stages.messages import Caption, Text


class Choice:
    """One of the ``languages``, at first the first one; `next` goes on to the one after."""

    def __init__(self, languages: Sequence[str]) -> None:
        self._languages, self._at = list(dict.fromkeys(languages)), 0

    @property
    def code(self) -> str:
        return self._languages[self._at]

    def next(self) -> None:
        self._at = (self._at + 1) % len(self._languages)

    def text(self, caption: Caption) -> Text:
        """What ``caption`` says in that language."""
        return caption.translation if self.code == caption.target_language else caption.transcript
