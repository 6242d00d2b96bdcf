"""How far a run of :mod:`training.lora` is: kept on disk, and gone on with exactly.

`training/state.safetensors` in the adapter's folder: both halves of every change, the optimizer's
moments, and the counters in its header. It may be removed when the run is through.
"""

from __future__ import annotations

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
    """The changes, what updates them, and the counters. ``best`` is the lowest loss on held-out
    recordings; ``skipped`` counts steps whose gradient was not finite.
    """

    folder: Path
    changed: Mapping[str, LowRank]
    optimizer: torch.optim.Optimizer
    step: int = 0
    best: float = float("inf")
    skipped: int = 0

    @classmethod
    def open(cls, out: Path, changed: Mapping[str, LowRank], rate: float) -> State:
        """A new run, or the one whose state lies in ``out``; raises UsageError where that is of
        other matrices or of another rank.
        """
        learnt = [*weights(changed).values()]
        optimizer = torch.optim.AdamW(learnt, lr=rate, betas=(0.9, 0.99), weight_decay=DECAY)
        for group in optimizer.param_groups:
            group["peak"] = rate
        state = cls(out / "training", changed, optimizer)
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
        save_file(tensors, new, {key: repr(value) for key, value in counters.items()})
        os.replace(new, self.folder / "state.safetensors")

    def _load(self) -> None:
        path = self.folder / "state.safetensors"
        tensors, learnt = load_file(path), weights(self.changed)
        shapes = {n: t.shape for n, t in tensors.items() if not n.startswith("moments.")}
        if shapes != {name: half.shape for name, half in learnt.items()}:
            raise UsageError(
                f"{path} is of a run with other matrices or another rank: give that run's options, "
                "or another --out"
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
        with safe_open(path, framework="pt") as file:
            said = file.metadata()
        self.step, self.skipped = int(said["step"]), int(said["skipped"])
        self.best = float(said["best"])
        log.info("goes on after %d steps", self.step)
