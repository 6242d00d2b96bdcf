"""`dragoman captions`: one session from a microphone, a stream or a file to a view and to files.

What the user asked for is checked first, cheap things before expensive ones; then the pipeline
starts, and captions run until the source ends or Ctrl-C. The first Ctrl-C ends the input: the last
words are still shown and saved. A second one does not wait for them. Once the pipeline runs SIGTERM
does the same, and SIGHUP of a closed terminal. What a microphone or a stream brought is always
saved: nobody can play it again.
"""

import sys
from contextlib import ExitStack, closing, nullcontext
from pathlib import Path

from rich.console import Console

from dragoman.demos.captions_options import CaptionsOptions
from dragoman.demos.captions_source import AudioSource, open_source
from dragoman.demos.ending import Ending
from dragoman.demos.keeping import Kept, finish, saving_of, tell
from dragoman.demos.listening import loss
from dragoman.demos.loading import bar
from dragoman.demos.score import word_error_rate
from dragoman.demos.showing import Showing, is_screen
from dragoman.demos.stdout import own_stdout, say
from dragoman.errors import InputError
from dragoman.models import languages
from dragoman.pipeline import start as pipeline
from dragoman.pipeline.chain import Chain
from dragoman.pipeline.lateness import told as told_lateness
from dragoman.pipeline.logs import check_log
from dragoman.pipeline.outputs import guarded, make_writable
from dragoman.pipeline.saving import Saving
from dragoman.pipeline.start import check


def run(asked: CaptionsOptions) -> int:
    """Captions from start to end; returns the exit code, raises what the command line explains."""
    check_log(asked.log, asked.overwrite)
    check(asked.spec, asked.language, asked.target_language)
    reference = None if asked.reference is None else _read_reference(asked.reference)
    with own_stdout() as out:
        return _run(asked, reference, Console(file=out, highlight=False))


def _run(asked: CaptionsOptions, reference: str | None, console: Console) -> int:
    with closing(open_source(asked, is_screen(asked, console))) as source:
        if source.folder is not None:
            make_writable(source.folder)
        saving = saving_of(asked, source)
        if saving is not None and saving.found:
            tell(saving.found)
        with closing(saving) if saving else nullcontext():
            if sys.stderr.isatty():
                say(f"loading {asked.spec.model} ...")
            with start(asked) as chain:
                return _caption(asked, source, chain, reference, console, saving)


def start(asked: CaptionsOptions) -> Chain:
    """The pipeline, as Ray actors or in this process."""
    return pipeline.start(asked.spec, ray=asked.ray, progress=None if asked.as_json else bar)


def _caption(
    asked: CaptionsOptions,
    source: AudioSource,
    chain: Chain,
    reference: str | None,
    console: Console,
    saving: Saving | None,
) -> int:
    with ExitStack() as stack:
        showing = Showing(asked, source, chain, console, saving, stack)
        kept, ending = showing.kept, showing.ending
        early = ""
        try:
            showing.run()
            if source.live is None and ending.name:
                early = f"it was ended by {ending.name} at {showing.session.heard_s:.1f} s"
        except BaseException as error:
            early = str(error) or ending.name or type(error).__name__
            raise
        finally:
            ending.saving = True
            finish(source, saving, showing.session.heard_s, early)
    if is_screen(asked, console) and (line := told_lateness(kept.lateness.summary())):
        tell(line)
    _tell_what_came(asked, source, kept, saving, ending)
    if reference is not None:
        heard = " ".join(caption.transcript.whole for caption in kept.finals)
        measure = "WER" if languages.find(asked.language).spaced else "CER"
        tell(f"{measure} {word_error_rate(reference, heard):.1%} against {asked.reference}")
    return ending.exit_code


def _tell_what_came(
    asked: CaptionsOptions, source: AudioSource, kept: Kept, saving: Saving | None, ending: Ending
) -> None:
    """Says what was not heard, and what is not shown."""
    if source.live is not None and (lost := loss(source.live)):
        tell(lost)
    if saving is None and (told := guarded(kept.finals)):
        tell(told)
    if not kept.finals and (source.live is not None or not ending.name):
        tell(f"no speech was heard in {source.name}")
    if asked.record is not None:
        tell(f"the sound is in {asked.record}")


def _read_reference(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read the reference {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"the reference {path} is not plain UTF-8 text") from None
    if not text.strip():
        raise InputError(f"the reference {path} is empty: it should hold what is said")
    return text
