"""A session's captions as the logs that simulstream, SimulEval and OmniSTEval score.

Place: behind a session, beside the screens and files; one log holds one text of one session.

simulstream 1.0 (https://github.com/hlt-mt/simulstream, metrics/readers.py) writes a JSON object a
line. The first names the sound; every later one is a step: how much audio it rests on, what it
cost, and which tokens it deletes from the end of what stands and which it adds. SimulEval
(https://github.com/facebookresearch/SimulEval) writes one object for a whole talk: its words, and
for each how much audio had been heard and what time it was. Tokens here are words, in languages
without spaces letters (:mod:`models.words`), so their readers want what `evaluation` gives as their
configuration.

Unusual: `computation_time` is the time that a listener waits, from the arrival of the last sound
that a caption rests on to the caption (`partial_ms`). It holds what a step waits in queues, so a
session that falls behind is seen to. Sessions at the pace "fast" have no such time: they log 0.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os.path import commonprefix
from pathlib import Path
from typing import Any, Literal, Protocol, TextIO

from dragoman.errors import InputError
from dragoman.models import languages
from dragoman.models.words import words
from dragoman.pipeline.events import summary, to_json
from dragoman.pipeline.lateness import Lateness
from dragoman.stages.messages import SAMPLE_RATE_HZ, Caption, Text

Which = Literal["transcript", "translation"]


def evaluation(language: str) -> str:
    """What simulstream and OmniSTEval have to be told about a log in ``language`` (a code), as
    YAML; raises LanguageError.
    """
    unit = "word" if languages.find(language).spaced else "char"
    return f"detokenizer_type: simuleval\nlatency_unit: {unit}\n"


class Standing:
    """The words of one text of a session, as they stand after each of its captions.

    With ``committed_only`` words count from when they are committed, and only one that punctuation
    joins afterwards is taken back; else from when they are first shown, until a later caption takes
    them back.
    """

    def __init__(self, which: Which = "translation", committed_only: bool = False) -> None:
        self._which, self._committed_only = which, committed_only
        self._finished: list[str] = []  # words of segments that are closed
        self.words: list[str] = []

    def step(self, caption: Caption) -> tuple[list[str], list[str]]:
        """The words that a caption adds, and those at the end that it takes back first; captions
        come in the order of their session.
        """
        text: Text = getattr(caption, self._which)
        said = text.committed if self._committed_only else text.whole
        now, before = self._finished + words(said), self.words
        kept = len(commonprefix((before, now)))
        self.words = now
        if caption.kind == "final":
            self._finished = now
        return now[kept:], before[kept:]


class Log(Protocol):
    """What takes a session's captions down."""

    def write(self, caption: Caption) -> None: ...

    def end(self) -> None:
        """The session is over."""
        ...


class EventLog:
    """The events of a session, as `dragoman replay` shows them, and how late its words were."""

    def __init__(self, file: TextIO, sound: str) -> None:
        self._file, self._lateness = file, Lateness()
        self._last: Caption | None = None

    def write(self, caption: Caption) -> None:
        """Takes a caption down as an event."""
        self._file.write(to_json(caption) + "\n")
        self._lateness.note(caption)
        self._last = caption

    def end(self) -> None:
        """Adds the summary."""
        if self._last is not None:
            heard_s = self._last.end / SAMPLE_RATE_HZ
            lateness = self._lateness.summary()
            self._file.write(summary(self._last.session, heard_s, lateness) + "\n")


class SimulstreamLog:
    """Writes one session's captions to ``file`` as they come, each as a step.

    ``sound`` is the path or name of what is heard: the scorers find its references by its stem.
    ``which`` and ``committed_only`` as `Standing` has them.
    """

    def __init__(
        self,
        file: TextIO,
        sound: str,
        which: Which = "translation",
        committed_only: bool = False,
    ) -> None:
        self._file, self._standing = file, Standing(which, committed_only)
        self._line(id=0, metadata={"wav_name": sound})

    def write(self, caption: Caption) -> None:
        """Logs a caption; captions come in the order of their session."""
        added, deleted = self._standing.step(caption)
        self._line(
            id=0,
            total_audio_processed=round(caption.end / SAMPLE_RATE_HZ, 3),
            computation_time=caption.latency.get("partial_ms", 0) / 1000,
            generated_tokens=added,
            deleted_tokens=deleted,
        )

    def end(self) -> None:
        """There is nothing to add."""

    def _line(self, **entry: Any) -> None:
        self._file.write(json.dumps(entry, ensure_ascii=False) + "\n")


class SimulevalLog:
    """Writes one object to ``file`` when the session is over: its committed words, and of each how
    much sound had been heard then (`delays`), and when that was (`elapsed`), in milliseconds.
    """

    def __init__(self, file: TextIO, sound: str, which: Which = "translation") -> None:
        self._file, self._sound = file, sound
        self._standing = Standing(which, committed_only=True)
        self._delays: list[float] = []
        self._elapsed: list[float] = []
        self._heard_ms = 0.0

    def write(self, caption: Caption) -> None:
        """Notes the words that a caption commits."""
        added, deleted = self._standing.step(caption)
        kept = len(self._delays) - len(deleted)
        self._heard_ms = round(caption.end * 1000 / SAMPLE_RATE_HZ, 1)
        waited = caption.latency.get("lag_ms", caption.latency.get("partial_ms", 0))
        self._delays[kept:] = [self._heard_ms] * len(added)
        self._elapsed[kept:] = [self._heard_ms + waited] * len(added)

    def end(self) -> None:
        """Writes the object."""
        said = self._standing.words
        entry = {
            "index": 0,
            "prediction": " ".join(said),
            "delays": self._delays,
            "elapsed": self._elapsed,
            "prediction_length": len(said),
            "reference": None,
            "source": [self._sound],
            "source_length": self._heard_ms,
        }
        self._file.write(json.dumps(entry, ensure_ascii=False) + "\n")


# A form of log is added by an entry here, and by its name in `LogFormat` of demos/options.py.
LOGS: dict[str, Callable[[TextIO, str], Log]] = {
    "events": EventLog,
    "simulstream": SimulstreamLog,
    "simuleval": SimulevalLog,
}


def check_log(path: Path | None, overwrite: bool = False) -> None:
    """Raises InputError where no log can be written at ``path``, or a file is there already that it
    may not ``overwrite``.
    """
    if path is None:
        return
    if path.exists() and not overwrite:
        raise InputError(f"--log {path}: there is such a file: --overwrite replaces it")
    if not path.absolute().parent.is_dir():
        raise InputError(f"--log {path}: there is no folder {path.parent}: make it first")


@contextmanager
def logged(path: Path | None, form: str, sound: str) -> Iterator[Callable[[Caption], Caption]]:
    """What takes each caption down in a log at ``path``, a line at once, and gives it on; without
    a path it only gives it on. ``form`` is one of `LOGS`. Raises OSError.
    """
    if path is None:
        yield lambda caption: caption
        return
    with path.open("w", encoding="utf-8", buffering=1) as file:
        log = LOGS[form](file, sound)

        def note(caption: Caption) -> Caption:
            log.write(caption)
            return caption

        try:
            yield note
        finally:
            log.end()
