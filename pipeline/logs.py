"""A session's captions as the log that simulstream and OmniSTEval score.

Place: behind a session, beside the screens and files; one log holds one text of one session.

simulstream 1.0 (https://github.com/hlt-mt/simulstream, metrics/readers.py) writes a JSON object a
line. The first names the sound; every later one is a step: how much audio it rests on, what it
cost, and which tokens it deletes from the end of what stands and which it adds. Tokens here are
words, in languages without spaces letters (:mod:`models.words`), so its readers want what
`evaluation` gives as their configuration.

Unusual: `computation_time` is the time that a listener waits, from the arrival of the last sound
that a caption rests on to the caption (`partial_ms`). It holds what a step waits in queues, so a
session that falls behind is seen to. Sessions at the pace "fast" have no such time: they log 0.
"""

import json
from typing import Any, Literal, TextIO

from dragoman.models import languages
from dragoman.models.words import words
from dragoman.stages.messages import SAMPLE_RATE_HZ, Caption, Text

Which = Literal["transcript", "translation"]


def evaluation(language: str) -> str:
    """What simulstream and OmniSTEval have to be told about a log in ``language`` (a code), as
    YAML; raises LanguageError.
    """
    unit = "word" if languages.find(language).spaced else "char"
    return f"detokenizer_type: simuleval\nlatency_unit: {unit}\n"


class SimulstreamLog:
    """Writes one session's captions to ``file`` as they come.

    ``sound`` is the path or name of what is heard: the scorers find its references by its stem.
    With ``committed_only`` words are logged when they are committed, and only one that punctuation
    joins afterwards is logged anew; else they are logged when they are first shown, and what a
    later caption takes back is deleted.
    """

    def __init__(
        self,
        file: TextIO,
        sound: str,
        which: Which = "translation",
        committed_only: bool = False,
    ) -> None:
        self._file, self._which, self._committed_only = file, which, committed_only
        self._finished: list[str] = []  # words of segments that are closed
        self._standing: list[str] = []  # all words that the log holds by now
        self._line(id=0, metadata={"wav_name": sound})

    def write(self, caption: Caption) -> None:
        """Logs a caption as a step; captions come in the order of their session."""
        text: Text = getattr(caption, self._which)
        said = text.committed if self._committed_only else text.whole
        logged = self._finished + words(said)
        kept = _common_prefix(self._standing, logged)
        self._line(
            id=0,
            total_audio_processed=round(caption.end / SAMPLE_RATE_HZ, 3),
            computation_time=caption.latency.get("partial_ms", 0) / 1000,
            generated_tokens=logged[kept:],
            deleted_tokens=self._standing[kept:],
        )
        self._standing = logged
        if caption.kind == "final":
            self._finished = logged

    def _line(self, **entry: Any) -> None:
        self._file.write(json.dumps(entry, ensure_ascii=False) + "\n")


def _common_prefix(a: list[str], b: list[str]) -> int:
    """How many leading words agree."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((place for place, (x, y) in pairs if x != y), min(len(a), len(b)))
