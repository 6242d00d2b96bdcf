"""The files that are written for one source: subtitles in each language and both, and one JSON.

Last step of all commands. Each file is written under a temporary name first and then renamed, so
that what has its name is whole; a batch renames all of a source's files at once.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from dragoman.errors import InputError, UsageError
from dragoman.models import confidence
from dragoman.pipeline.films import Film
from dragoman.pipeline.formats import ALL, JSON, known
from dragoman.pipeline.journal import DRAFT, Journal, digest
from dragoman.pipeline.muxing import suffix_of
from dragoman.pipeline.rules import Rules
from dragoman.pipeline.subtitles import RULES, TEXTS, Which, cues, write, write_whole
from dragoman.stages.messages import Caption, SessionOptions

NAME_BYTES = 240  # disks take 255; a file that is being written has a few more


@dataclass(frozen=True)
class Output:
    """One file: ``which`` text it shows, and by what ``rules``; a ``film`` that gets subtitles; or
    neither, which is the JSON document.
    """

    file: str
    which: Which | None = None
    rules: Rules = RULES
    film: Film | None = None

    @property
    def layout(self) -> str:
        """A digest of all that the file is made by, besides its captions."""
        told = repr((self.which, self.rules, self.film and (self.film.texts, self.film.rules)))
        return hashlib.sha256(told.encode()).hexdigest()[:12]


def planned(
    name: str,
    options: SessionOptions,
    formats: Sequence[str],
    texts: Sequence[Which] = TEXTS,
    rules: Rules = RULES,
) -> list[Output]:
    """The files for a source called ``name``, in the order in which they are shown. Raises
    InputError where it is too long for that.
    """
    codes = _codes(options)
    out: list[Output] = []
    for form in known():
        if form not in formats:
            continue
        if form == JSON:
            out.append(Output(f"{name}.json"))
        else:
            shown: list[Which] = [which for which in codes if which in texts]
            out += [
                Output(f"{name}.{'-'.join(codes[which])}.{form}", which, rules) for which in shown
            ]
    _check_names(name, out)
    return out


def _check_names(name: str, outputs: Sequence[Output]) -> None:
    """Raises InputError for names that no disk takes, before there is anything to write."""
    if any(len(os.fsencode(output.file)) > NAME_BYTES for output in outputs):
        raise InputError(
            f"the files about {name[:40]}... would have names of more than {NAME_BYTES} bytes: "
            "give the source a shorter name"
        )


def films(
    source: Path,
    name: str,
    options: SessionOptions,
    texts: Sequence[Which],
    burnt: Which | None,
    muxed: bool,
    rules: Rules = RULES,
) -> list[Output]:
    """The copies of the film ``source``: with ``texts`` as tracks if ``muxed``, and with the text
    ``burnt`` in its picture.
    """
    codes = _codes(options)
    shown = tuple(text for text in codes.items() if text[0] in texts)
    suffix = suffix_of(source)
    out: list[Output] = []
    if muxed:
        film = Film(source, shown, rules)
        out.append(Output(f"{name}.subtitled{suffix}", film=film))
    if burnt is not None:
        film = Film(source, shown, rules, burnt)
        out.append(Output(f"{name}.{'-'.join(codes[burnt])}.burnt{suffix}", film=film))
    return out


def _codes(options: SessionOptions) -> dict[Which, tuple[str, ...]]:
    """The languages of each text, from top to bottom."""
    source, target = options.language, options.target_language
    return {
        "transcript": (source,),
        "translation": (target,),
        "transcript-above": (source, target),
        "translation-above": (target, source),
    }


def chosen_formats(names: Sequence[str]) -> tuple[str, ...]:
    """The formats called ``names``, `all` for all of them; raises UsageError."""
    asked = known() if ALL in names else list(names)
    if not asked or set(asked) - set(known()):
        raise UsageError(
            f"output format {','.join(names)!r} is not known: give any of {', '.join(known())}, "
            f"or {ALL}"
        )
    return tuple(asked)


def chosen_texts(names: Sequence[str]) -> tuple[Which, ...]:
    """The texts called ``names``; raises UsageError."""
    every = get_args(Which)
    if not names or set(names) - set(every):
        raise UsageError(f"text {','.join(names)!r} is not known: give any of {', '.join(every)}")
    return tuple(which for which in every if which in names)


def presented(
    captions: Sequence[Caption], options: SessionOptions, model: str
) -> tuple[list[Caption], list[str]]:
    """The captions that subtitles show, and what people are told about the others, if anything.
    Raises CheckpointError.
    """
    kept, unsure = confident(captions, options, model)
    return kept, [sentence for sentence in (unsure, guarded(captions)) if sentence]


def guarded(captions: Sequence[Caption]) -> str:
    """A sentence about answers that were no captions, or not at once; empty where all were."""
    counts = Counter(guard for caption in captions for guard in caption.guards)
    if not counts:
        return ""
    segments = sum(bool(caption.guards) for caption in captions)
    kinds = ", ".join(f"{kind.replace('_', ' ')} {count}" for kind, count in counts.most_common())
    return (
        f"in {segments} of {len(captions)} segments the model's answer was not what was asked for "
        f"({kinds}), and is not shown or was asked for again"
    )


def confident(
    captions: Sequence[Caption], options: SessionOptions, model: str
) -> tuple[list[Caption], str]:
    """The captions that subtitles show, and a sentence about those that are left out because the
    model is too unsure of them; empty where none is. Raises CheckpointError.
    """
    asked = options.min_confidence
    least = confidence.least(model) if asked is None else asked
    kept = [caption for caption in captions if _sure(caption, least)]
    count = len(captions) - len(kept)
    if not count:
        return kept, ""
    return kept, (
        f"{count} of {len(captions)} segments are not in the subtitles, as their mean confidence "
        f"is under {least:g}: --min-confidence 0 shows them"
    )


def _sure(caption: Caption, least: float) -> bool:
    rounded = caption.transcript.rounded  # as in the document, from which a later run may decide
    return not rounded or sum(rounded) / len(rounded) >= least


def make_writable(folder: Path) -> None:
    """Makes ``folder``; raises OSError now rather than after an hour of speech."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(folder, os.W_OK) else " (it cannot be written to)"
    except OSError as error:
        reason = f" ({error.strerror})"
    if os.path.isfile(folder):
        reason = " (it is a file)"
    if reason:
        raise OSError(
            f"captions cannot be saved in {folder.absolute()}{reason}: choose a folder with -o"
        )


