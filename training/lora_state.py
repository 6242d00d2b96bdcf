"""How far a run of :mod:`training.lora` is: kept on disk, and gone on with exactly.

`training/state.safetensors` in the adapter's folder: both halves of every change, the optimizer's
moments, and the counters in its header. It may be removed when the run is through.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dragoman.errors import UsageError
from training.lora_layers import LowRank, weights

log = logging.getLogger(__name__)

DECAY = 0.01  # of A and B, which pulls the change towards none
MOST_NORM = 1.0  # of a step's gradient


@dataclass
class State:
    """The changes, what updates them, what was asked of the run, and the counters. ``best`` is the
    lowest loss on held-out recordings; ``skipped`` counts steps whose gradient was not finite.
    """

    folder: Path
    changed: Mapping[str, LowRank]
    optimizer: torch.optim.Optimizer
    asked: Mapping[str, str]
    step: int = 0
    best: float = float("inf")
    skipped: int = 0

    @classmethod
    def open(
        cls, out: Path, changed: Mapping[str, LowRank], rate: float, asked: Mapping[str, str]
    ) -> State:
        """A new run, or the one whose state lies in ``out``; raises UsageError where that is of
        other matrices, or where other things were ``asked`` of it, option by option.
        """
        learnt = [*weights(changed).values()]
        optimizer = torch.optim.AdamW(learnt, lr=rate, betas=(0.9, 0.99), weight_decay=DECAY)
        for group in optimizer.param_groups:
            group["peak"] = rate
        state = cls(out / "training", changed, optimizer, asked)
        if cls.exists(out):
            state._load()
        return state

    @staticmethod
    def exists(out: Path) -> bool:
        """Whether a run has begun in ``out``."""
        return (out / "training" / "state.safetensors").is_file()

    def set_rate(self, share: float) -> None:
        """Sets the learning rate to a share of its peak."""
        for group in self.optimizer.param_groups:
            group["lr"] = share * group["peak"]

    def update(self) -> None:
        """Follows the gradients once, unless one of them is no number."""
        norm = torch.nn.utils.clip_grad_norm_(weights(self.changed).values(), MOST_NORM)
        if torch.isfinite(norm):
            self.optimizer.step()
        else:
            self.skipped += 1
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1

    def save(self) -> None:
        """Writes the state beside the old one, then renames: a killed save costs nothing."""
        tensors = {name: half.detach() for name, half in weights(self.changed).items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"moments.{index}.{key}": value for key, value in moments.items()}
        counters = {"step": self.step, "best": self.best, "skipped": self.skipped}
        self.folder.mkdir(parents=True, exist_ok=True)
        new = self.folder / "state.new"
        said = {key: repr(value) for key, value in counters.items()}
        save_file(tensors, new, said | {"asked": json.dumps(dict(self.asked))})
        os.replace(new, self.folder / "state.safetensors")

    def _load(self) -> None:
        path = self.folder / "state.safetensors"
        with safe_open(path, framework="pt") as file:
            said = file.metadata()
        self._check(path, json.loads(said.get("asked", "{}")))
        tensors, learnt = load_file(path), weights(self.changed)
        shapes = {n: t.shape for n, t in tensors.items() if not n.startswith("moments.")}
        if shapes != {name: half.shape for name, half in learnt.items()}:
            raise UsageError(
                f"{path} is of a run with other matrices: give that run's options, or another --out"
            )
        with torch.no_grad():
            for name, half in learnt.items():
                half.copy_(tensors[name])
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("moments."):
                _, index, key = name.split(".")
                moments.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self.step, self.skipped = int(said["step"]), int(said["skipped"])
        self.best = float(said["best"])
        log.info("goes on after %d steps", self.step)

    def _check(self, path: Path, asked: Mapping[str, str]) -> None:
        other = [name for name, value in self.asked.items() if asked.get(name) != value]
        if other:
            was = ", ".join(f"{name} {asked.get(name)}" for name in other)
            now = ", ".join(f"{name} {self.asked[name]}" for name in other)
            raise UsageError(
                f"{path} is of a run with {was}, not {now}: give that run's options, or "
                "another --out"
            )
