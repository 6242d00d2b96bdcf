"""A model with its matrices in int8, int4 or bf12, as a model folder that loads straight in.

Used by `dragoman models quantize`. The quantized matrices are made one after the other, read a few
megabytes at a time, and go into files of their own: those of the language model, and of the audio
tower if it is given a form. Everything else, the vision tower and the per-layer table too, is
copied as it is stored. `config.json` says in `quantization_config` what was done. The
folder appears under its name only when it is whole.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

from dragoman.decoder import LanguageModel, unused_tensor_names
from dragoman.decoder.quantize import Scheme, plan, quantize
from dragoman.encoders import AudioEncoder
from dragoman.errors import CheckpointError
from dragoman.models import shards, weights
from dragoman.models.checkpoint import Checkpoint
from dragoman.models.quantized import quantize_tower, quantized_tensors, tower_plan
from dragoman.models.reading import GROUPS, Progress, Stored
from dragoman.models.shards import Part
from dragoman.models.slicing import appearing, companions

TEXT, AUDIO = GROUPS["language_model"], GROUPS["audio_tower"]
FILE_BYTES = 2**29  # of quantized weights, which are held until their file is written


def write_quantized(
    checkpoint: Checkpoint,
    scheme: Scheme,
    folder: Path,
    file_bytes: int = FILE_BYTES,
    progress: Progress = lambda done, total: None,
) -> None:
    """Writes a model with quantized weights to the new ``folder``.

    Raises CheckpointError for a model that is quantized already, not whole, or damaged, a folder
    that exists, and a disk that is too full.
    """
    stored = _used(checkpoint)
    text, text_forms = _language_model(checkpoint, stored, scheme)
    audio, audio_forms = _audio_tower(checkpoint, stored, scheme.audio)
    forms = text_forms | audio_forms
    taken = {f"{name}.weight" for name in forms}
    copied = {name: Part(tensor) for name, tensor in stored.items() if name not in taken}
    copied_bytes = sum(part.bytes for part in copied.values())
    made_bytes = sum(buffer.nbytes for part in (text, audio) for buffer in part.buffers())
    total = copied_bytes + sum(stored[name].bytes for name in taken)
    with appearing(folder, copied_bytes + made_bytes) as building:
        shards.write(building, copied, progress=lambda done, _: progress(done, total))
        made = quantized_tensors(
            stored, forms, lambda done, _: progress(copied_bytes + done, total)
        )
        _write(building, made, file_bytes)
        for path in companions(checkpoint.folder):
            shutil.copyfile(path, building / path.name)
        config = {**checkpoint.config, "quantization_config": scheme.to_dict()}
        text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
        (building / "config.json").write_text(text, encoding="utf-8")


def _used(checkpoint: Checkpoint) -> dict[str, Stored]:
    """What of a folder's tensors anybody reads."""
    said = checkpoint.config.get("quantization_config")
    if said is not None:
        raise CheckpointError(
            f"{checkpoint.folder} is quantized already ({json.dumps(said)}): give the original"
        )
    unused = {TEXT + name for name in unused_tensor_names(checkpoint.text_config)}
    return {name: tensor for name, tensor in checkpoint.tensors.items() if name not in unused}


def _language_model(
    checkpoint: Checkpoint, stored: Mapping[str, Stored], scheme: Scheme
) -> tuple[nn.Module, dict[str, str]]:
    """The module as it will be, without memory, and the forms of its matrices by official name."""
    with weights.shapes_only():
        module = LanguageModel(checkpoint.text_config)
    weights.check(module, _of(stored, TEXT), checkpoint.folder, TEXT)
    forms = plan(module, scheme)
    return quantize(module, scheme), {TEXT + name: form for name, form in forms.items()}


def _audio_tower(
    checkpoint: Checkpoint, stored: Mapping[str, Stored], form: str | None
) -> tuple[nn.Module, dict[str, str]]:
    """The same of the audio tower; nothing of a folder without one."""
    own = _of(stored, AUDIO)
    if not own:
        return nn.Module(), {}
    with weights.shapes_only():
        module = AudioEncoder(checkpoint.audio_config)
    weights.check(module, own, checkpoint.folder, AUDIO)
    forms = tower_plan(module, form)
    quantize_tower(module, forms)
    return module, {AUDIO + name: form for name, form in forms.items()}


def _of(stored: Mapping[str, Stored], prefix: str) -> dict[str, Stored]:
    """The tensors of a group by their names in its module."""
    return {n.removeprefix(prefix): t for n, t in stored.items() if n.startswith(prefix)}


def _write(folder: Path, made: Iterator[tuple[str, Tensor]], file_bytes: int) -> None:
    """Writes tensors as they come, into files of about `file_bytes`."""
    held: dict[str, Tensor] = {}
    number = 0
    for name, tensor in made:
        held[name] = tensor
        if sum(tensor.nbytes for tensor in held.values()) >= file_bytes:
            number += 1
            _save(held, folder, number)
            held = {}
    if held:
        _save(held, folder, number + 1)


def _save(tensors: Mapping[str, Tensor], folder: Path, number: int) -> None:
    path = folder / f"quantized-{number:05}.safetensors"
    path.touch()
    mode = path.stat().st_mode
    save_file(dict(tensors), path, {"format": "pt"})
    path.chmod(mode)  # safetensors leaves a file that nobody else may read