def save(
    outputs: Sequence[Output], folder: Path, captions: Sequence[Caption], form: dict[str, Any]
) -> list[Path]:
    """Writes ``outputs``, each whole or not, of ``captions`` and their document ``form``."""
    paths = [folder / output.file for output in outputs]
    for output, path in zip(outputs, paths, strict=True):
        _write(output, path, captions, form)
    return paths


def write_all(
    outputs: Sequence[Output],
    folder: Path,
    name: str,
    captions: Sequence[Caption],
    form: dict[str, Any],
    journal: Journal,
) -> list[Path]:
    """Writes ``outputs`` whole, and says so in ``journal``; cues are in step with the shot changes
    of the document ``form``. Raises OSError, and for a film InputError and DependencyError, leaving
    no drafts.
    """
    drafts = {o: folder / f"{DRAFT}-{at}{Path(o.file).suffix}" for at, o in enumerate(outputs)}
    try:
        for output, draft in drafts.items():
            _write(output, draft, captions, form)
            _sync(draft)
        journal.announce(name, {output.file: digest(draft) for output, draft in drafts.items()})
        for output, draft in drafts.items():
            os.replace(draft, folder / output.file)
        _sync(folder)
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)
    journal.finish(name, {output.file: output.layout for output in outputs})
    return [folder / output.file for output in outputs]


def _write(output: Output, path: Path, captions: Sequence[Caption], form: dict[str, Any]) -> None:
    changes_s = form.get("shot_changes", ())
    if output.film is not None:
        output.film.write(path, captions, changes_s)
    elif output.which is None:
        text = json.dumps(form, ensure_ascii=False, indent=1) + "\n"
        write_whole(path, text)
    else:
        write(cues(captions, output.which, output.rules, changes_s), path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
