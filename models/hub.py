"""Where a model is: a bundled name, a folder, or an id on the Hugging Face hub, in that order.

An id may name a revision, `google/gemma-3n-E2B-it@main`, and `BASE+ADAPTER` is a LoRA adapter over
a base of one's choice; an adapter alone names its base itself.

Downloading is huggingface_hub's, with its cache, its token and its offline flag (HF_HOME, HF_TOKEN,
HF_HUB_OFFLINE). What is unusual: the configuration comes first, so that a model of another kind,
one that needs a licence, or a mistyped name costs no gigabytes; and whatever goes wrong is one
sentence with the remedy.
"""

import hashlib
import json
import re
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from dragoman.errors import CheckpointError
from dragoman.models import kinds
from dragoman.models.reading import read_json

BUNDLED = Path(__file__).resolve().parent
# All that is ever read; other files of a repository may be many and large.
FILES = (
    "config.json",
    kinds.ADAPTER,
    "preprocessor_config.json",
    "tokenizer.json",
    "*.safetensors",
    "*.safetensors.index.json",
)
SMALL_BYTES = 2**30
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
# Quantized copies of a model, from which adapters are trained; its original merges with them.
_COPIES = re.compile(r"(-unsloth)?-bnb-4bit$")


def find(model: str, bars: bool = False) -> Path:
    """The folder of ``model``, downloaded if need be; raises CheckpointError.

    ``bars``: a download is shown on stderr, where that is a terminal.
    """
    if (folder := here(model)) is not None:
        return folder
    if HUB_ID.fullmatch(model):
        return download(model, bars)
    if "+" in model:
        base, _, adapter = model.rpartition("+")
        return _paired(find(base, bars), find(adapter, bars))
    if (kind := kinds.of_file(model)) is not None and Path(model).expanduser().is_file():
        raise CheckpointError(f"{model} is {kind}; it is not read here: {kinds.INSTEAD}")
    names = ", ".join(sorted(path.parent.name for path in BUNDLED.glob("*/config.json")))
    raise CheckpointError(
        f"no model at {model!r}: give a folder with config.json, tokenizer.json and safetensors, "
        f"a bundled name ({names or 'none is bundled'}), or a hub id such as google/gemma-3n-E2B-it"
    )


def here(model: str) -> Path | None:
    """The folder of a bundled model, or the folder ``model``; None where it is neither."""
    bundled = BUNDLED / model
    if "/" not in model and (bundled / "config.json").is_file():
        return bundled
    folder = Path(model).expanduser()
    if folder.is_dir() or "+" not in model:
        return folder if folder.is_dir() else None
    base, _, adapter = model.rpartition("+")
    under, over = here(base), here(adapter)
    return None if under is None or over is None else _paired(under, over)


def base(folder: Path) -> Path:
    """The folder of the model that the adapter in ``folder`` changes, downloaded if need be."""
    return find(_base_name(folder))


def is_small(folder: Path) -> bool:
    """Whether the weights in ``folder``, of an adapter those of its base, are few enough to be
    computed with at once wherever they are kept.
    """
    whole = base(folder) if kinds.is_adapter(folder) else folder
    return sum(path.stat().st_size for path in whole.glob("*.safetensors")) < SMALL_BYTES


def _base_name(folder: Path) -> str:
    from dragoman.models import adapters  # not before: it brings numpy

    return _COPIES.sub("", adapters.base_of(folder))


def _paired(base: Path, adapter: Path) -> Path:
    """A folder with an adapter that names another base: links in the cache, of a few bytes."""
    from dragoman.models import adapters, derived

    if not kinds.is_adapter(adapter):
        raise CheckpointError(f"{adapter} holds no {kinds.ADAPTER}: it is not an adapter")
    base, adapter = base.resolve(), adapter.resolve()
    key = hashlib.sha256(f"{base}\n{adapter}".encode()).hexdigest()
    folder = derived.folder().parent / "adapters" / key / adapter.name
    config = read_json(adapter / kinds.ADAPTER) | {"base_model_name_or_path": str(base)}
    weights = folder / adapters.WEIGHTS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / kinds.ADAPTER).write_text(json.dumps(config), encoding="utf-8")
        if not weights.is_symlink():
            weights.symlink_to(adapter / adapters.WEIGHTS)
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be written: {error.strerror}") from None
    return folder


def name_of(folder: Path) -> str:
    """What people call the model in ``folder``: a hub's cache names its folders by checksums."""
    repository = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.rpartition("--")[2]
    return folder.name


