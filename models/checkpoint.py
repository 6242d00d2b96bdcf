"""A model folder in the Hugging Face layout: checked before it is read, loaded a group at a time.

A folder holds `config.json`, `tokenizer.json` and one or more `*.safetensors`. Every actor loads
only the group it needs (one of the towers, or the language model), so memory follows the work.
Names, shapes, types and lengths are compared with what the configuration
(:mod:`models.configuration`) calls for before any weight is read. Modules are built without memory
(on the meta device) and take the tensors as :mod:`models.weights` reads them.

Unusual: the table of per-layer embeddings, half of a true-size model, is never loaded. It stays in
its file as it is stored, and each pass reads the rows of its tokens (:mod:`models.table`).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from dragoman.decoder import LanguageModel, unused_tensor_names
from dragoman.decoder.quantize import QUANTIZED, Scheme, plan, quantize
from dragoman.encoders import AudioEncoder, MultimodalEmbedder, VisionTower
from dragoman.encoders.attention import RelativePosition
from dragoman.errors import CheckpointError
from dragoman.kernels import accelerate
from dragoman.models import resident, weights
from dragoman.models.configuration import Configuration, check_keys
from dragoman.models.folders import listed, model_folder, tensors
from dragoman.models.hub import SMALL_BYTES, find, read_config
from dragoman.models.quantized import (
    HEADS,
    LOSSLESS,
    check_rests,
    quantize_tower,
    quantized_tensors,
    tower_plan,
    widen_rests,
)
from dragoman.models.reading import GROUPS, TOKEN_TABLE, Stored
from dragoman.models.table import StoredTable

__all__ = ["DTYPES", "GROUPS", "Checkpoint", "CheckpointError"]

# The forms that weights may take in memory, besides "auto" and the quantized ones; see
# `Checkpoint.dtype` and `Checkpoint.scheme`.
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
AUDIO, AUDIO_FORM = "+audio", "int8"  # with a quantized form the audio tower may be int8, too

ModuleT = TypeVar("ModuleT", bound=nn.Module)


@dataclass(frozen=True)
class Checkpoint(Configuration):
    """An opened model folder; nothing is read but its configuration and the files' headers.

    Modules come in evaluation mode and made quick (`kernels.accelerate`; not where ``quick`` is
    False, for what is to be trained), with weights in ``dtype`` (None: what the form "auto" is
    here) on ``device``. Every method raises CheckpointError where the folder is not as it should
    be.
    """

    tensors: Mapping[str, Stored]
    quick: bool = True

    @classmethod
    def open(cls, model: str) -> "Checkpoint":
        """Opens a bundled model, a folder, or a model of the hub, downloaded if need be; of an
        adapter the model that it makes of its base.
        """
        folder = find(model)
        config = read_config(folder)
        check_keys(config, folder)
        return cls(model_folder(folder), config, tensors(folder))

    @classmethod
    def listed(cls, model: str) -> "Checkpoint":
        """The same to be counted only: of a model of the hub no weights are downloaded."""
        folder, found = listed(model)
        config = read_config(folder)
        check_keys(config, folder)
        return cls(model_folder(folder), config, found)

    @property
    def has_vision(self) -> bool:
        """Whether the folder holds a vision tower."""
        return any(name.startswith(GROUPS["vision_tower"]) for name in self.tensors)

    def dtype(self, form: str = "auto") -> torch.dtype:
        """What weights of the ``form`` are in memory.

        "auto" is float32 for a small model, less than SMALL_BYTES on the disk, as it costs little
        there and agrees with the reference to rounding; and for a larger one what it is stored as,
        which needs no copy (float16 becomes bf16, whose range the model was trained in). Of
        "bf12", "int8" and "int4" it is what the other weights are, and what is computed in.
        """
        if form.removesuffix(AUDIO) in QUANTIZED or form == "auto":
            small = sum(stored.bytes for stored in self.tensors.values()) < SMALL_BYTES
            whole = all(stored.dtype == "F32" for stored in self.tensors.values())
            form = "float32" if small or whole else "bf16"
        if form not in DTYPES:
            forms = ", ".join((*DTYPES, *QUANTIZED))
            raise CheckpointError(
                f"no weights of the form {form!r}: choose auto, {forms} (or {QUANTIZED[0]}{AUDIO})"
            )
        return DTYPES[form]

    def audio_form(self, form: str = "auto") -> str | None:
        """The form of the audio tower's matrices in memory; None: they are what `dtype` says."""
        scheme = self.scheme(form)
        return None if scheme is None else scheme.audio

    def scheme(self, form: str = "auto") -> Scheme | None:
        """The forms of the matrices in memory; None: they are what `dtype` says.

        A folder of quantized weights says itself. Of any other, ``form`` is for the decoder, and
        the audio tower is packed to bf12 where that loses nothing. "+audio" makes the tower int8.
        """
        layers = form.removesuffix(AUDIO)
        if "quantization_config" in self.config:
            scheme = self.section("quantization_config", Scheme.from_dict)
            if layers not in ("auto", scheme.layers):
                raise CheckpointError(
                    f"{self.folder} is in {scheme.layers} already: take the original weights for "
                    f"{layers}"
                )
        elif layers in QUANTIZED:
            packed = layers == LOSSLESS or self._tower_in_bf16
            scheme = Scheme(layers, HEADS[layers], LOSSLESS if packed else None)
        else:
            return None
        return replace(scheme, audio=AUDIO_FORM) if form.endswith(AUDIO) else scheme

    @property
    def _tower_in_bf16(self) -> bool:
        tower = (n for n in self.tensors if n.startswith(GROUPS["audio_tower"]))
        return all(self.tensors[name].dtype == "BF16" for name in tower)

    def language_model(
        self,
        dtype: torch.dtype | None = None,
        device: str = "cpu",
        scheme: Scheme | None = None,
    ) -> LanguageModel:
        """The decoder. Its per-layer table stays on the host, in the type it is stored in.

        ``scheme`` quantizes it on the way, in a folder where it is not.
        """
        dtype, own = dtype or self.dtype(), self.scheme()
        unused = {GROUPS["language_model"] + n for n in unused_tensor_names(self.text_config)}
        with weights.shapes_only():
            module = LanguageModel(self.text_config)
        if own is not None:
            quantize(module, own, dtype)
        stored = self._checked(module, "language_model", unused)
        made = {}
        if own is None and scheme is not None:
            made = dict(quantized_tensors(stored, plan(module, scheme)))
            quantize(module, scheme, dtype)
        model = self._filled(module, stored, made, dtype, device)
        table = self.tensors[GROUPS["language_model"] + TOKEN_TABLE]
        model.embed_tokens_per_layer = StoredTable(model.embed_tokens_per_layer.weight, table)
        return model

    def audio_encoder(
        self,
        dtype: torch.dtype | None = None,
        device: str = "cpu",
        form: str | None = None,
    ) -> AudioEncoder:
        """The audio tower; ``form`` quantizes its matrices on the way, also where they are bf12.

        What only its constants are made of is read here, and not kept in memory.
        """
        own = self.scheme()
        there = None if own is None else own.audio
        if form is not None and there not in (None, LOSSLESS, form):
            raise CheckpointError(
                f"the audio tower of {self.folder} is in {there} already: take the original "
                f"weights for {form}"
            )
        with weights.shapes_only():
            module = AudioEncoder(self.audio_config)
        held, wanted = tower_plan(module, there), tower_plan(module, form)
        quantize_tower(module, held)
        stored = self._checked(module, "audio_tower")
        changed = {name: form for name, form in wanted.items() if held.get(name) != form}
        made = dict(quantized_tensors(stored, changed))
        quantize_tower(module, changed)
        encoder = self._filled(module, stored, made, dtype or self.dtype(), device)
        positions = [part for part in encoder.modules() if isinstance(part, RelativePosition)]
        with torch.no_grad():
            for position in positions:
                position()
        resident.forget(position.pos_proj.weight for position in positions)
        return encoder

    def vision_tower(
        self, dtype: torch.dtype | None = None, device: str = "cpu"
    ) -> VisionTower | None:
        """The vision tower; None when the folder has none."""
        if not self.has_vision:
            return None
        with weights.shapes_only():
            module = self.section("vision_config", lambda _: VisionTower(self.vision_config))
        return self._fill(module, "vision_tower", dtype, device)

    def embedder(
        self, modality: str, dtype: torch.dtype | None = None, device: str = "cpu"
    ) -> MultimodalEmbedder:
        """`audio` or `vision`: what maps soft tokens into the decoder's space."""
        with weights.shapes_only():
            module = self.section(f"{modality}_config", self._embedder)
        return self._fill(module, f"embed_{modality}", dtype, device)

    def _embedder(self, config: dict[str, Any]) -> MultimodalEmbedder:
        return MultimodalEmbedder(
            vocab_size=config["vocab_size"],
            vocab_offset=config["vocab_offset"],
            multimodal_hidden_size=config["hidden_size"],
            text_hidden_size=self.text_config.hidden_size,
            eps=config.get("rms_norm_eps", 1e-6),
        )

    def _fill(self, module: ModuleT, group: str, dtype: torch.dtype | None, device: str) -> ModuleT:
        stored = self._checked(module, group)
        filled = weights.fill(module, stored, dtype or self.dtype(), device)
        return accelerate(filled) if self.quick else filled

    def _filled(
        self,
        module: ModuleT,
        stored: Mapping[str, Stored],
        made: Mapping[str, Tensor],
        dtype: torch.dtype,
        device: str,
    ) -> ModuleT:
        """A module with what was ``made`` of its tensors, and the others as they are stored."""
        widen_rests(module, {name: tensor.shape for name, tensor in made.items()})
        left = {name: tensor for name, tensor in stored.items() if name not in made}
        whole = {name for name, _ in module.named_buffers()}  # codes and scales stay what they are
        filled = weights.fill(module, left, dtype, device, {TOKEN_TABLE, *whole}, made)
        check_rests(filled, left)
        return accelerate(filled) if self.quick else filled

    def _checked(
        self, module: nn.Module, group: str, unused: Collection[str] = ()
    ) -> dict[str, Stored]:
        """What a group's tensors are, by their names in its module; they are just the module's."""
        prefix = GROUPS[group]
        stored = {
            name.removeprefix(prefix): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(prefix) and name not in unused
        }
        widen_rests(module, {name: tensor.shape for name, tensor in stored.items()})
        weights.check(module, stored, self.folder, prefix)
        return stored
