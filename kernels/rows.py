"""Rows of numbers: how they are read, summed, normed and shared among the threads."""

from collections.abc import Callable, Sequence

from llvmlite import ir

from dragoman.kernels.compiler import F32, I16, Builder, Number, Value

TOGETHER = 4  # vectors, so that sums need not wait for one another
Term = Callable[[Value, int], Value]  # (first entry, entries) -> vector


class Numbers:
    """bf16 (`half`) or float32 numbers in memory, read and written as vectors of float32."""

    def __init__(self, b: Builder, half: bool, name: str, first: Number = 0):
        self.b, self.kind, self.half = b, I16 if half else F32, half
        self.place = b.at(b.pointer(name), b.times(first, 2 if half else 4))

    def read(self, i: Value, count: int) -> Value:
        value = self.b.read(ir.VectorType(self.kind, count), self.place, self._bytes(i))
        return self.b.widened(value) if self.half else value

    def write(self, value: Value, i: Value) -> None:
        value = self.b.narrowed(value) if self.half else value
        self.b.write(value, self.place, self._bytes(i))

    def _bytes(self, i: Value) -> Value:
        return self.b.times(i, 2 if self.half else 4)


def inverse_rms(b: Builder, x: Numbers, width: Value, eps: float) -> Value:
    """1 / sqrt(mean of x^2 + eps), a float32."""

    def square(i: Value, count: int) -> Value:
        value = x.read(i, count)
        return b.fmul(value, value)

    mean = b.fdiv(summed(b, width, square), b.sitofp(width, F32))
    root = b.call_scalar("sqrt", b.fadd(mean, ir.Constant(F32, eps)))
    return b.fdiv(ir.Constant(F32, 1.0), root)


def normed(
    b: Builder, x: Numbers, weight: Numbers | None, width: Value, eps: float,
    result: Callable[[Value, int, Value], None],
) -> None:  # fmt: skip
    """Gives x / rms(x) * weight to `result(first entry, entries, vector)`."""
    factor = inverse_rms(b, x, width, eps)

    def entries(i: Value, count: int) -> None:
        value = b.fmul(x.read(i, count), b.spread(factor, count))
        if weight is not None:
            value = b.fmul(value, weight.read(i, count))
        result(i, count, value)

    each(b, width, entries)


def summed(b: Builder, width: Value, term: Term) -> Value:
    """The sum of `term` over `width` entries: by several vectors, by one, and then by ones."""
    step = TOGETHER * b.lanes
    blocks, whole = b.and_(width, b.number(-step)), b.and_(width, b.number(-b.lanes))

    def add(i: Value, sums: Sequence[Value]) -> Sequence[Value]:
        return [b.fadd(each, term(b.sum(i, k * b.lanes), b.lanes)) for k, each in enumerate(sums)]

    def add_one(i: Value, sums: Sequence[Value]) -> Sequence[Value]:
        return [b.fadd(sums[0], b.total(term(i, 1)))]

    sums = b.loop(0, blocks, step, add, [b.vector(F32, 0.0)] * TOGETHER)
    total = sums[0]
    for value in sums[1:]:
        total = b.fadd(total, value)
    total = b.total(b.loop(blocks, whole, b.lanes, add, [total])[0])
    return b.loop(whole, width, 1, add_one, [total])[0]


def each(b: Builder, width: Value, body: Callable[[Value, int], None]) -> None:
    """Runs `body(first entry, entries)` over `width` entries, by vectors and then by ones."""
    whole = b.and_(width, b.number(-b.lanes))
    b.run(b.number(0), whole, lambda i: body(i, b.lanes), b.lanes)
    b.run(whole, width, lambda i: body(i, 1))


def share(b: Builder, count: Value) -> tuple[Value, Value]:
    """This thread's part of `count` things: its first, and the first of the next."""
    part = b.sdiv(b.sum(count, b.threads, -1), b.threads)
    start = b.least(b.mul(b.thread, part), count)
    return start, b.least(b.add(start, part), count)
