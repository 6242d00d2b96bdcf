"""Programs for what a Conformer does between its products: norms and sums of branches, attention
to the last frames, the depthwise convolution.

Activations are bf16 (`half`) or float32, and so are the norms' weights; what is computed on the way
is float32 and rounded once. A thread takes some rows, heads or streams for itself. `lanes_` is for
another CPU than this.
"""

from collections.abc import Sequence
from functools import cache

from llvmlite import ir

from dragoman.kernels.compiler import F32, I64, Builder, Kernel, Value, lanes
from dragoman.kernels.functions import clamp, exp, sigmoid, silu, tanh
from dragoman.kernels.rows import Numbers, each, normed, share, summed

NORM = ("y", "x", "onto", "weight", "rows", "width")
ADDING = ("y", "x", "rows", "width")
SILU = ("x", "count")
CONVOLUTION = (
    "y", "x", "tail", "kernel", "weight", "heard", "sums", "streams", "frames", "width",
)  # fmt: skip
ATTENTION = (
    "y", "queries", "keys", "values", "old_keys", "old_values", "seen", "table", "scale", "scratch",
    "streams", "frames", "heads", "width", "history",
)  # fmt: skip
Values = Sequence[Value]


@cache
def norm(
    half: bool, limit: float, eps: float, factor: float | None, lanes_: int | None = None
) -> Kernel:
    """y [rows, width] = n, or onto + factor * n, where n is the norm of x within +-limit."""

    def write(b: Builder) -> None:
        width = b.given["width"]

        def row(m: Value) -> None:
            first = b.mul(m, width)
            x, onto, y = (Numbers(b, half, name, first) for name in ("x", "onto", "y"))

            def result(i: Value, count: int, value: Value) -> None:
                if factor is not None:
                    by = b.vector(F32, factor, count)
                    value = b.multiply_add(value, by, onto.read(i, count))
                y.write(value, i)

            normed(b, Within(x, limit), Numbers(b, half, "weight"), width, eps, result)

        b.run(*share(b, b.given["rows"]), row)

    return Kernel(NORM, write, lanes_ or lanes())


@cache
def adding(half: bool, lanes_: int | None = None) -> Kernel:
    """y [rows, width] += x."""

    def write(b: Builder) -> None:
        width = b.given["width"]

        def row(m: Value) -> None:
            x, y = (Numbers(b, half, name, b.mul(m, width)) for name in ("x", "y"))
            each(b, width, lambda i, n: y.write(b.fadd(y.read(i, n), x.read(i, n)), i))

        b.run(*share(b, b.given["rows"]), row)

    return Kernel(ADDING, write, lanes_ or lanes())


@cache
def silu_in_place(half: bool, lanes_: int | None = None) -> Kernel:
    """x [count] = silu(x)."""

    def write(b: Builder) -> None:
        start, stop = share(b, b.given["count"])
        x = Numbers(b, half, "x", start)
        each(b, b.sub(stop, start), lambda i, count: x.write(silu(b, x.read(i, count)), i))

    return Kernel(SILU, write, lanes_ or lanes())


