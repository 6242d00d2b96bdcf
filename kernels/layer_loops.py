"""What a Gemma 3n decoder layer does between its large products, for a few rows of bf16.

The torch form of each is in `decoder.layers`. Rows, heads or columns are shared among the threads;
what is computed on the way is float32, and rounded to bf16 where it is written down.
"""

from collections.abc import Callable, Sequence
from functools import cache

from llvmlite import ir

from dragoman.kernels.compiler import F32, Builder, Kernel, Value, lanes
from dragoman.kernels.functions import tanh
from dragoman.kernels.gate_loops import cutoff_of, gelu, rounded
from dragoman.kernels.rows import Numbers, each, inverse_rms, normed, share, summed

PREDICT = (
    "streams", "normed", "router_norm", "router", "coefficients", "norm", "rows", "width",
)  # fmt: skip
CORRECT = (
    "streams", "computed", "scaled", "mixed", "fed", "fed_norm", "router_norm", "router",
    "coefficients", "scale", "rows", "width",
)  # fmt: skip
MIX = (
    "mixed", "normed_mixed", "streams", "attended", "attended_norm", "normed", "raised",
    "raised_norm", "norm", "rows", "width",
)  # fmt: skip
ACTIVATE = ("y", "gate", "up", "rows", "width", "stride")
GATE = ("y", "gate", "told", "told_stride", "rows", "width")
ADD = ("streams", "x", "norm", "rows", "width")


@cache
def predicting(streams: int, active: int, eps: float, lanes_: int | None = None) -> Kernel:
    """AltUp's prediction, in place, and the norm of the active stream behind it.

    streams: [rows, A, width]; normed: [rows, width].
    """

    def row(b: Builder, m: Value) -> None:
        width = b.given["width"]
        xs = _streams(b, m, streams)
        factors = _coefficients(b, xs[active], streams, streams**2, eps)

        def mix(i: Value, count: int) -> None:
            values = [x.read(i, count) for x in xs]
            for k, x in enumerate(xs):
                total = values[k]
                for value, factor in zip(values, factors[k * streams :], strict=False):
                    total = b.multiply_add(value, b.spread(factor, count), total)
                x.write(total, i)

        each(b, width, mix)
        _norm(b, xs[active], _row(b, "normed", m), "norm", eps)

    return _each_row(PREDICT, row, lanes_)


@cache
def mixing(streams: int, active: int, eps: float, lanes_: int | None = None) -> Kernel:
    """mixed = (active stream + norm(attended) + normed + norm(raised)) / sqrt(2), and its norm."""

    def row(b: Builder, m: Value) -> None:
        width = b.given["width"]
        predicted = _streams(b, m, streams)[active]
        branches = [_row(b, name, m) for name in ("attended", "raised")]
        factors = [inverse_rms(b, x, width, eps) for x in branches]
        weights = [Numbers(b, True, name) for name in ("attended_norm", "raised_norm")]
        normed, mixed = _row(b, "normed", m), _row(b, "mixed", m)

        def mix(i: Value, count: int) -> None:
            total = b.fadd(predicted.read(i, count), normed.read(i, count))
            for x, factor, weight in zip(branches, factors, weights, strict=True):
                value = b.fmul(x.read(i, count), b.spread(factor, count))
                total = b.multiply_add(value, weight.read(i, count), total)
            mixed.write(b.fmul(total, b.vector(F32, 0.5**0.5, count)), i)

        each(b, width, mix)
        _norm(b, mixed, _row(b, "normed_mixed", m), "norm", eps)

    return _each_row(MIX, row, lanes_)


@cache
def correcting(
    streams: int, active: int, eps: float, scales: bool, lanes_: int | None = None
) -> Kernel:
    """computed = mixed + norm(fed); AltUp's correction of the streams by it, in place; scaled: the
    active one times `scale` (where it `scales`)."""

    def row(b: Builder, m: Value) -> None:
        width = b.given["width"]
        xs, mixed, fed = _streams(b, m, streams), _row(b, "mixed", m), _row(b, "fed", m)
        computed, scaled = _row(b, "computed", m), _row(b, "scaled", m)
        weight, scale = Numbers(b, True, "fed_norm"), Numbers(b, True, "scale")
        factor = inverse_rms(b, fed, width, eps)

        def compute(i: Value, count: int) -> None:
            value = b.fmul(fed.read(i, count), b.spread(factor, count))
            computed.write(b.multiply_add(value, weight.read(i, count), mixed.read(i, count)), i)

        each(b, width, compute)
        one = ir.Constant(F32, 1.0)
        gains = [b.fadd(c, one) for c in _coefficients(b, computed, streams, streams, eps)]

        def correct(i: Value, count: int) -> None:
            innovation = b.fsub(computed.read(i, count), xs[active].read(i, count))
            for k, (x, gain) in enumerate(zip(xs, gains, strict=True)):
                value = b.multiply_add(innovation, b.spread(gain, count), x.read(i, count))
                x.write(value, i)
                if k == active:
                    if scales:
                        value = b.fmul(rounded(b, value), scale.read(i, count))
                    scaled.write(value, i)

        each(b, width, correct)

    return _each_row(CORRECT, row, lanes_)


