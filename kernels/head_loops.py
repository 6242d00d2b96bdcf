"""What attention does with heads of bf16 in a pass over a cache: their norm and rotary embedding,
and attention itself, for a few rows that follow one another.

The torch form of each is in `decoder.layers`. A thread takes some heads of some rows.
"""

from collections.abc import Sequence
from functools import cache

from llvmlite import ir

from dragoman.kernels.compiler import F32, I64, Builder, Kernel, Value, lanes
from dragoman.kernels.functions import exp
from dragoman.kernels.gate_loops import rounded
from dragoman.kernels.rows import Numbers, each, inverse_rms, share, summed

TURN = (
    "y", "x", "weight", "cos", "sin", "rows", "heads", "width", "head_stride", "row_stride",
    "start",
)  # fmt: skip
ATTEND = (
    "y", "queries", "keys", "values", "scores", "rows", "heads", "group", "head_stride", "start",
    "window", "room",
)  # fmt: skip
Values = Sequence[Value]


@cache
def turning(weight: bool, rotates: bool, eps: float, lanes_: int | None = None) -> Kernel:
    """The norm of each head, with a `weight` or without, and its rotary embedding if it `rotates`.

    x: [rows, heads, width]; y: rows `row_stride` and heads `head_stride` entries apart, from row
    `start` on, which is an int64 in memory; cos, sin: [rows, width / 2].
    """

    def write(b: Builder) -> None:
        width, heads = b.given["width"], b.given["heads"]
        half = b.sdiv(width, b.number(2))
        start = b.read(I64, b.pointer("start"))

        def head(n: Value) -> None:
            m, h = b.sdiv(n, heads), b.srem(n, heads)
            x = Numbers(b, True, "x", b.mul(n, width))
            place = b.mul(b.add(start, m), b.given["row_stride"])
            y = Numbers(b, True, "y", b.add(place, b.mul(h, b.given["head_stride"])))
            cos, sin = (Numbers(b, True, name, b.mul(m, half)) for name in ("cos", "sin"))
            factor = inverse_rms(b, x, width, eps)

            def normed(i: Value, count: int) -> Value:
                value = b.fmul(x.read(i, count), b.spread(factor, count))
                if weight:
                    value = b.fmul(value, Numbers(b, True, "weight").read(i, count))
                return rounded(b, value)

            def rotate(i: Value, count: int) -> None:
                low, high = normed(i, count), normed(b.add(i, half), count)
                c, s = cos.read(i, count), sin.read(i, count)
                y.write(b.fsub(b.fmul(low, c), b.fmul(high, s)), i)
                y.write(b.fadd(b.fmul(high, c), b.fmul(low, s)), b.add(i, half))

            if rotates:
                each(b, half, rotate)
            else:
                each(b, width, lambda i, count: y.write(normed(i, count), i))

        b.run(*share(b, b.mul(b.given["rows"], heads)), head)

    return Kernel(TURN, write, lanes_ or lanes())


@cache
def attending(width: int, lanes_: int | None = None) -> Kernel:
    """Attention with scale 1 of rows that follow one another, each of which sees the `window`
    positions that end with its own.

    y, queries: [rows, heads, width]; keys, values: [heads / group, ..., width], heads
    `head_stride` entries apart; start: the position of the first row, an int64 in memory; scores:
    float32 [threads, room], where room is at least the number of keys. `width` is a multiple of the
    lanes.
    """

    def write(b: Builder) -> None:
        heads, start = b.given["heads"], b.read(I64, b.pointer("start"))

        def head(n: Value) -> None:
            m, h = b.sdiv(n, heads), b.srem(n, heads)
            first_entry = b.mul(b.sdiv(h, b.given["group"]), b.given["head_stride"])
            end = b.sum(start, m, 1)
            first = b.sub(end, b.least(end, b.given["window"]))
            _attend(b, width, b.mul(n, b.number(width)), first_entry, first, end)

        b.run(*share(b, b.mul(b.given["rows"], heads)), head)

    return Kernel(ATTEND, write, lanes_ or lanes())


def _attend(
    b: Builder, width: int, place: Value, first_entry: Value, first: Value, end: Value
) -> None:
    """One query, at `place`, against the keys from `first` to `end`."""
    parts = range(0, width, b.lanes)
    keys, values = (Numbers(b, True, name, first_entry) for name in ("keys", "values"))
    scores = Numbers(b, False, "scores", b.mul(b.thread, b.given["room"]))
    query = [Numbers(b, True, "queries", place).read(b.number(k), b.lanes) for k in parts]
    count = b.sub(end, first)

    def score(j: Value, most: Values) -> Values:
        entry = b.times(b.add(first, j), width)
        sums = [b.vector(F32, 0.0)] * min(4, len(query))
        for k, q in zip(parts, query, strict=True):
            i = k // b.lanes % len(sums)
            sums[i] = b.multiply_add(q, keys.read(b.sum(entry, k), b.lanes), sums[i])
        total = sums[0]
        for value in sums[1:]:
            total = b.fadd(total, value)
        total = b.total(total)
        b.write(total, scores.place, b.times(j, 4))
        return (b.select(b.fcmp_ordered(">", total, most[0]), total, most[0]),)

    (most,) = b.loop(0, count, 1, score, [ir.Constant(F32, float("-inf"))])

    def weight(i: Value, entries: int) -> Value:
        value = exp(b, b.fsub(scores.read(i, entries), b.spread(most, entries)))
        scores.write(value, i)
        return value

    total = summed(b, count, weight)

    def mix(j: Value, sums: Values) -> Values:
        entry = b.times(b.add(first, j), width)
        share_ = b.spread(b.read(F32, scores.place, b.times(j, 4)), b.lanes)
        pairs = zip(parts, sums, strict=True)
        return [
            b.multiply_add(share_, values.read(b.sum(entry, k), b.lanes), sum_) for k, sum_ in pairs
        ]

    sums = b.loop(0, count, 1, mix, [b.vector(F32, 0.0)] * len(query))
    y, inverse = Numbers(b, True, "y", place), b.fdiv(ir.Constant(F32, 1.0), total)
    for k, value in zip(parts, sums, strict=True):
        y.write(b.fmul(value, b.spread(inverse, b.lanes)), b.number(k))