@cache
def convolution(
    half: bool, taps: int, limit: float, eps: float, lanes_: int | None = None
) -> Kernel:
    """y [streams, frames, width] from x [streams, frames, 2 width]: gate, depthwise kernel [taps,
    width] of float32, norm, SiLU.

    tail [streams, taps - 1, width]: the gated frames before; those that come last now replace them.
    heard [streams, taps - 1 + frames, width], sums float32 [threads, width]: scratch memory.
    """
    past = taps - 1

    def write(b: Builder) -> None:
        frames, width = b.given["frames"], b.given["width"]
        sums = Numbers(b, False, "sums", b.mul(b.thread, width))

        def stream(n: Value) -> None:
            first = b.times(n, b.mul(b.sum(frames, past), width))
            heard = Numbers(b, half, "heard", first)
            latest = Numbers(b, half, "heard", b.sum(first, b.mul(frames, width)))
            tail = Numbers(b, half, "tail", b.times(n, b.times(width, past)))

            def gate(t: Value) -> None:
                frame = b.sum(b.mul(n, frames), t)
                target = Numbers(b, half, "heard", b.sum(first, b.mul(b.sum(t, past), width)))
                _gate(b, Numbers(b, half, "x", b.times(frame, b.times(width, 2))), target, width)

            def convolve(t: Value) -> None:
                _convolve(b, heard, t, taps, limit, sums)
                y = Numbers(b, half, "y", b.mul(b.sum(b.mul(n, frames), t), width))
                weight = Numbers(b, half, "weight")
                normed(b, sums, weight, width, eps, lambda i, _, v: y.write(silu(b, v), i))

            _copy(b, b.times(width, past), tail, heard)
            b.run(0, frames, gate)
            b.run(0, frames, convolve)
            _copy(b, b.times(width, past), latest, tail)

        b.run(*share(b, b.given["streams"]), stream)

    return Kernel(CONVOLUTION, write, lanes_ or lanes())


@cache
def attention(half: bool, cap: float, lanes_: int | None = None) -> Kernel:
    """y [streams, frames, heads, width]: each frame's attention to itself and `history` before it.

    queries, keys, values: as y. old_keys, old_values [streams, history, heads, width]: the frames
    before, of which the last `seen` int64 [streams] are real; those that come last now replace
    them. A logit is query * scale float32 [width] times the sum of the key and the row of table
    [heads, history + 1, width] for its distance, farthest first; then cap * tanh(logit / cap).
    scratch: float32 [threads, 2 width + history + 1].
    """

    def write(b: Builder) -> None:
        given = b.given

        def head(number: Value) -> None:
            stream, n = b.sdiv(number, given["heads"]), b.srem(number, given["heads"])
            one = Head(b, half, stream, n)
            b.run(0, given["frames"], lambda t: _attend(b, half, cap, one, t))
            b.run(0, given["history"], one.forget)

        b.run(*share(b, b.mul(given["streams"], given["heads"])), head)

    return Kernel(ATTENTION, write, lanes_ or lanes())


class Within(Numbers):
    """Numbers that are read within +-limit."""

    def __init__(self, numbers: Numbers, limit: float):
        self.b, self.kind, self.half = numbers.b, numbers.kind, numbers.half
        self.place, self.limit = numbers.place, limit

    def read(self, i: Value, count: int) -> Value:
        return clamp(self.b, super().read(i, count), -self.limit, self.limit)


class Head:
    """One head of one stream: where its numbers lie, and this thread's scratch memory."""

    def __init__(self, b: Builder, half: bool, stream: Value, n: Value):
        self.b, self.half, self.stream, self.n = b, half, stream, n
        self.width, self.history = b.given["width"], b.given["history"]
        self.present = b.sum(self.history, 1)
        size = b.sum(b.times(self.width, 2), self.present)
        self.query, self.mixed, self.logits = (
            Numbers(b, False, "scratch", b.sum(b.mul(b.thread, size), place))
            for place in (0, self.width, b.times(self.width, 2))
        )

    def frame(self, name: str, t: Value, frames: str = "frames") -> Numbers:
        """Frame t of this head in a tensor [streams, frames, heads, width]."""
        b = self.b
        row = b.sum(b.mul(self.stream, b.given[frames]), t)
        return Numbers(b, self.half, name, b.mul(self._head(row), self.width))

    def heard(self, name: str, c: Value) -> Numbers:
        """Frame c of what came before and now."""
        new = self.frame(name, self.b.sub(c, self.history))
        old = self.frame(f"old_{name}", c, "history")
        before = self.b.icmp_signed("<", c, self.history)
        new.place = self.b.select(before, old.place, new.place)
        return new

    def position(self, j: Value) -> Numbers:
        """The table's row for the j-th frame from the farthest."""
        b = self.b
        row = b.sum(b.mul(self.n, self.present), j)
        return Numbers(b, self.half, "table", b.mul(row, self.width))

    def first(self, t: Value) -> Value:
        """The farthest frame from frame t that is real."""
        b = self.b
        seen = b.read(I64, b.pointer("seen"), b.times(self.stream, 8))
        first = b.sub(b.sub(self.history, seen), t)
        return b.select(b.icmp_signed(">", first, b.number(0)), first, b.number(0))

    def forget(self, j: Value) -> None:
        """Makes the frame that is j-th of the last ones now the j-th of those before."""
        for name in ("keys", "values"):
            source = self.heard(name, self.b.sum(self.b.given["frames"], j))
            _copy(self.b, self.width, source, self.frame(f"old_{name}", j, "history"))

    def _head(self, row: Value) -> Value:
        return self.b.sum(self.b.mul(row, self.b.given["heads"]), self.n)


