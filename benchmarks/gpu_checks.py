"""Whether a GPU computes what the CPU does: every part of a small model, on both.

Used by :mod:`benchmarks.gpu`. The CPU computes by the definition, in plain torch; what kernels do
there is no concern here. Unusual: a part that fails is a line like the others, so that one run on a
machine that is hard to come by tells about all of them.
"""

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from dragoman.decoder import LanguageModel
from dragoman.decoder.packed import Request
from dragoman.decoder.quantize import Scheme
from dragoman.encoders import LogMel, StreamingAudioEncoder, VisionTower
from dragoman.kernels.graphs import DecodeSteps, EncoderSteps
from dragoman.models.checkpoint import Checkpoint

ALLOWED = 1e-3  # of the largest number; float32 on both sides, in another order
CHUNKS, STREAMS = 12, 3
LENGTH, DECODED = 40, 6
Work = Callable[[Checkpoint, str], Tensor]


@dataclass(frozen=True)
class Check:
    """One part: the largest difference, as a share of the largest number, or the ``error``."""

    name: str
    difference: float | None
    error: str = ""

    @property
    def fine(self) -> bool:
        return self.difference is not None and self.difference <= ALLOWED


def checks(folder: Path, device: str) -> Iterator[Check]:
    """All parts of the model in ``folder``, one after the other."""
    torch.backends.cudnn.allow_tf32 = False
    checkpoint = replace(Checkpoint.open(str(folder)), quick=False)
    for name, work in PARTS.items():
        try:
            expected, found = work(checkpoint, "cpu"), work(checkpoint, device)
        except Exception as error:
            traceback.print_exc()
            yield Check(name, None, f"{type(error).__name__}: {error}")
            continue
        yield Check(name, _difference(expected, found))


def _difference(expected: Tensor, found: Tensor) -> float:
    expected, found = expected.cpu().double(), found.cpu().double()
    return float((expected - found).abs().max() / expected.abs().max())


def _encoder(checkpoint: Checkpoint, device: str) -> StreamingAudioEncoder:
    mel = LogMel(checkpoint.audio_config.input_feat_size).to(device)
    return StreamingAudioEncoder(mel, checkpoint.audio_encoder(torch.float32, device))


def _sound(encoder: StreamingAudioEncoder, device: str) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    sound = 0.05 * torch.randn(STREAMS, CHUNKS * encoder.stride, generator=generator)
    return sound.to(device)


@torch.no_grad()
def _whole(checkpoint: Checkpoint, device: str) -> Tensor:
    encoder = _encoder(checkpoint, device)
    return checkpoint.embedder("audio", torch.float32, device).soft(
        encoder(_sound(encoder, device))
    )


@torch.no_grad()
def _streamed(checkpoint: Checkpoint, device: str) -> Tensor:
    """Two steps by the definition, from the third on over fixed memory."""
    encoder = _encoder(checkpoint, device)
    embedder = checkpoint.embedder("audio", torch.float32, device)
    state, tokens = encoder.init_state(STREAMS), list[Tensor]()
    first, second, *others = _sound(encoder, device).split(encoder.stride, dim=1)
    for chunk in (first, second):
        features, state = encoder.step(chunk, state)
        tokens.append(embedder.soft(features))
    steps = EncoderSteps(encoder, embedder, state)
    return torch.cat([*tokens, *(steps.step(chunk).clone() for chunk in others)], dim=1)


def _model(checkpoint: Checkpoint, device: str, form: str | None = None) -> LanguageModel:
    scheme = None if form is None else Scheme(form, "int8" if form != "bf12" else None)
    return checkpoint.language_model(torch.float32, device, scheme)


def _ids(model: LanguageModel, seed: int = 1, length: int = LENGTH) -> Tensor:
    top = model.config.vocab_size_per_layer_input
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(300, top, (1, length), generator=generator).to(model.device)


@torch.no_grad()
def _decoder(checkpoint: Checkpoint, device: str, form: str | None = None) -> Tensor:
    """A prompt whole, and in a cache with steps behind it."""
    model = _model(checkpoint, device, form)
    ids, cache = _ids(model), model.new_cache()
    whole = model(model.embed(ids), ids)
    steps = [model.prefill(model.embed(ids[:, :-DECODED]), ids[:, :-DECODED], cache)]
    steps += [model.step(token, cache) for token in ids[:, -DECODED:].unbind(1)]
    return torch.cat([whole[0], *steps])


@torch.no_grad()
def _recorded(checkpoint: Checkpoint, device: str) -> Tensor:
    model = _model(checkpoint, device)
    ids, cache = _ids(model), model.new_cache()
    model.extend(model.embed(ids[:, :-DECODED]), ids[:, :-DECODED], cache)
    steps = DecodeSteps(model, 2 * LENGTH)
    steps.begin(cache)
    return torch.cat([steps.step(token).clone() for token in ids[0, -DECODED:].tolist()])


@torch.no_grad()
def _packed(checkpoint: Checkpoint, device: str) -> Tensor:
    model, requests = _model(checkpoint, device), []
    for seed, length in enumerate((LENGTH, 7, 1)):
        ids = _ids(model, seed, length)
        requests.append(Request(model.new_cache(), ids, model.embed(ids), min(3, length)))
    return torch.cat(model.answer_together(requests))


@torch.no_grad()
def _seen(checkpoint: Checkpoint, device: str) -> Tensor:
    tower = checkpoint.vision_tower(torch.float32, device)
    assert isinstance(tower, VisionTower), "the model has none"
    side = checkpoint.resolution
    pixels = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1)).to(device)
    return checkpoint.embedder("vision", torch.float32, device).soft(tower(pixels))


def _in(form: str) -> Work:
    return lambda checkpoint, device: _decoder(checkpoint, device, form)


PARTS: dict[str, Work] = {
    "encoder, whole clips": _whole,
    "encoder, recorded steps": _streamed,
    "decoder": _decoder,
    "decoder, recorded steps": _recorded,
    "decoder, packed passes": _packed,
    **{f"decoder, {form}": _in(form) for form in ("int8", "int4", "bf12")},
    "vision": _seen,
}
