"""The optimizers of a run, and their learning rates.

Matrices inside the blocks go by Muon (Jordan et al., 2024: momentum made orthogonal), which needs
fewer steps than AdamW; tables, heads, convolutions and vectors go by AdamW.
"""

import math
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import nn

from training.muon import GroupedMuon
from training.phases import Phase

PEAK_RATE = 1.2e-3  # of AdamW
MUON_RATE = 1.6e-3  # of Muon, whose updates have about the magnitude of AdamW's
WARMUP_STEPS = 120
_TABLES = ("embed", "letters", "gathered", "altup.", "pos_proj")


def optimizers(model: nn.Module, muon: bool) -> list[torch.optim.Optimizer]:
    """One or two optimizers that share the parameters of ``model``."""
    matrices, tables, vectors = [], [], []
    for name, parameter in model.named_parameters():
        if parameter.dim() <= 1:
            vectors.append(parameter)
        elif muon and parameter.dim() == 2 and not any(part in name for part in _TABLES):
            matrices.append(parameter)
        else:
            tables.append(parameter)
    groups = [
        {"params": tables, "weight_decay": 0.02},
        {"params": vectors, "weight_decay": 0.0},
    ]
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.98), fused=True)
    ]
    if matrices:
        kind = GroupedMuon if matrices[0].is_cuda else torch.optim.Muon
        found.append(
            kind(matrices, lr=MUON_RATE, weight_decay=0.02, adjust_lr_fn="match_rms_adamw")
        )
    for optimizer in found:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return found


def set_rate(optimizers: Sequence[torch.optim.Optimizer], share: float) -> None:
    """Sets every learning rate to a share of its peak."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * share


def rate(phase: Phase, over: float, step: int) -> float:
    """Share of the peak with ``over`` of a phase behind it, at its step ``step``: a warm-up, then
    down along a cosine."""
    warm = min(1.0, (step + 1) / WARMUP_STEPS)
    fall = 0.5 * (1 + math.cos(math.pi * over))
    return warm * (phase.last + (phase.first - phase.last) * fall)


def share_gradients(model: nn.Module) -> None:
    """Replaces every gradient by its mean over the processes."""
    if dist.get_world_size() == 1:
        return
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def agreed(seconds: float) -> float:
    """The first process's time, which all go by: they must take the same steps."""
    if dist.get_world_size() == 1:
        return seconds
    told = torch.tensor(seconds, dtype=torch.float64)
    dist.broadcast(told, 0)
    return told.item()