def download(model: str, bars: bool = False) -> Path:
    """The folder with what is read of the hub's ``model``; raises CheckpointError.

    Where the hub cannot be reached, what was downloaded earlier is taken.
    """
    read_config(_fetch(model, bars, "config.json", kinds.ADAPTER))
    folder = _fetch(model, bars, *FILES)
    if not any(folder.glob("*.safetensors")):
        _name_kind(model)
    if kinds.is_adapter(folder):
        find(_base_name(folder), bars)
    return folder


def described(model: str) -> Path | None:
    """A folder with the `config.json` of ``model``: of a model of the hub nothing else is fetched.

    None for what is neither here nor a hub id. Raises CheckpointError.
    """
    folder = here(model)
    if folder is None and HUB_ID.fullmatch(model):
        return _fetch(model, False, "config.json", kinds.ADAPTER)
    return folder


def _fetch(model: str, bars: bool, *files: str) -> Path:
    # Imported here: whoever has the folder never needs it.
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    with nullcontext() if bars and sys.stderr.isatty() else disable_progress_bars():
        try:
            name, _, revision = model.partition("@")
            folder = Path(
                snapshot_download(
                    name,
                    revision=revision or None,
                    allow_patterns=list(files),
                    ignore_patterns="*/*",
                )
            )
        except Exception as error:  # of the hub, of the network below it, or of the disk
            raise CheckpointError(explained(model, error)) from error
    if not any((folder / file).is_file() for file in ("config.json", kinds.ADAPTER)):
        _name_kind(model)
    return folder


def _name_kind(model: str) -> None:
    """Raises CheckpointError where the files of the hub's ``model`` are of a kind that is known,
    and cannot be loaded.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    name, _, revision = model.partition("@")
    try:
        files = HfApi().list_repo_files(name, revision=revision or None)
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError):
        return  # that it is no model folder is said anyway
    beside = (".bin", ".pt", ".pth")  # training leaves such files beside any model
    for file in sorted(name for name in files if not name.endswith(beside)):
        if (kind := kinds.of_file(file)) is not None:
            raise CheckpointError(
                f"{model} has {file}, {kind}; it is not read here: {kinds.INSTEAD}"
            )


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a Gemma 3n, of an adapter that of its base; raises CheckpointError where
    it is not one.

    What MLX says of its weights is left out, as they are read as ordinary ones.
    """
    if kinds.is_adapter(folder):
        name = _base_name(folder)
        return read_config(described(name) or find(name))
    path = folder / "config.json"
    if not path.is_file():
        kinds.check_files(folder)
        raise CheckpointError(f"{folder} has no config.json: it is not a model folder")
    config = read_json(path)
    if config.get("model_type") != "gemma3n":
        raise CheckpointError(
            f"{path} describes a {config.get('model_type')!r} model, expected 'gemma3n': "
            "take a Gemma 3n, such as google/gemma-3n-E2B-it"
        )
    kinds.check_config(config, path)
    if "quantization" in config:
        config = {k: v for k, v in config.items() if not k.startswith("quantization")}
    return config


def explained(model: str, error: Exception) -> str:
    """What went wrong with the hub's ``model``, and what to do, in one sentence."""
    from huggingface_hub import constants, errors

    hub, cache = constants.ENDPOINT, constants.HF_HUB_CACHE
    name, _, revision = model.partition("@")
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{model} needs a licence: accept it at {hub}/{name}, then set HF_TOKEN to a token of "
            f"the account that did (made at {hub}/settings/tokens)"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"no model {model!r}: there is no such folder here, and {hub} has none of that name "
            "for you: check the name, or set HF_TOKEN if it is private"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return (
            f"{name} has no revision {revision!r}: see {hub}/{name}/tree/main for its branches and "
            "tags, or leave @ and what follows out"
        )
    if isinstance(error, errors.HfHubHTTPError) and error.response.status_code in (401, 403):
        return (
            f"{hub} does not accept your token for {model}: set HF_TOKEN to a valid one that may "
            f"read it (made at {hub}/settings/tokens)"
        )
    if isinstance(error, errors.LocalEntryNotFoundError):
        missing = f"{model} is not, or not wholly, in the cache {cache}"
        if constants.is_offline_mode():
            return f"{missing}, and HF_HUB_OFFLINE is set: unset it once to download the model"
        reason = _first_line(error.__cause__ or error)
        return (
            f"{hub} cannot be reached ({reason}), and {missing}: check the network and HF_ENDPOINT"
        )
    if isinstance(error, OSError) and error.errno is not None:
        return (
            f"{model} cannot be written to {cache} ({error.strerror}): make room there, or set "
            "HF_HOME to another folder"
        )
    return f"the download of {model} failed ({_first_line(error)}): run the same again"


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")
