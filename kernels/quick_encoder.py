"""The parts of a Conformer block, made quick; as `kernels.quick_decoder`."""

from __future__ import annotations

from torch import Tensor, nn

from dragoman.encoders import attention, conformer, linear, norms
from dragoman.encoders.attention import AttentionState
from dragoman.encoders.derived import Derived
from dragoman.kernels import conformer_ops as ops
from dragoman.kernels import products
from dragoman.kernels.serving import Keeping, serves


class QuickTowerLinear(linear.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return products.linear(x, self.weight)


class QuickTowerNorm(norms.RMSNorm):
    def forward(self, x: Tensor) -> Tensor:
        if self.weight is not None and serves(x, self.weight):
            return ops.norm(x, self.weight, self.eps, self.limit)
        return super().forward(x)

    def added(self, onto: Tensor, x: Tensor, factor: float = 1.0) -> Tensor:
        if self.weight is not None and serves(x, onto, self.weight):
            return ops.add_norm(onto, x, self.weight, self.eps, self.limit, factor)
        return super().added(onto, x, factor)


class QuickFeedForward(conformer.FeedForward):
    def forward(self, x: Tensor) -> Tensor:
        y = self.ffw_layer_1(self.pre_layer_norm(x))
        y = ops.silu_(y) if serves(y) else nn.functional.silu(y)
        return self.post_layer_norm.added(x, self.ffw_layer_2(y), self.weight)


class QuickLocalAttention(attention.LocalAttention, Keeping):
    """A kernel goes from frame to frame; keys and values of the state are overwritten."""

    def begin(self) -> None:
        self._kept_scales = Derived()

    def float_scales(self) -> Tensor:
        """Of queries, float32 [H], without gradients."""
        return self._kept_scales.get(lambda: self.scales().float(), self.per_dim_scale)

    def attend(
        self, queries: Tensor, keys: Tensor, values: Tensor, state: AttentionState
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        new, old = (queries, keys, values), (state.keys, state.values)
        position = self.relative_position_embedding
        if not serves(*new, *old, self.per_dim_scale, position.pos_proj.weight):
            return super().attend(*new, state)
        y = ops.attend(new, old, state.seen, position(), self.float_scales(), self.cap)
        return y, old


class QuickLightConv(conformer.LightConv, Keeping):
    """The tail of the state is overwritten."""

    def begin(self) -> None:
        self._kept_taps = Derived()

    def taps(self) -> Tensor:
        """The depthwise kernel, float32 [K, D], without gradients."""
        kernel = self.depthwise_conv1d.weight
        return self._kept_taps.get(lambda: kernel[:, 0].T.float().contiguous(), kernel)

    def convolve(self, x: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        norm, kernel = self.conv_norm, self.depthwise_conv1d.weight
        assert norm.weight is not None
        if not serves(x, tail, kernel, norm.weight):
            return super().convolve(x, tail)
        return ops.convolve(x, tail, self.taps(), norm.weight, norm.eps, norm.limit), tail


QUICK: dict[type[nn.Module], type[nn.Module]] = {
    linear.Linear: QuickTowerLinear,
    norms.RMSNorm: QuickTowerNorm,
    conformer.FeedForward: QuickFeedForward,
    attention.LocalAttention: QuickLocalAttention,
    conformer.LightConv: QuickLightConv,
}
