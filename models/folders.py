"""A model folder of any kind that is loaded here, as if it were in the Hugging Face layout.

The one place that knows the kinds: :mod:`models.checkpoint` and the command ask here for a folder's
tensors, whose names are the official ones whatever the folder calls them.
"""

from collections.abc import Iterator
from pathlib import Path

from dragoman.errors import CheckpointError
from dragoman.models import adapters, hub, kinds, mlx, reading
from dragoman.models.reading import TIED, Stored, from_header, named


def tensors(folder: Path) -> dict[str, Stored]:
    """All tensors of ``folder`` by their official names, of an adapter with those of its base.

    What has to be made first is made now, and kept. Raises CheckpointError.
    """
    if kinds.is_adapter(folder):
        return adapters.merged(folder, tensors(hub.base(folder)))
    kinds.check_files(folder)
    return mlx.tensors(folder) if mlx.is_mlx(folder) else reading.tensors(folder)


def model_folder(folder: Path) -> Path:
    """Where what stands beside the weights is: the tokenizer and the like of an adapter's base."""
    return model_folder(hub.base(folder)) if kinds.is_adapter(folder) else folder


def listed(model: str) -> tuple[Path, dict[str, Stored]]:
    """The folder and the tensors of ``model``, whose files may not be there.

    Of a model of the hub that was not downloaded the folder has `config.json` alone, and the
    tensors are known from the headers of the hub's files. Raises CheckpointError.
    """
    folder = hub.described(model) or hub.find(model)
    hub.read_config(folder)
    try:
        return folder, tensors(folder)
    except CheckpointError:
        if hub.here(model) is not None:
            raise
        # Not, or not wholly, downloaded.
        found = named(_hub_tensors(model, folder), model)
    if not found:
        raise CheckpointError(f"{model} has no *.safetensors: the weights are missing")
    return folder, {name: stored for name, stored in found.items() if name not in TIED}


def _hub_tensors(model: str, folder: Path) -> Iterator[Stored]:
    from huggingface_hub import HfApi

    repository, _, said = model.partition("@")
    revision = said or None
    try:
        api = HfApi()
        found = api.list_repo_files(repository, revision=revision)
        files = [name for name in found if "/" not in name]
        headers = {
            name: api.parse_safetensors_file_metadata(repository, name, revision=revision).tensors
            for name in files
            if name.endswith(".safetensors")
        }
    except Exception as error:
        raise CheckpointError(hub.explained(model, error)) from error
    for name, header in headers.items():
        for tensor, entry in header.items():
            yield from_header(tensor, vars(entry), folder / name)
