"""The loops of products with int8 and int4 weights, for any number of rows of x.

Weights of 16 outputs lie beside each other, so a vector of words meets the same few inputs of x in
every lane, and sums of a group need not be added up across lanes. A thread takes some of the blocks
of 16 outputs, each past a tile of rows of x after the other while it stays in the cache.

Two ways to meet: where the CPU multiplies bytes, x is rounded to int8 by groups, as the weights
are, and products and their sums in a group are exact; elsewhere everything is float32. Unusual:
bytes of weights have no sign there, as the instruction wants it, so every sum starts at -zero
sum(x). Sums of a row do not depend on what other rows there are.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cache

from llvmlite import ir

from dragoman.decoder.storage import BLOCK, LEAST
from dragoman.kernels.codes import CODES, Codes, Placed
from dragoman.kernels.compiler import F32, I8, I16, I32, Builder, Kernel, Value, has_bytes, lanes
from dragoman.kernels.rows import Numbers, share

PRODUCT = (
    "y", "x", "weight", "scale", "scratch", "rows", "outputs", "inputs", "stride", "scale_stride",
)  # fmt: skip
AHEAD_BYTES = 4096  # how far in front of their use weights are asked for, while they are new
LARGEST = 127  # of what x is rounded to
TINY = 1e-30  # x below it counts as zero: float32 has no inverse of much less
Values = Sequence[Value]


@cache
def product(
    name: str, half: bool, tile: int, lanes_: int | None = None, by_bytes: bool | None = None
) -> Kernel:
    """y [rows, outputs] = x [rows, inputs] @ weights^T; x and y are bf16 (`half`) or float32.

    outputs: a multiple of 16; rows: at least `tile`, which go together.
    lanes_, by_bytes: for another CPU than this.
    """
    way = _way(name, lanes_, by_bytes)

    def write(b: Builder) -> None:
        place = _lay(b, way, half)
        rows, outputs = b.given["rows"], b.given["outputs"]

        def block(n: Value) -> None:
            def part(m: Value) -> None:
                first = b.least(m, b.sum(rows, -tile))  # some rows may be computed twice
                xs = [place(b.sum(first, i)) for i in range(tile)]
                for i, total in enumerate(_totals(b, way, n, xs, _ahead(b, m, tile))):
                    vector, row = divmod(i, tile)
                    index = b.sum(b.mul(b.sum(first, row), outputs), b.times(n, BLOCK))
                    Numbers(b, half, "y", index).write(total, b.number(vector * b.lanes))

            b.run(0, rows, part, tile)

        b.run(*share(b, b.sdiv(outputs, b.number(BLOCK))), block)

    return Kernel(PRODUCT, write, lanes_ or lanes())


def tile(rows: int, lanes_: int | None = None) -> int:
    """How many rows of x go together: as many as there are registers for their sums."""
    most = 12 if (lanes_ or lanes()) == 16 else 3
    return -(-rows // -(-rows // most))  # equal parts


def scratch_bytes(
    name: str, inputs: int, rows: int, lanes_: int | None = None, by_bytes: bool | None = None
) -> int:
    """The scratch memory that one thread of a product needs."""
    return rows * _way(name, lanes_, by_bytes).row_bytes(inputs)


class _Way(ABC):
    """How rows of x lie in scratch memory, and how they are multiplied."""

    def __init__(self, form: Codes):
        self.form = form

    @abstractmethod
    def row_bytes(self, inputs: int) -> int: ...

    @abstractmethod
    def row_size(self, b: Builder) -> Value:
        """The same, while it runs."""

    @abstractmethod
    def lay(self, b: Builder, x: Numbers, group: Value, start: Value, stop: Value, to: Value):
        """Puts a group of a row, inputs start to stop, where it belongs."""

    @abstractmethod
    def unpacked(self, b: Builder, words: Value) -> Placed: ...

    @abstractmethod
    def first(self, b: Builder, x: Value, group: Value) -> Value:
        """What the sums of a group start at."""

    @abstractmethod
    def multiply(self, b: Builder, weights: Value, x: Value, k: Value, total: Value) -> Value:
        """total + weights * x from input k on."""

    @abstractmethod
    def last(self, b: Builder, x: Value, group: Value, total: Value) -> Value:
        """The sums of a group, as float32."""


class _Bytes(_Way):
    """Behind the bytes of a row lies, for each group, its scale and what sums start at."""

    def row_bytes(self, inputs: int) -> int:
        return inputs + 8 * -(-inputs // self.form.group)

    def row_size(self, b: Builder) -> Value:
        return b.sum(b.given["inputs"], b.times(_groups(b, self.form), 8))

    def lay(self, b: Builder, x: Numbers, group: Value, start: Value, stop: Value, to: Value):
        n = b.lanes

        def larger(k: Value, most: Values) -> Values:
            value = x.read(k, n)
            size = b.call_vector("fabs", value.type, value)
            return [b.call_vector("maximum", size.type, size, most[0])]

        most = b.loop(start, stop, n, larger, [b.vector(F32, 0.0)])[0]
        most = b.call_vector("vector.reduce.fmaximum", F32, most)
        scale = b.fmul(most, ir.Constant(F32, 1 / LARGEST))
        none = b.fcmp_ordered("<", most, ir.Constant(F32, TINY))
        factor = b.fdiv(ir.Constant(F32, LARGEST), most)
        factor = b.select(none, ir.Constant(F32, 0.0), factor)

        def round_(k: Value, sums: Values) -> Values:
            value = b.fmul(x.read(k, n), b.spread(factor, n))
            value = b.call_vector("rint", value.type, value)
            words = b.fptosi(value, ir.VectorType(I32, n))
            b.write(b.trunc(words, ir.VectorType(I8, n)), to, k)
            return [b.fadd(sums[0], value)]

        total = b.total(b.loop(start, stop, n, round_, [b.vector(F32, 0.0)])[0])
        first = b.fptosi(b.fmul(total, ir.Constant(F32, -self.form.zero)), I32)
        b.write(scale, to, self._behind(b, group))
        b.write(first, to, b.sum(self._behind(b, group), 4))

    def unpacked(self, b: Builder, words: Value) -> Placed:
        return self.form.bytes(b, words)

    def first(self, b: Builder, x: Value, group: Value) -> Value:
        return b.spread(b.read(I32, x, b.sum(self._behind(b, group), 4)), b.lanes)

    def multiply(self, b: Builder, weights: Value, x: Value, k: Value, total: Value) -> Value:
        return b.dot_bytes(weights, b.spread(b.read(I32, x, k), b.lanes), total)

    def last(self, b: Builder, x: Value, group: Value, total: Value) -> Value:
        scale = b.spread(b.read(F32, x, self._behind(b, group)), b.lanes)
        return b.fmul(b.sitofp(total, scale.type), scale)

    def _behind(self, b: Builder, group: Value) -> Value:
        return b.sum(b.given["inputs"], b.times(group, 8))


class _Floats(_Way):
    """x as float32."""

    def row_bytes(self, inputs: int) -> int:
        return 4 * inputs

    def row_size(self, b: Builder) -> Value:
        return b.times(b.given["inputs"], 4)

    def lay(self, b: Builder, x: Numbers, group: Value, start: Value, stop: Value, to: Value):
        b.run(start, stop, lambda k: b.write(x.read(k, b.lanes), to, b.times(k, 4)), b.lanes)

    def unpacked(self, b: Builder, words: Value) -> Placed:
        return self.form.floats(b, words)

    def first(self, b: Builder, x: Value, group: Value) -> Value:
        return b.vector(F32, 0.0)

    def multiply(self, b: Builder, weights: Value, x: Value, k: Value, total: Value) -> Value:
        return b.multiply_add(weights, b.spread(b.read(F32, x, b.times(k, 4)), b.lanes), total)

    def last(self, b: Builder, x: Value, group: Value, total: Value) -> Value:
        return total


def _way(name: str, lanes_: int | None, by_bytes: bool | None) -> _Way:
    chosen = has_bytes(lanes_ or lanes()) if by_bytes is None else by_bytes
    return (_Bytes if chosen else _Floats)(CODES[name])


def _groups(b: Builder, form: Codes) -> Value:
    return b.sdiv(b.sum(b.given["inputs"], form.group - 1), b.number(form.group))


def _group(b: Builder, form: Codes, group: Value) -> tuple[Value, Value]:
    """The inputs of a group: the first, and the first of the next."""
    start = b.times(group, form.group)
    return start, b.least(b.sum(start, form.group), b.given["inputs"])


def _lay(b: Builder, way: _Way, half: bool) -> Callable[[Value], Value]:
    """Lays the rows of x out in this thread's scratch memory; where each of them is."""
    rows, size = b.given["rows"], way.row_size(b)
    mine = b.at(b.pointer("scratch"), b.mul(b.thread, b.mul(rows, size)))

    def place(m: Value) -> Value:
        return b.at(mine, b.mul(m, size))

    def row(m: Value) -> None:
        x, to = Numbers(b, half, "x", b.mul(m, b.given["inputs"])), place(m)
        b.run(
            0,
            _groups(b, way.form),
            lambda group: way.lay(b, x, group, *_group(b, way.form, group), to),
        )

    b.run(0, rows, row)
    return place


