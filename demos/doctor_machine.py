"""What `dragoman doctor` finds out about the machine, before any model is loaded.

Each check is a function that gives a `Finding` or raises; an error of ours says what to do already.
Heavy imports wait until a check needs them.
"""

import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Literal

from dragoman import system
from dragoman.errors import CheckpointError, DependencyError, DragomanError, InputError
from dragoman.spec import ModelSpec

Status = Literal["ok", "warning", "failed"]
ROOM_BYTES = 2**30  # of disk, for compiled kernels, caches and outputs
PYTHONS = ((3, 11), (3, 12))  # as pyproject.toml has them
REQUIREMENT = re.compile(r"([\w.-]+)(?:==([\d.]+)\.\*)?$")
SHOWN = ("torch", "ray", "tokenizers", "av", "gradio")


@dataclass(frozen=True)
class Finding:
    """What a check found; ``remedy`` says what to do unless all is well."""

    check: str
    status: Status
    found: str
    remedy: str = ""


def checked(check: str, find: Callable[[], Finding]) -> Finding:
    """What ``find`` gives, or its error as a failure."""
    try:
        return find()
    except (DragomanError, OSError) as error:
        return Finding(check, "failed", str(error))
    except Exception as error:  # a defect, of ours or of a library
        return Finding(
            check,
            "failed",
            f"{type(error).__name__}: {error}",
            "report it, with these lines and what --debug shows",
        )


def machine(spec: ModelSpec) -> Iterator[Finding]:
    """All about the machine, and whether the model of ``spec`` fits on it."""
    yield checked("machine", _machine)
    yield checked("versions", versions)
    yield checked("accelerator", partial(_accelerator, spec))
    yield checked("memory", partial(_memory, spec))
    yield checked("disk", _disk)
    yield checked("microphone", _microphone)


def _machine() -> Finding:
    python = platform.python_version()
    found = (
        f"{platform.system()} {platform.release()}, {system.processor()}, {system.cores()} cores, "
        f"Python {python}"
    )
    if tuple(map(int, platform.python_version_tuple()[:2])) not in PYTHONS:
        return Finding("machine", "failed", found, "run it with Python 3.11 or 3.12")
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        remedy = "it may work, more slowly: only Linux on x86-64 was tried"
        return Finding("machine", "warning", found, remedy)
    return Finding("machine", "ok", found)


def versions() -> Finding:
    """What is installed against what this package asks for."""
    wrong = []
    try:
        asked = metadata.requires("dragoman") or []
    except metadata.PackageNotFoundError:
        remedy = "install it as the README says, to have the versions it was tested with"
        return Finding("versions", "warning", "dragoman is not installed", remedy)
    for required in asked:
        match = REQUIREMENT.match(required)
        if match is None:  # a condition, as that of an extra, which nobody needs to run it
            continue
        name, wanted = match.groups()
        try:
            there = metadata.version(name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        if wanted and not f"{there}.".startswith(f"{wanted}."):
            wrong.append(f"{name} is {there}, not {wanted}")
    if wrong:
        remedy = "install what the README's set-up installs (`pip install .`)"
        return Finding("versions", "failed", ", ".join(wrong), remedy)
    found = ", ".join(f"{name} {metadata.version(name)}" for name in ("dragoman", *SHOWN))
    return Finding("versions", "ok", found)


def _accelerator(spec: ModelSpec) -> Finding:
    import torch

    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        used = "" if spec.device == "cuda" else "; --device cuda uses it"
        return Finding("accelerator", "ok", f"{name}, CUDA {torch.version.cuda}{used}")
    if spec.device == "cuda":
        remedy = "see whether `nvidia-smi` shows one, or leave --device out"
        return Finding("accelerator", "failed", "torch finds no GPU here", remedy)
    return Finding("accelerator", "ok", "no GPU; the CPU is used")


def _memory(spec: ModelSpec) -> Finding:
    from dragoman.models.checkpoint import Checkpoint
    from dragoman.models.costs import cost
    from dragoman.models.reading import GROUPS

    known = system.memory()
    free = "this system does not say what is free"
    if known is not None:
        free = f"{_size(known[1])} of {_size(known[0])} free"
    try:
        checkpoint = Checkpoint.listed(spec.model)
    except CheckpointError:  # a check of its own says why
        return Finding("memory", "ok", free)
    forms = cost(checkpoint.text_config).memory_bytes
    form = spec.dtype.removesuffix("+audio")
    if form not in forms:
        form = {4: "float32"}.get(checkpoint.dtype(spec.dtype).itemsize, "bf16")
    ears = tuple(GROUPS[group] for group in ("audio_tower", "embed_audio"))
    heard = sum(s.bytes for name, s in checkpoint.tensors.items() if name.startswith(ears))
    wanted = forms[form] + heard
    found = f"{free}; {checkpoint.name} in {form} takes about {_size(wanted)}"
    if known is not None and wanted > known[1]:
        remedy = "close other programs, or take --dtype int8 or int4, or a smaller --size"
        return Finding("memory", "warning", found, remedy)
    return Finding("memory", "ok", found)


def _disk() -> Finding:
    from dragoman.models import derived

    folders = {"the cache": derived.folder(), "temporary files": Path(tempfile.gettempdir())}
    room = {what: shutil.disk_usage(_existing(folder)).free for what, folder in folders.items()}
    found = ", ".join(f"{_size(room[what])} free at {path}" for what, path in folders.items())
    if min(room.values()) < ROOM_BYTES:
        short = " and ".join(what for what, free in room.items() if free < ROOM_BYTES)
        remedy = f"make room for {short}, or set XDG_CACHE_HOME or TMPDIR to another disk"
        return Finding("disk", "warning", found, remedy)
    return Finding("disk", "ok", found)


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def _microphone() -> Finding:
    """Files and the browser's microphone work without one, so nothing here is a failure."""
    from dragoman.pipeline.devices import choose, devices

    try:
        found = devices()
        chosen = choose(None, found)
    except (DependencyError, InputError) as error:
        return Finding("microphone", "warning", str(error))
    others = f", and {len(found) - 1} more" if len(found) > 1 else ""
    return Finding("microphone", "ok", f"{chosen.name} ({chosen.api}){others}")


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
