"""Our side of a comparison: quantized folders, models, and the stages over them."""

from dataclasses import dataclass
from pathlib import Path

import torch

from decoder import LanguageModel
from decoder.quantize import Scheme
from encoders import LogMel, StreamingAudioEncoder
from models.checkpoint import Checkpoint
from models.quantizing import write_quantized
from stages.encode import EncodeStage
from stages.translate import TranslateStage

SCHEMES = {
    "int8": Scheme("int8", "int8"),
    "int4": Scheme("int4", "int4"),
    "int8-head4": Scheme("int8", "int4"),
}
FORMS = ("bf16", *SCHEMES)


@dataclass(frozen=True)
class Stages:
    """What a live session runs through, behind the segmenter."""

    encode: EncodeStage
    translate: TranslateStage
    model: LanguageModel


def quantized(folder: Path, form: str) -> Path:
    """The folder with the weights of ``folder`` in ``form``, written beside it unless it is there.

    Raises CheckpointError where it cannot be written.
    """
    if form == "bf16":
        return folder
    other = folder.with_name(f"{folder.name}-{form}")
    if not other.is_dir():
        write_quantized(Checkpoint.open(str(folder)), SCHEMES[form], other)
    return other


def language_model(checkpoint: Checkpoint, device: str) -> LanguageModel:
    """The decoder: bf16, or as its folder is quantized."""
    return checkpoint.language_model(torch.bfloat16, device)


def audio_encoder(
    checkpoint: Checkpoint, device: str, form: str | None = None
) -> StreamingAudioEncoder:
    """The encoder in bf16, or with its matrices in ``form``, from samples on."""
    mel = LogMel(checkpoint.audio_config.input_feat_size).to(device)
    return StreamingAudioEncoder(mel, checkpoint.audio_encoder(torch.bfloat16, device, form))


def stages(
    checkpoint: Checkpoint, model: LanguageModel, device: str, audio: str | None = None
) -> Stages:
    """Both stages over one embedder; ``audio``: how the audio tower is quantized, if it is."""
    embedder = checkpoint.embedder("audio", torch.bfloat16, device)
    encode = EncodeStage(audio_encoder(checkpoint, device, audio), embedder)
    translate = TranslateStage(model, embedder, checkpoint.tokenizer)
    return Stages(encode, translate, model)
