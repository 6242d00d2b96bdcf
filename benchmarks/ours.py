"""Our side of a comparison: quantized folders, models, and the stages over them."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from benchmarks.room import MakeRoom
from dragoman.decoder import LanguageModel
from dragoman.decoder.quantize import Scheme, quantize
from dragoman.encoders import LogMel, StreamingAudioEncoder
from dragoman.models.checkpoint import Checkpoint
from dragoman.models.quantizing import write_quantized
from dragoman.stages.encode import EncodeStage
from dragoman.stages.translate import TranslateStage

SMALL_HEAD = "int8-head4"
SCHEMES = {
    "bf12": Scheme("bf12", "bf12", "bf12"),
    "int8": Scheme("int8", "int8", "bf12"),
    "int4": Scheme("int4", "int4", "bf12"),
    SMALL_HEAD: Scheme("int8", "int4", "bf12"),
}
FORMS = ("bf16", "bf12", "int8", "int4")  # that are compared, in this order
FOLDERS = (*FORMS, SMALL_HEAD)


@dataclass(frozen=True)
class Stages:
    """What a live session runs through, behind the segmenter; ``encoder`` is part of ``encode``."""

    encoder: StreamingAudioEncoder
    encode: EncodeStage
    translate: TranslateStage
    model: LanguageModel


def quantized(folder: Path, form: str, make_room: MakeRoom = lambda needed: None) -> Path:
    """The folder with the weights of ``folder`` in ``form``, written beside it unless it is there.

    One that was written by another scheme is written anew. Raises CheckpointError where it cannot
    be written.
    """
    if form == "bf16":
        return folder
    other, scheme = folder.with_name(f"{folder.name}-{form}"), SCHEMES[form]
    if other.is_dir():
        if Checkpoint.open(str(other)).config.get("quantization_config") == scheme.to_dict():
            return other
        shutil.rmtree(other)
    checkpoint = Checkpoint.open(str(folder))
    make_room(quantized_bytes(checkpoint, scheme))
    write_quantized(checkpoint, scheme, other)
    return other


def quantized_bytes(checkpoint: Checkpoint, scheme: Scheme) -> int:
    """Bytes of weights in the folder that `quantized` writes, as if its audio tower were copied."""
    with torch.device("meta"):
        model = LanguageModel(checkpoint.text_config).to(torch.bfloat16)
    whole, stored = _bytes(model), sum(each.bytes for each in checkpoint.tensors.values())
    return stored - whole + _bytes(quantize(model, scheme, torch.bfloat16))


def _bytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in module.state_dict().values())


def language_model(checkpoint: Checkpoint, device: str) -> LanguageModel:
    """The decoder: bf16, or as its folder is quantized."""
    return checkpoint.language_model(torch.bfloat16, device)


def audio_encoder(
    checkpoint: Checkpoint, device: str, form: str | None = None
) -> StreamingAudioEncoder:
    """The encoder from samples on: as its folder has it, or with its matrices in ``form``."""
    mel = LogMel(checkpoint.audio_config.input_feat_size).to(device)
    return StreamingAudioEncoder(mel, checkpoint.audio_encoder(torch.bfloat16, device, form))


def stages(
    checkpoint: Checkpoint, model: LanguageModel, device: str, audio: str | None = None
) -> Stages:
    """Both stages over one embedder; ``audio``: how the audio tower is quantized on the way."""
    embedder = checkpoint.embedder("audio", torch.bfloat16, device)
    encoder = audio_encoder(checkpoint, device, audio)
    encode = EncodeStage(encoder, embedder)
    translate = TranslateStage(model, embedder, checkpoint.tokenizer)
    return Stages(encoder, encode, translate, model)