def _attend(b: Builder, half: bool, cap: float, head: Head, t: Value) -> None:
    """One frame's attention."""
    query, scale, y = head.frame("queries", t), Numbers(b, False, "scale"), head.frame("y", t)
    first, width = head.first(t), head.width

    def scaled(i: Value, count: int) -> None:
        head.query.write(b.fmul(query.read(i, count), scale.read(i, count)), i)
        head.mixed.write(b.vector(F32, 0.0, count), i)

    def logit(j: Value, carried: Values) -> Values:
        key, position = head.heard("keys", b.sum(t, j)), head.position(j)

        def term(i: Value, count: int) -> Value:
            both = b.fadd(key.read(i, count), position.read(i, count))
            return b.fmul(head.query.read(i, count), both)

        value = b.spread(b.fdiv(summed(b, width, term), ir.Constant(F32, cap)), 1)
        value = b.fmul(tanh(b, value), b.vector(F32, cap, 1))
        head.logits.write(value, j)
        return [b.select(b.fcmp_ordered(">", value, carried[0]), value, carried[0])]

    def mix(j: Value, carried: Values) -> Values:
        weight = exp(b, b.fsub(head.logits.read(j, 1), most))
        by, value = (
            b.extract_element(weight, ir.Constant(I64, 0)),
            head.heard("values", b.sum(t, j)),
        )

        def add(i: Value, count: int) -> None:
            total = b.multiply_add(
                value.read(i, count), b.spread(by, count), head.mixed.read(i, count)
            )
            head.mixed.write(total, i)

        each(b, width, add)
        return [b.fadd(carried[0], by)]

    each(b, width, scaled)
    (most,) = b.loop(first, head.present, 1, logit, [b.vector(F32, -cap, 1)])
    (total,) = b.loop(first, head.present, 1, mix, [ir.Constant(F32, 0.0)])
    each(b, width, lambda i, n: y.write(b.fdiv(head.mixed.read(i, n), b.spread(total, n)), i))


def _gate(b: Builder, x: Numbers, y: Numbers, width: Value) -> None:
    """y [width] = the first half of x, as far as the second half opens."""

    def entries(i: Value, count: int) -> None:
        opened = sigmoid(b, x.read(b.sum(width, i), count))
        y.write(b.fmul(x.read(i, count), opened), i)

    each(b, width, entries)


def _convolve(b: Builder, heard: Numbers, t: Value, taps: int, limit: float, sums: Numbers) -> None:
    """sums [width] = the kernel over the frames from t on, within +-limit."""
    width = b.given["width"]

    def entries(i: Value, count: int) -> None:
        total = b.vector(F32, 0.0, count)
        for k in range(taps):
            weight = Numbers(b, False, "kernel", b.times(width, k)).read(i, count)
            value = heard.read(b.sum(b.mul(b.sum(t, k), width), i), count)
            total = b.multiply_add(value, weight, total)
        sums.write(clamp(b, total, -limit, limit), i)

    each(b, width, entries)


def _copy(b: Builder, count: Value, source: Numbers, target: Numbers) -> None:
    each(b, count, lambda i, n: target.write(source.read(i, n), i))
