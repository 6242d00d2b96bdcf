"""Local self-attention with relative positions: a frame sees itself and the 12 before it.

Inside every Conformer block. Unusual: queries are scaled per dimension, logits are capped with
tanh, and the position of a key enters as a second product of the query with a projected sinusoid
(Transformer-XL, arXiv 1901.02860, without its biases). A clip is a piece with an empty history, and
work grows with its length, not with its square: frames are cut into tiles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from dragoman.encoders.config import AudioConfig
from dragoman.encoders.derived import Derived
from dragoman.encoders.linear import Linear

LONGEST_WAVE = 1.0e4  # of the sinusoids, in frames over 2 pi


@dataclass
class AttentionState:
    """The last keys and values, [B, P, N, H], oldest first; `seen` int64 [B]: frames so far, so
    how many of them are real.
    """

    keys: Tensor
    values: Tensor
    seen: Tensor


class RelativePosition(nn.Module):
    """Projected sinusoids for the distances P, ..., 1, 0 to a key."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.history = config.history
        self.heads, self.head_dim = config.conf_num_attention_heads, config.head_dim
        self.pos_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self._kept = Derived()

    def forward(self) -> Tensor:
        """The table [N, P + 1, H], from the farthest key to the present one.

        It depends on the weight alone, so outside training it is computed once.
        """
        if self.training or torch.is_grad_enabled():
            return self._table()
        return self._kept.get(self._table, self.pos_proj.weight)

    def _table(self) -> Tensor:
        weight = self.pos_proj.weight
        half = weight.shape[1] // 2
        decay = -math.log(LONGEST_WAVE) / max(half - 1, 1)
        rates = torch.exp(torch.arange(half, device=weight.device) * decay)
        angles = torch.arange(self.history, -1, -1, device=weight.device)[:, None] * rates
        waves = torch.cat([angles.sin(), angles.cos()], dim=-1).to(weight.dtype)
        table = self.pos_proj(waves).view(-1, self.heads, self.head_dim)
        return table.transpose(0, 1).contiguous()


class LocalAttention(nn.Module):
    """Attention of each frame to [t - P, t]: [B, T, D] to the same, before the last projection."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        D = config.hidden_size
        self.heads, self.head_dim = config.conf_num_attention_heads, config.head_dim
        self.history, self.tile = config.history, config.conf_attention_chunk_size
        self.cap = config.conf_attention_logit_cap
        # Divided by softplus(0) so that per_dim_scale = 0 is the usual 1 / sqrt(H).
        self.scale = self.head_dim**-0.5 / math.log(2.0)
        self.relative_position_embedding = RelativePosition(config)
        self.per_dim_scale = nn.Parameter(torch.zeros(self.head_dim))
        self.q_proj = Linear(D, D)
        self.k_proj = Linear(D, D)
        self.v_proj = Linear(D, D)

    def init_state(
        self, batch: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> AttentionState:
        """No frames seen."""
        weight = self.per_dim_scale
        device, dtype = device or weight.device, dtype or weight.dtype
        shape = (batch, self.history, self.heads, self.head_dim)
        keys, values = torch.zeros(2, *shape, device=device, dtype=dtype).unbind()
        seen = torch.zeros(batch, dtype=torch.int64, device=device)
        return AttentionState(keys, values, seen)

    def step(self, x: Tensor, state: AttentionState) -> tuple[Tensor, AttentionState]:
        """x: float [B, T, D], the next frames, T > 0."""
        B, T, D = x.shape
        shape = (B, T, self.heads, self.head_dim)
        new = self.q_proj(x).view(shape), self.k_proj(x).view(shape), self.v_proj(x).view(shape)
        y, kept = self.attend(*new, state)
        return y.reshape(B, T, D), AttentionState(*kept, state.seen + T)

    def scales(self) -> Tensor:
        """Of queries, [H]."""
        return self.scale * functional.softplus(self.per_dim_scale)

    def attend(
        self, queries: Tensor, keys: Tensor, values: Tensor, state: AttentionState
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """All [B, T, N, H]; gives the keys and values to keep [B, P, N, H] as well."""
        T = queries.shape[1]
        keys = torch.cat([state.keys, keys], dim=1)
        values = torch.cat([state.values, values], dim=1)
        y = self._mix(queries * self.scales(), keys, values, state.seen)
        return y, (keys[:, T:].clone(), values[:, T:].clone())

    def _mix(self, queries: Tensor, keys: Tensor, values: Tensor, seen: Tensor) -> Tensor:
        """queries [B, T, N, H], keys and values [B, P + T, N, H]; axes within: U tiles, W queries,
        C keys a tile.
        """
        B, T, N, H = queries.shape
        W = min(T, self.tile)
        U = -(-T // W)
        C = self.history + W
        spare = (0, 0, 0, 0, 0, U * W - T)
        q = functional.pad(queries, spare).view(B, U, W, N, H).transpose(2, 3)
        # The tile's own axis comes last: k and v are [B, U, N, H, C].
        k, v = (functional.pad(part, spare).unfold(1, C, W) for part in (keys, values))
        logits = q @ k + self._slide(q @ self.relative_position_embedding().transpose(-1, -2), C)
        logits = torch.tanh(logits.float() / self.cap) * self.cap
        logits = logits.masked_fill(~self._visible(U, W, C, seen), -torch.inf)
        mixed = logits.softmax(-1).to(v.dtype) @ v.transpose(-1, -2)  # [B, U, N, W, H]
        return mixed.transpose(2, 3).reshape(B, U * W, N, H)[:, :T]

    @staticmethod
    def _slide(x: Tensor, C: int) -> Tensor:
        """Moves row w of x [..., W, P + 1] right by w, into [..., W, C].

        Rows that are one longer than C and are read back C at a time begin one place later each.
        """
        W = x.shape[-2]
        flat = functional.pad(x, (0, C + 1 - x.shape[-1])).flatten(-2)
        return torch.unflatten(flat[..., : W * C], -1, (W, C))

    def _visible(self, U: int, W: int, C: int, seen: Tensor) -> Tensor:
        """True where a query may look, bool [B, U, 1, W, C]: from P frames back, not before the
        start, to its own frame.

        Keys of the padding after the end need no test: only queries of the padding reach them.
        """
        query = torch.arange(W, device=seen.device)[:, None]
        key = torch.arange(C, device=seen.device)
        near = (key >= query) & (key <= query + self.history)
        place = torch.arange(U, device=seen.device)[:, None] * W + key
        real = place >= (self.history - seen)[:, None, None]
        return real[:, :, None, None, :] & near
