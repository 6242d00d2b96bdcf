"""Whether a GPU computes what the CPU does: every part of a small model, on both.

Used by :mod:`benchmarks.gpu`. The CPU computes by the definition, in plain torch; what kernels do
there is no concern here. Unusual: a part that fails is a line like the others, so that one run on a
machine that is hard to come by tells about all of them.
"""

import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from dragoman.decoder import LanguageModel
from dragoman.decoder.packed import Request
from dragoman.decoder.quantize import Scheme
from dragoman.encoders import (
    LogMel,
    MultimodalEmbedder,
    StreamingAudioEncoder,
    VisionTower,
    split_state,
    stack_states,
)
from dragoman.kernels import graphed
from dragoman.models.checkpoint import Checkpoint

ALLOWED = 1e-3  # of the largest number; float32 on both sides, in another order
CHUNKS, STREAMS = 12, 3
LENGTH, DECODED, GREEDY = 40, 6, 48
TOLD = 8  # last lines of a traceback
ModuleT = TypeVar("ModuleT", bound=nn.Module)


@dataclass(frozen=True)
class Check:
    """One part: the largest difference, as a share of the largest number, or the ``error``."""

    name: str
    difference: float | None
    error: str = ""

    @property
    def fine(self) -> bool:
        return self.difference is not None and self.difference <= ALLOWED


@dataclass(frozen=True)
class Side:
    """The model of ``checkpoint`` on ``device``, as it is defined or with recordings."""

    checkpoint: Checkpoint
    device: str
    recorded: bool = False

    def encoder(self) -> StreamingAudioEncoder:
        mel = LogMel(self.checkpoint.audio_config.input_feat_size).to(self.device)
        tower = self.checkpoint.audio_encoder(torch.float32, self.device)
        return self._quick(StreamingAudioEncoder(mel, tower))

    def embedder(self, modality: str) -> MultimodalEmbedder:
        return self.checkpoint.embedder(modality, torch.float32, self.device)

    def model(self, form: str | None = None) -> LanguageModel:
        scheme = None if form is None else Scheme(form, "int8" if form != "bf12" else None)
        return self._quick(self.checkpoint.language_model(torch.float32, self.device, scheme))

    def _quick(self, module: ModuleT) -> ModuleT:
        if self.recorded:
            graphed.replace(module)
        return module


Work = Callable[[Side], Tensor]


def checks(folder: Path, device: str, names: Iterable[str]) -> Iterator[Check]:
    """Parts of the model in ``folder``, one after the other."""
    torch.backends.cudnn.allow_tf32 = False
    checkpoint = replace(Checkpoint.open(str(folder)), quick=False)
    for name in names:
        work, recorded = PARTS[name]
        try:
            expected = work(Side(checkpoint, "cpu"))
            found = work(Side(checkpoint, device, recorded))
        except Exception:
            yield Check(name, None, told())
            continue
        yield Check(name, _difference(expected, found))


def told() -> str:
    """The end of the traceback of the exception that is being handled."""
    return "\n".join(traceback.format_exc().strip().splitlines()[-TOLD:])


def _difference(expected: Tensor, found: Tensor) -> float:
    expected, found = expected.cpu().double(), found.cpu().double()
    return float((expected - found).abs().max() / expected.abs().max())


def _sound(encoder: StreamingAudioEncoder, device: str) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    sound = 0.05 * torch.randn(STREAMS, CHUNKS * encoder.stride, generator=generator)
    return sound.to(device)


@torch.no_grad()
def _whole(side: Side) -> Tensor:
    encoder = side.encoder()
    return side.embedder("audio").soft(encoder(_sound(encoder, side.device)))


@torch.no_grad()
def _streamed(side: Side) -> Tensor:
    """Two steps of all streams, then two of them alone, so that a recording is filled up."""
    encoder = side.encoder()
    embedder = side.embedder("audio")
    state, tokens = encoder.init_state(STREAMS), list[Tensor]()
    for number, chunk in enumerate(_sound(encoder, side.device).split(encoder.stride, dim=1)):
        if number == 2:
            state = stack_states(split_state(state)[:2])
        features, state = encoder.step(chunk[: STREAMS if number < 2 else 2], state)
        tokens.append(embedder.soft(features).flatten(0, 1))
    return torch.cat(tokens)


def _ids(model: LanguageModel, seed: int = 1, length: int = LENGTH) -> Tensor:
    top = model.config.vocab_size_per_layer_input
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(300, top, (1, length), generator=generator).to(model.device)


@torch.no_grad()
def _decoder(side: Side, form: str | None = None) -> Tensor:
    """A prompt whole, and in a cache with steps behind it."""
    model = side.model(form)
    ids, cache = _ids(model), model.new_cache()
    whole = model(model.embed(ids), ids)
    steps = [model.prefill(model.embed(ids[:, :-DECODED]), ids[:, :-DECODED], cache)]
    steps += [model.step(token, cache) for token in ids[:, -DECODED:].unbind(1)]
    return torch.cat([whole[0], *steps])


@torch.no_grad()
def _passes(side: Side) -> Tensor:
    """Prompts, single steps, drafts, and several sequences together."""
    model = side.model()
    return torch.cat([_steps(model), _together(model)])


def _steps(model: LanguageModel) -> Tensor:
    ids, cache = _ids(model), model.new_cache()
    found = [model.prefill(model.embed(ids[:, :-DECODED]), ids[:, :-DECODED], cache)]
    found += [model.step(token, cache) for token in ids[:, -DECODED:].unbind(1)]
    cache.truncate(LENGTH // 2)
    return torch.cat([*found, model.verify(ids[:, LENGTH // 2 :], cache)[0]])


def _together(model: LanguageModel) -> Tensor:
    requests, found = [], list[Tensor]()
    for seed, length in enumerate((LENGTH, 7, 1)):
        ids = _ids(model, seed, length)
        requests.append(Request(model.new_cache(), ids, model.embed(ids), min(3, length)))
    found += model.answer_together(requests)
    return torch.cat(found + model.answer_together(requests[1:]))


@torch.no_grad()
def _tokens(side: Side) -> Tensor:
    model = side.model()
    ids, cache = _ids(model), model.new_cache()
    token, found = model.prefill(model.embed(ids), ids, cache).argmax(-1), list[Tensor]()
    for _ in range(GREEDY):
        found.append(token)
        token = model.step(token, cache).argmax(-1)
    return torch.cat(found)


@torch.no_grad()
def _seen(side: Side) -> Tensor:
    tower = side.checkpoint.vision_tower(torch.float32, side.device)
    assert isinstance(tower, VisionTower), "the model has none"
    edge = side.checkpoint.resolution
    pixels = torch.rand(1, 3, edge, edge, generator=torch.Generator().manual_seed(1))
    return side.embedder("vision").soft(tower(pixels.to(side.device)))


PARTS: dict[str, tuple[Work, bool]] = {
    "encoder, whole clips": (_whole, False),
    "encoder, steps": (_streamed, False),
    "encoder, recorded steps": (_streamed, True),
    "decoder": (_decoder, False),
    "decoder, packed passes": (_passes, False),
    "decoder, recorded passes": (_passes, True),
    "decoder, greedy tokens": (_tokens, True),
    "decoder, int8": (partial(_decoder, form="int8"), True),
    "decoder, int4": (partial(_decoder, form="int4"), True),
    "decoder, bf12": (partial(_decoder, form="bf12"), True),
    "vision": (_seen, False),
}
LAST = ("vision",)  # takes a CPU longest
FIRST = tuple(name for name in PARTS if name not in LAST)
