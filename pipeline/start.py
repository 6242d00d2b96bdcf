"""From a `ModelSpec` to stages that run: checked, found, downloaded, read ahead, started.

Everything that runs a model comes through here before it starts any process: the command line and
the public API. Unusual: this process reads the weights and keeps none of them; the processes that
map them then find them in memory, and a progress bar needs nobody to report to it.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dragoman.errors import DeviceError
from dragoman.models import hub, reading
from dragoman.spec import ModelSpec

if TYPE_CHECKING:
    from dragoman.pipeline.actors import Host
    from dragoman.pipeline.chain import Chain
    from dragoman.stages.messages import SessionOptions

READ_BYTES = 2**28  # less is there at once

# Shows that the model of a name is being read: what the context gives is told the bytes done, and
# all of them.
Bar = Callable[[str], AbstractContextManager[reading.Progress]]


def check(spec: ModelSpec, language: str, target_language: str) -> None:
    """Finds out cheaply, before a model is loaded, what cannot work.

    Raises LanguageError for languages that are unknown, equal, or not a pair of the model,
    DeviceError for a GPU that is not here, SizeError for a size that the model does not have. A
    model of the hub is asked for its configuration; where a cluster is to look for it, that and the
    GPU are left to its nodes. Raises CheckpointError where the configuration cannot be had.
    """
    from dragoman.models.prompt import check_pair, pairs_of

    folder = hub.here(spec.model) if spec.address else hub.described(spec.model)
    pairs = () if folder is None else pairs_of(hub.read_config(folder))
    check_pair(language, target_language, pairs, spec.model)
    _check_device(spec)
    check_sizes(spec)


def check_sizes(spec: ModelSpec) -> None:
    """Raises SizeError for a size that the model does not have; one elsewhere is left alone."""
    named = [size for size in (spec.size, spec.draft_size) if size and size != "auto"]
    folder = hub.here(spec.model)
    if not named or folder is None:
        return
    from dragoman.models.checkpoint import Checkpoint
    from dragoman.models.sizes import parse

    for size in named:
        parse(size, Checkpoint.open(str(folder)).text_config)


def start(spec: ModelSpec, *, ray: bool = True, progress: Bar | None = None) -> "Chain":
    """A pipeline for any number of sessions, as Ray actors or in this process; a context manager.

    ``progress`` shows the download and the reading of a large model; None: nothing is shown.
    Raises CheckpointError, DeviceError, PipelineError.
    """
    from dragoman.pipeline.chain import Chain
    from dragoman.pipeline.recipes import look_recipe, recipes

    located = locate(spec, bars=progress is not None)
    stages, look = recipes(located), look_recipe(located)
    with read_ahead(located, progress):
        return Chain.start(host(ray, spec.address), stages, look, spec.model)


def host(ray: bool, address: str | None = None, processes: int = 3) -> "Host":
    """Where ``processes`` actors are to live: on Ray, here or at ``address``, or all here."""
    if ray:
        from dragoman.pipeline.ray_actors import RayHost

        return RayHost(address, processes)
    from dragoman.pipeline.actors import InProcess

    return InProcess()


def session_options(
    spec: ModelSpec, *, latency: str | None = None, **fields: Any
) -> "SessionOptions":
    """What a session asks for: ``fields`` of SessionOptions, None for those of the preset
    ``latency`` or else their defaults, and the sizes that ``spec`` names. Raises UsageError.
    """
    from dragoman.stages.messages import SessionOptions
    from dragoman.stages.policies.presets import BALANCED, preset

    given = {name: value for name, value in fields.items() if value is not None}
    asked = {**preset(latency or BALANCED), **given}
    return SessionOptions(size=spec.size, draft_size=spec.draft_size, **asked)


def locate(spec: ModelSpec, bars: bool = False) -> ModelSpec:
    """``spec`` with what stages are told to load: a folder whose files are here and whole, or a
    bundled name.

    On a cluster a model that is not here is left for each node to find. ``bars`` allows a progress
    bar for a download. Raises CheckpointError.
    """
    from dragoman.models import folders  # not before: it brings numpy

    here = hub.here(spec.model) is not None
    if not here and spec.address is not None:
        return spec
    folder = hub.find(spec.model, bars)
    hub.read_config(folder)
    folders.tensors(folder)
    return spec if here else replace(spec, model=str(folder))


@contextmanager
def read_ahead(spec: ModelSpec, progress: Bar | None = None) -> Iterator[None]:
    """Reads the located model's weights into memory while the body starts what maps them.

    A small model, or one that is elsewhere, needs none of it.
    """
    from dragoman.models import folders

    folder = hub.here(spec.model)
    wanted = [] if folder is None else reading.used_by_speech(folders.tensors(folder))
    if sum(stored.bytes for stored in wanted) < READ_BYTES:
        yield
        return
    over = threading.Event()
    with (progress or _unseen)(hub.name_of(Path(spec.model))) as told:
        reader = threading.Thread(
            target=_read, args=(wanted, told, over), name="read-ahead", daemon=True
        )
        reader.start()
        try:
            yield
        finally:
            over.set()
            reader.join()


def _unseen(name: str) -> AbstractContextManager[reading.Progress]:
    return nullcontext(lambda done, total: None)


def _read(wanted: list[reading.Stored], told: reading.Progress, over: threading.Event) -> None:
    try:
        reading.read_ahead(wanted, told, over.is_set)
    except OSError:  # who needs the file will say so
        return


def _check_device(spec: ModelSpec) -> None:
    if spec.device == "cpu" or spec.address is not None:
        return
    import torch

    if not torch.cuda.is_available():
        raise DeviceError(
            "--device cuda: torch finds no GPU here: see whether `nvidia-smi` shows one, or leave "
            "the option out to run on the CPU"
        )
