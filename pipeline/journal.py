"""What a batch has done in one output folder, so that a run that was killed goes on where it was.

A file of JSON lines, `.dragoman.jsonl`, each line on disk before the work goes on. It knows, for
every name of outputs, the source, what was asked of it (`work`, a digest), the captions of the
segments that are finished, and the digests of the files that were written. So a later run can tell
its own outputs from those of others, which it does not overwrite.

What is unusual: the folder itself is locked while a journal is open, which the kernel undoes when a
process dies. A line that was torn by a crash is left out; what is of no more use is left out too
when the journal is opened again.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dragoman import system
from dragoman.stages.messages import Caption, Text, VideoFrame

NAME = ".dragoman.jsonl"
VERSION = 1  # of the records; those of another version are not read
DRAFT = ".dragoman-draft"  # what every temporary name begins with


@dataclass(frozen=True)
class Finished:
    """A finished segment: where it lay, in samples, and its caption (None: nothing was said)."""

    start: int
    end: int
    caption: Caption | None


@dataclass
class Entry:
    """All about one name. ``outputs`` has the digests that a file of ours may have, ``written`` the
    files that are finished, each with a digest of what it was made by (`Output.layout`).
    """

    source: str
    work: str
    segments: dict[int, Finished] = field(default_factory=dict)
    outputs: dict[str, list[str]] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)
    done: bool = False


def relative(source: Path, folder: Path) -> str:
    """How a journal in ``folder`` calls ``source``: both may be moved together."""
    return Path(os.path.relpath(source.resolve(), folder.resolve())).as_posix()


def sources_of(folder: Path) -> dict[str, str]:
    """The names that the journal of ``folder`` knows, and their sources; empty without one."""
    return {name: entry.source for name, entry in _entries(_records(folder / NAME)).items()}


def outputs_of(folder: Path) -> set[str]:
    """The names of the files that the journal of ``folder`` knows as outputs."""
    entries = _entries(_records(folder / NAME)).values()
    return {file for entry in entries for file in entry.outputs}


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def not_ours(entry: Entry | None, paths: Iterable[Path]) -> Path | None:
    """The first of ``paths`` that is there and that no run has written as it is now."""
    for path in paths:
        ours = entry.outputs.get(path.name, []) if entry else []
        if path.exists() and digest(path) not in ours:
            return path
    return None


def foreign(path: Path) -> str:
    """What to say about such a path."""
    return (
        f"{path} is there already, and not as an earlier run wrote it: "
        "give --overwrite to replace it, or choose another folder with -o"
    )


class Journal:
    """The journal of ``folder``, locked; ``run`` marks the lines of this run."""

    def __init__(self, folder: Path, run: str) -> None:
        """Locks the folder, removes drafts of a killed run; raises OSError where that cannot be."""
        self._path, self._run = folder / NAME, run
        self._lock = os.open(folder, os.O_RDONLY)
        try:
            _lock(self._lock, folder)
            for draft in [*folder.glob(f"{DRAFT}*"), *folder.glob(f".{DRAFT}*.tmp")]:
                draft.unlink(missing_ok=True)
            self.entries = _entries(_records(self._path))
            self._compact()
        except BaseException:
            os.close(self._lock)
            raise

    def tidy(self) -> None:
        """Removes a journal that tells a later run nothing."""
        if not any(entry.segments or entry.outputs for entry in self.entries.values()):
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    def close(self) -> None:
        os.close(self._lock)

    def begin(self, name: str, source: str, work: str) -> Entry:
        """The entry to go on with: the one that is there, if it is unfinished and of equal work."""
        entry = self.entries.get(name)
        if entry is None or entry.done or (entry.source, entry.work) != (source, work):
            self._note("begin", name, version=VERSION, source=source, work=work)
        return self.entries[name]

    def finish_segment(self, name: str, index: int, finished: Finished) -> None:
        self._note("segment", name, index=index, **asdict(finished))

    def announce(self, name: str, outputs: dict[str, str]) -> None:
        """Says which files are about to appear, with their digests."""
        self._note("outputs", name, outputs={file: [sha] for file, sha in outputs.items()})

    def finish(self, name: str, written: dict[str, str]) -> None:
        self._note("done", name, written=written)

    def _note(self, kind: str, name: str, **rest: Any) -> None:
        record = {"kind": kind, "name": name, **rest, "run": self._run}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line(record))
            file.flush()
            os.fsync(file.fileno())
        _apply(record, self.entries)

    def _compact(self) -> None:
        """Leaves out torn lines, and segments whose file is finished or was begun anew."""
        if not self._path.exists():
            return
        text = "".join(map(_line, self._useful()))
        if text.encode() == self._path.read_bytes():
            return
        draft = self._path.with_name(f"{DRAFT}.jsonl")
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, self._path)

    def _useful(self) -> Iterator[dict[str, Any]]:
        """The records that still count, as they were written."""
        last: dict[str, int] = {}
        records = list(_records(self._path))
        for at, record in enumerate(records):
            if record["kind"] == "begin":
                last[record["name"]] = at
        for at, record in enumerate(records):
            name, kind = record["name"], record["kind"]
            obsolete = self.entries[name].done or at < last[name]
            if kind == "outputs" or not (obsolete and kind == "segment"):
                yield record


def _lock(handle: int, folder: Path) -> None:
    try:
        system.lock(handle, wait=False)
    except BlockingIOError:
        raise BlockingIOError(
            f"another run is writing into {folder}: wait until it has ended, or choose a folder "
            "with -o"
        ) from None


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a journal; lines that were torn are left out."""
    try:
        lines = path.read_bytes().split(b"\n")
    except (FileNotFoundError, NotADirectoryError):
        return
    begun = set()
    for line in lines:
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if not isinstance(record, dict) or not {"kind", "name"} <= record.keys():
                continue
            if record["kind"] == "begin" and record.get("version") == VERSION:
                begun.add(record["name"])
            if record["name"] in begun:
                yield record


def _entries(records: Iterable[dict[str, Any]]) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for record in records:
        _apply(record, entries)
    return entries


def _apply(record: dict[str, Any], entries: dict[str, Entry]) -> None:
    name, kind = record["name"], record["kind"]
    entry = entries.get(name)
    if kind == "begin":
        ours = entry.outputs if entry else {}
        entries[name] = Entry(record["source"], record["work"], outputs=ours)
        return
    assert entry is not None
    if kind == "segment":
        caption = record["caption"] and _caption(record["caption"])
        entry.segments[record["index"]] = Finished(record["start"], record["end"], caption)
    elif kind == "outputs":
        # Until they are in place the files of before may still be there.
        for file, digests in record["outputs"].items():
            entry.outputs[file] = [*entry.outputs.get(file, []), *digests]
    elif kind == "done":
        told = record["written"]
        written = told if isinstance(told, dict) else dict.fromkeys(told, "")  # of older versions
        entry.written, entry.done, entry.segments = entry.written | written, True, {}
        entry.outputs = {file: digests[-1:] for file, digests in entry.outputs.items()}


def _caption(form: dict[str, Any]) -> Caption:
    texts = {key: _text(form[key]) for key in ("transcript", "translation")}
    frames = tuple(VideoFrame(**frame) for frame in form["frames"])
    guards = tuple(form.get("guards", ()))  # journals of older versions have none
    return Caption(**{**form, **texts, "frames": frames, "guards": guards})


def _text(form: dict[str, Any]) -> Text:
    confidences = tuple(form.get("confidences", ()))  # journals of older versions have none
    spans = tuple((first, end) for first, end in form.get("spans", ()))
    return Text(form["committed"], form["tail"], confidences, spans)
