"""What a batch is to work on: files, folders and patterns become sources with outputs of their own.

First step of batch. A source's outputs lie beside it, or under the output folder at the same place
as under the folder that was named. They are called after the file without its suffix
(`talk.es.srt`). Where that name is another file's too, in this batch or in the journal of an
earlier one, the suffix stays (`talk.mp4.es.srt`), and after that a number comes. A file that is in
the journal keeps its name.
"""

import glob
import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from dragoman.errors import InputError
from dragoman.pipeline.journal import outputs_of, relative, sources_of

AUDIO = "aac ac3 aif aiff amr au caf flac m4a m4b mka mp2 mp3 oga ogg opus ra wav wma wv"
VIDEO = "3gp asf avi f4v flv m2ts m4v mkv mov mp4 mpeg mpg mts mxf ogv rm ts vob webm wmv"
MEDIA_SUFFIXES = frozenset(f".{name}" for name in f"{AUDIO} {VIDEO}".split())


@dataclass(frozen=True)
class InputFile:
    """A file to work on; its outputs are ``folder / (name + ".es.srt")`` and so on."""

    path: Path
    folder: Path
    name: str


@dataclass(frozen=True)
class Missing:
    """Something that was named and is not there, or holds nothing; ``reason`` is a sentence."""

    path: Path
    reason: str


@dataclass(frozen=True)
class _Found:
    path: Path
    folder: Path


def find(
    paths: Iterable[str | Path], output_dir: Path | None = None
) -> tuple[list[InputFile], list[Missing]]:
    """The files behind ``paths``, each once, in the order given and by name within a folder.

    Of links and the file that they lead to the file counts, if both are there.
    A folder is searched to any depth for files with the suffix of media, without hidden ones and
    those that an earlier run wrote there; a path that does not exist is taken for a pattern (`*`,
    `?`, `[...]`, `**`). A file that is named is taken whatever its suffix.
    """
    found: dict[Path, _Found] = {}
    missing: list[Missing] = []
    for path in paths:
        try:
            for file, base in _expand(str(path), missing):
                folder = file.parent if output_dir is None else output_dir / _below(base, file)
                known = found.get(file.resolve())
                if known is None or (known.path.is_symlink() and not file.is_symlink()):
                    found[file.resolve()] = _Found(file, folder)
        except InputError as error:
            missing.append(Missing(Path(path), str(error)))
    return _named(list(found.values())), missing


def _expand(path: str, missing: list[Missing]) -> list[tuple[Path, Path]]:
    """Files, each with the folder below which its place is kept; reports closed folders."""
    if "://" in path and not os.path.lexists(path):
        raise InputError(
            f"{path} is an address: `dragoman captions {path}` hears it; to translate it store it "
            "as a file first"
        )
    if os.path.isdir(path):
        inside = [(file, Path(path)) for file in _walk(Path(path), missing)]
        if not inside:
            raise InputError(f"{path} holds no audio or video file: name a file, or another folder")
        return inside
    if os.path.lexists(path) or not glob.has_magic(path):
        if not os.path.exists(path):
            raise InputError(f"{path} does not exist: check the name")
        return [(Path(path), Path(path).parent)]
    base = _fixed_part(path)
    matches = map(Path, sorted(glob.glob(path, recursive=True)))
    files = chain.from_iterable(_walk(m, missing) if m.is_dir() else [m] for m in matches)
    media = [file for file in files if _is_media(file)]
    # A film with subtitles that an earlier run wrote is no film to be translated.
    ours = {folder: outputs_of(folder) for folder in {file.parent for file in media}}
    inside = [(file, base) for file in media if file.name not in ours[file.parent]]
    if not inside:
        raise InputError(f"{path} matches no audio or video file: check the pattern")
    return inside


def _fixed_part(pattern: str) -> Path:
    """The folder before the first part of ``pattern`` that has a wildcard."""
    fixed = Path()
    for part in Path(pattern).parent.parts:
        if glob.has_magic(part):
            break
        fixed /= part
    return fixed


def _walk(folder: Path, missing: list[Missing]) -> Iterator[Path]:
    def cannot(error: OSError) -> None:
        reason = f"{error.filename} cannot be searched ({error.strerror}): change its permissions"
        missing.append(Missing(Path(error.filename), reason))

    for place, folders, files in os.walk(folder, onerror=cannot):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        ours = outputs_of(Path(place))
        for name in sorted(set(files) - ours):
            if not name.startswith(".") and _is_media(Path(name)):
                yield Path(place, name)


def _is_media(file: Path) -> bool:
    return file.suffix.lower() in MEDIA_SUFFIXES


def _below(base: Path, file: Path) -> Path:
    return file.parent.relative_to(base)


def _named(found: list[_Found]) -> list[InputFile]:
    """Gives every file a name that no other has in its output folder."""
    names: dict[int, str] = {}
    folders: dict[Path, list[int]] = defaultdict(list)
    for at, file in enumerate(found):
        folders[file.folder.resolve()].append(at)
    for folder, members in folders.items():
        names.update(_names(folder, {at: found[at].path for at in members}))
    return [InputFile(file.path, file.folder, names[at]) for at, file in enumerate(found)]


def _names(folder: Path, files: dict[int, Path]) -> dict[int, str]:
    recorded = sources_of(folder)
    of_source = {source: name for name, source in recorded.items()}
    kept = {at: of_source.get(relative(path, folder)) for at, path in files.items()}
    names = {at: name for at, name in kept.items() if name is not None}
    taken = {_same(name) for name in recorded}
    free = {at: _candidates(path) for at, path in files.items() if at not in names}
    names |= {at: next(candidates) for at, candidates in free.items()}
    while clashes := _clashes(names, set(free), taken, files):
        for at in clashes:
            names[at] = next(free[at])
    return names


def _candidates(path: Path) -> Iterator[str]:
    yield path.stem
    yield path.name
    for number in count(2):
        yield f"{path.name}_{number}"


def _clashes(
    names: dict[int, str], free: set[int], taken: set[str], files: dict[int, Path]
) -> list[int]:
    """Which of the ``free`` must take their next name.

    Nobody has more right to the short name than another; of several with one full name the first
    keeps it.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for at in free:
        groups[_same(names[at])].append(at)
    out: list[int] = []
    for name, group in groups.items():
        if name in taken:
            out += group
        elif len(group) > 1:
            short = [at for at in group if names[at] == files[at].stem != files[at].name]
            out += short or sorted(group)[1:]
    return out


def _same(name: str) -> str:
    """Equal for names that some file systems cannot tell apart."""
    return unicodedata.normalize("NFC", name).casefold()