def _ahead(b: Builder, m: Value, tile: int) -> Value:
    """How far in front of their use weights are asked for by the rows from m on. Of several tiles
    the last one, which has all of its block in the cache, asks for the next block."""
    last = b.icmp_signed(">=", b.sum(m, tile), b.given["rows"])
    several = b.icmp_signed(">", m, b.number(0))
    return b.select(b.and_(last, several), b.given["stride"], b.number(AHEAD_BYTES))


def _totals(b: Builder, way: _Way, n: Value, xs: Values, ahead: Value) -> Values:
    """The sums of a block for some rows of x: for each vector of outputs, each row."""
    form = way.form
    weight = b.at(b.pointer("weight"), b.mul(n, b.given["stride"]))
    scale = b.at(b.pointer("scale"), b.mul(n, b.given["scale_stride"]))
    vectors = range(0, BLOCK, b.lanes)  # their first outputs

    def group(g: Value, totals: Values) -> Values:
        start, stop = _group(b, form, g)

        def piece(k: Value, sums: Values) -> Values:
            here = b.at(weight, b.times(k, BLOCK * form.bits // 8))
            for line in range(0, LEAST * BLOCK * form.bits // 8, 64):
                b.prefetch(here, b.sum(ahead, line))
            for word in range(LEAST // form.inputs):
                sums = _word(b, way, here, word, vectors, k, xs, sums)
            return sums

        sums = [way.first(b, x, g) for x in xs] * len(vectors)
        sums = b.loop(start, stop, LEAST, piece, sums) if form.group > LEAST else piece(start, sums)
        after = []
        for i, output in enumerate(vectors):
            place = b.times(b.sum(b.times(g, BLOCK), output), 2)
            factor = b.widened(b.read(ir.VectorType(I16, b.lanes), scale, place))
            for j, x in enumerate(xs, start=i * len(xs)):
                after.append(b.multiply_add(way.last(b, x, g, sums[j]), factor, totals[j]))
        return after

    zeros = [b.vector(F32, 0.0)] * (len(vectors) * len(xs))
    return b.loop(0, _groups(b, form), 1, group, zeros)


def _word(
    b: Builder, way: _Way, here: Value, word: int, vectors: Sequence[int], k: Value, xs: Values,
    sums: Values,
) -> Values:  # fmt: skip
    """sums plus the products with one word of each output; `here` are the weights of input k on."""
    kind, sums = ir.VectorType(I32, b.lanes), list(sums)
    for i, output in enumerate(vectors):
        words = b.read(kind, here, 4 * (BLOCK * word + output))
        for place, weights in way.unpacked(b, words):
            at = b.sum(k, word * way.form.inputs + place)
            for j, x in enumerate(xs, start=i * len(xs)):
                sums[j] = way.multiply(b, weights, x, at, sums[j])
    return sums