@cache
def adding(streams: int, eps: float, lanes_: int | None = None) -> Kernel:
    """All streams but the first, plus norm(x)."""

    def row(b: Builder, m: Value) -> None:
        others, weight = _streams(b, m, streams)[1:], Numbers(b, True, "norm")

        def add(i: Value, count: int, value: Value) -> None:
            value = rounded(b, value)
            for other in others:
                other.write(b.fadd(other.read(i, count), value), i)

        normed(b, _row(b, "x", m), weight, b.given["width"], eps, add)

    return _each_row(ADD, row, lanes_)


@cache
def gating(lanes_: int | None = None) -> Kernel:
    """y [rows, width] = GELU(gate) * told; rows of `told` are `told_stride` entries apart."""

    def row(b: Builder, m: Value) -> None:
        y, gate = _row(b, "y", m), _row(b, "gate", m)
        told = Numbers(b, True, "told", b.mul(m, b.given["told_stride"]))

        def pass_(i: Value, count: int) -> None:
            y.write(b.fmul(gelu(b, gate.read(i, count)), told.read(i, count)), i)

        each(b, b.given["width"], pass_)

    return _each_row(GATE, row, lanes_)


@cache
def activating(deviations: float | None, lanes_: int | None = None) -> Kernel:
    """y = GELU(gate) * up, or of how far gates are beyond a cutoff of their row.

    y, gate, up: [rows, stride], of which `width` columns count and the others of y become zero. A
    thread takes some columns, by vectors.
    """

    def write(b: Builder) -> None:
        width, stride = b.given["width"], b.given["stride"]
        first, last = (b.times(n, b.lanes) for n in share(b, b.sdiv(stride, b.number(b.lanes))))
        last = b.least(last, width)

        def row(m: Value) -> None:
            y, gate, up = (Numbers(b, True, name, b.mul(m, stride)) for name in ("y", "gate", "up"))
            cutoff = None
            if deviations is not None:
                cutoff = cutoff_of(b, gate, width, ir.Constant(F32, deviations))

            def some(i: Value, count: int) -> None:
                value = gate.read(i, count)
                if cutoff is not None:
                    value = b.fsub(value, b.spread(cutoff, count))
                    value = b.call_vector("maxnum", value.type, value, b.vector(F32, 0.0, count))
                y.write(b.fmul(gelu(b, value), up.read(i, count)), i)

            whole = b.sub(last, b.srem(b.sub(last, first), b.number(b.lanes)))
            b.run(first, whole, lambda i: some(i, b.lanes), b.lanes)
            b.run(whole, last, lambda i: some(i, 1))
            b.run(width, stride, lambda i: y.write(b.vector(F32, 0.0, 1), i))

        b.run(b.number(0), b.given["rows"], row)

    return Kernel(ACTIVATE, write, lanes_ or lanes())


def _each_row(
    arguments: Sequence[str], body: Callable[[Builder, Value], None], lanes_: int | None
) -> Kernel:
    """`body(b, m)` for this thread's share of the rows."""

    def write(b: Builder) -> None:
        b.run(*share(b, b.given["rows"]), lambda m: body(b, m))

    return Kernel(arguments, write, lanes_ or lanes())


def _row(b: Builder, name: str, m: Value) -> Numbers:
    return Numbers(b, True, name, b.mul(m, b.given["width"]))


def _streams(b: Builder, m: Value, count: int) -> list[Numbers]:
    """The AltUp streams of row m."""
    first = b.times(m, count)
    return [
        Numbers(b, True, "streams", b.mul(b.sum(first, k), b.given["width"])) for k in range(count)
    ]


def _norm(b: Builder, x: Numbers, y: Numbers, weight: str, eps: float) -> None:
    """y = norm(x)."""
    weights = Numbers(b, True, weight)
    normed(b, x, weights, b.given["width"], eps, lambda i, _, value: y.write(value, i))


def _coefficients(b: Builder, x: Numbers, streams: int, count: int, eps: float) -> list[Value]:
    """`count` of AltUp's coefficients, float32, for a row: a map of the tanh of its routing."""
    width = b.given["width"]
    factor = b.fdiv(inverse_rms(b, x, width, eps), b.sitofp(width, F32))
    norm = Numbers(b, True, "router_norm")
    modalities = []
    for k in range(streams):
        router = Numbers(b, True, "router", b.times(width, k))

        def term(i: Value, entries: int, router: Numbers = router) -> Value:
            value = b.fmul(x.read(i, entries), norm.read(i, entries))
            return b.fmul(value, router.read(i, entries))

        routed = b.spread(b.fmul(summed(b, width, term), factor), 1)
        modalities.append(rounded(b, tanh(b, routed)))
    weights = Numbers(b, True, "coefficients")
    found = []
    for n in range(count):
        total = b.vector(F32, 0.0, 1)
        for k, modality in enumerate(modalities):
            weight = weights.read(b.number(n * streams + k), 1)
            total = b.multiply_add(weight, modality, total)
        found.append(b.total(total))
    return found
