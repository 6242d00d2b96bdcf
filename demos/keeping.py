"""What stays of a session of `dragoman captions`: its final captions, and its files.

Between the session and :mod:`pipeline.saving`, which writes them.
"""

from collections.abc import Callable
from contextlib import suppress

from dragoman.demos.captions_options import CaptionsOptions
from dragoman.demos.captions_source import AudioSource
from dragoman.demos.listening import loss
from dragoman.demos.stdout import say
from dragoman.pipeline.formats import JSON
from dragoman.pipeline.lateness import Lateness
from dragoman.pipeline.saving import Saving
from dragoman.pipeline.session import Session
from dragoman.pipeline.word_times import Heard
from dragoman.stages.messages import Caption


def saving_of(asked: CaptionsOptions, source: AudioSource) -> Saving | None:
    """What keeps the captions, where that is wanted."""
    if source.folder is None:
        return None
    model, options, formats = asked.spec.model, asked.session, asked.formats
    if asked.file is None:
        name = source.stem
        return Saving.of_sound(source.folder, name, source.name, model, options, formats)
    return Saving.of_file(source.folder, asked.file, model, options, asked.overwrite, formats)


def finish(source: AudioSource, saving: Saving | None, duration_s: float, early: str) -> None:
    """Gives the files their names; live sound without speech leaves none, nor does a file that was
    left before its first final caption.
    """
    if saving is None or (not saving.finals and (source.live is not None or early)):
        return
    saving.duration_s = duration_s
    lost = "" if source.live is None else loss(source.live)
    told = saving.end([lost] if lost else [], early)
    for line in (*saving.shown()[1], told):
        if line:
            tell(line)
    if source.live is not None and not told:
        codes = ",".join((saving.options.language, saving.options.target_language))
        forms = ",".join(form for form in saving.formats if form != JSON)
        path = saving.folder / saving.name
        texts = f"{path}.{{{codes}}}.{{{forms}}} and " if forms else ""
        tell(f"saved {texts}{path}.json")


class Kept:
    """The captions of a session as they come; final ones are kept, and saved before they are given
    on, by way of ``log``.
    """

    def __init__(
        self, session: Session, saving: Saving | None, log: Callable[[Caption], Caption]
    ) -> None:
        self._session, self._saving, self._log = session, saving, log
        self.lateness = Lateness()
        self._captions = map(self.lateness.note, map(Heard().note, session))
        self.finals: list[Caption] = []

    def __iter__(self) -> "Kept":
        return self

    def __next__(self) -> Caption:
        caption = next(self._captions)
        if caption.kind == "final":
            self.finals.append(caption)
            if self._saving is not None:
                self._saving.add(caption, self._session.heard_s)
        return self._log(caption)


def tell(line: str) -> None:
    """Says a line to people, if they are still there."""
    with suppress(OSError):  # of a terminal that was closed
        say(line)
