"""How the stages of a model are made, in whichever process will own them.

Between :class:`dragoman.spec.ModelSpec`, what was asked for, and the actors that hold stages. A
recipe is cheap to send: it imports torch and reads weights only when it is called.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from dragoman import system
from dragoman.errors import CheckpointError
from dragoman.models import hub, resident
from dragoman.spec import ModelSpec
from dragoman.stages.contract import Stage
from dragoman.stages.messages import SessionOptions, Speech


@dataclass(frozen=True)
class Recipe:
    """How a stage is made, in the process that will own it.

    ``make`` imports what it needs itself; ``threads`` is for torch, 0 where the stage has none;
    ``gpus`` is the share of an accelerator that a Ray actor asks for, ``cpus`` how many cores.
    """

    name: str
    make: Callable[[], Stage[Any, Any, Any]]
    threads: int = 0
    gpus: float = 0.0
    cpus: int = 1

    def made(self) -> Stage[Any, Any, Any]:
        """The stage, without the memory that only making it took."""
        stage = self.make()
        resident.give_back()
        return stage


def recipes(spec: ModelSpec) -> tuple[Recipe, ...]:
    """The stages of live captions: segment, encode, translate.

    ``spec.threads`` is for the decoder, the stage that needs them; by default all cores (four at
    most), but for a small model, beside which the encoder keeps one. An encoder that is left none
    has all in its turn (:mod:`pipeline.turns`).
    """
    threads = _decoder_threads(spec)
    alone = threads < system.cores()
    spec = _from_anywhere(spec)
    gpus = _share(spec, 0.4)
    return (
        Recipe("segment", _segment),
        Recipe("encode", partial(_encode, spec), 1 if alone else threads, gpus),
        Recipe("translate", partial(_translate, spec), threads, gpus),
    )


def look_recipe(spec: ModelSpec) -> Recipe | None:
    """The stage that looks at pictures; None when the model has no eyes."""
    spec = _from_anywhere(spec)
    if _is_blind(spec.model):
        return None
    # It asks for no core: it must find room where the other stages took all, and works only while
    # the decoder waits for it, whose threads are free then.
    return Recipe("look", partial(_look, spec), _decoder_threads(spec), _share(spec, 0.2), cpus=0)


def on_demand(recipe: Recipe) -> Recipe:
    """A stage that makes that of ``recipe`` for the first picture: sound never loads it."""
    return replace(recipe, make=partial(_OnDemand, recipe), cpus=1)


class _OnDemand:
    """Stage[Speech, Speech, SessionOptions]: passes speech until some comes with pictures.

    Each message is a whole segment: nothing of one is of use for the next.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._stage: Stage[Any, Any, Any] | None = None

    def init_state(self, options: SessionOptions) -> SessionOptions:
        return options

    def step(self, item: Speech, state: SessionOptions) -> tuple[list[Speech], SessionOptions]:
        if not item.pictures:
            return [item], state
        if self._stage is None:
            self._stage = self._recipe.made()
        out, _ = self._stage.step(item, self._stage.init_state(state))
        return out, state

    def flush(self, state: SessionOptions) -> list[Speech]:
        return []


def use_threads(stages: Sequence[Recipe]) -> None:
    """Gives torch the most threads that any of the stages in this process wants."""
    wanted = max((stage.threads for stage in stages), default=0)
    if wanted:
        import torch

        torch.set_num_threads(wanted)


def _segment() -> Stage[Any, Any, Any]:
    from dragoman.stages.illustrate import IllustrateStage
    from dragoman.stages.segment import SegmentStage

    return IllustrateStage(SegmentStage())


def _look(spec: ModelSpec) -> Stage[Any, Any, Any]:
    from dragoman.stages.look import LookStage

    return LookStage.load(spec.model, spec.device, spec.dtype)


def _encode(spec: ModelSpec) -> Stage[Any, Any, Any]:
    from dragoman.stages.encode import EncodeStage

    return EncodeStage.load(spec.model, spec.device, spec.dtype)


def _translate(spec: ModelSpec) -> Stage[Any, Any, Any]:
    from dragoman.stages.translate import TranslateStage

    return TranslateStage.load(spec.model, spec.device, spec.dtype)


def _share(spec: ModelSpec, of_gpu: float) -> float:
    return of_gpu if spec.device.startswith("cuda") else 0.0


def _decoder_threads(spec: ModelSpec) -> int:
    """A small model leaves a core to the other stages; one of true size keeps up better with all
    of them (`benchmarks.apart`)."""
    if spec.threads is not None:
        return spec.threads
    folder = hub.here(spec.model)
    small = folder is not None and hub.is_small(folder)
    return max(1, min(4, system.cores() - small))


def _is_blind(model: str) -> bool:
    """Whether the model's configuration is here and has no vision tower; cheap, without torch."""
    folder = hub.here(model)
    try:
        config = {} if folder is None else hub.read_config(folder)
    except CheckpointError:  # which loading will explain
        return False
    return folder is not None and not config.get("vision_config")


def _from_anywhere(spec: ModelSpec) -> ModelSpec:
    """A folder's path made absolute, for processes that run elsewhere; a bundled model's name and
    a hub's id stay as they are, for each machine to look up.
    """
    folder = hub.here(spec.model)
    if folder is None or folder.parent == hub.BUNDLED:
        return spec
    return replace(spec, model=str(folder.resolve()))
