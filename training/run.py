"""The state of a training run: saved often, resumed exactly where it stood, exported at the end.

Everything lies in one folder: `state.safetensors` (weights, their moving average, the optimizer's
moments; the counters in its header), `log.jsonl` (a line an event; what the curves are drawn from).
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dragoman.models.checkpoint import GROUPS


@dataclass
class Progress:
    """How far a run is. ``seconds`` counts training time over all its sittings."""

    step: int = 0
    seconds: float = 0.0
    utterances: int = 0
    phase: str = ""
    phase_step: int = 0
    skipped: int = 0  # steps whose gradient was not finite


class Average:
    """An exponential moving average of a module's parameters, which is what gets exported."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {n: p.detach().clone() for n, p in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        # A young average would remember the random start: it forgets faster at first.
        decay = min(self.decay, (1 + step) / (10 + step))
        parameters = [p.detach() for p in module.parameters()]
        averages = list(self.weights.values())
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
            averages, parameters, 1 - decay
        )


class Run:
    """One run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def exists(self) -> bool:
        return (self.folder / "state.safetensors").is_file()

    def log(self, **event: Any) -> None:
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")

    def save(
        self,
        module: nn.Module,
        average: Average,
        optimizers: Sequence[torch.optim.Optimizer],
        now: Progress,
    ) -> None:
        """Writes the state beside the old one, then renames: a killed save costs nothing."""
        tensors = {f"weights.{n}": p.detach() for n, p in module.named_parameters()}
        tensors |= {f"average.{n}": p for n, p in average.weights.items()}
        for place, optimizer in enumerate(optimizers):
            for index, moments in optimizer.state_dict()["state"].items():
                tensors |= {f"moments.{place}.{index}.{k}": v for k, v in moments.items()}
        new = self.folder / "state.new"
        save_file({k: v.contiguous() for k, v in tensors.items()}, new, metadata=_flat(now))
        os.replace(new, self.folder / "state.safetensors")

    def load(
        self, module: nn.Module, average: Average, optimizers: Sequence[torch.optim.Optimizer]
    ) -> Progress:
        """Puts everything back where :meth:`save` left it."""
        path = self.folder / "state.safetensors"
        with safe_open(path, framework="pt") as file:
            now = Progress(**{k: json.loads(v) for k, v in file.metadata().items()})
        tensors = load_file(path)
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.copy_(tensors[f"weights.{name}"])
                average.weights[name].copy_(tensors[f"average.{name}"])
        states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
        for key, value in tensors.items():
            if key.startswith("moments."):
                _, place, index, name = key.split(".")
                states[int(place)].setdefault(int(index), {})[name] = value
        for optimizer, state in zip(optimizers, states, strict=True):
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        return now


def _flat(now: Progress) -> dict[str, str]:
    return {k: json.dumps(v) for k, v in asdict(now).items()}


def export(weights: dict[str, Tensor], config: dict[str, Any], folder: Path) -> Path:
    """Writes ``weights`` (names as in training) in the Hugging Face layout, as bf16."""
    folder.mkdir(parents=True, exist_ok=True)
    named = {}
    for name, tensor in weights.items():
        group, _, rest = name.partition(".")
        if group in GROUPS:
            named[GROUPS[group] + rest] = tensor.to(torch.bfloat16).contiguous()
    path = folder / "model.safetensors"
    save_file(named, path, metadata={"format": "pt"})
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    return path
