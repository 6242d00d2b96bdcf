"""The loops of products that only open gates ask for; lists as in `kernels.gate_loops`.

On the way up, a thread takes a block of hidden units, whose weights stay in its cache, past all
tokens. On the way down it takes a tile of outputs: their weights are copied, a chunk of hidden
units at a time, so that the weights of a unit lie together, and each listed unit adds its own,
times its value, to sums in registers.

Unusual: a word of the copy holds two weights, of outputs i and i + lanes of the same unit. Where
the CPU multiplies pairs of bf16, the pair (value, 0) takes the one, (0, value) the other.
"""

from collections.abc import Sequence
from functools import cache

from llvmlite import ir

from dragoman.kernels.compiler import (
    F32,
    I32,
    I64,
    Builder,
    Kernel,
    Number,
    Value,
    has_pairs,
    lanes,
)
from dragoman.kernels.functions import transposed
from dragoman.kernels.gate_loops import BLOCK, rounded
from dragoman.kernels.row_loops import UPPER, Halves, dot, evens_odds
from dragoman.kernels.rows import Numbers

RAISE = ("x", "weight", "stride", "units", "values", "marks", "tokens", "inputs", "width")
LOWER = (
    "y", "weight", "stride", "units", "values", "marks", "scratch", "size", "tokens", "outputs",
    "width", "parts",
)  # fmt: skip
CHUNK = 8 * BLOCK  # hidden units that are copied at a time
Values = Sequence[Value]


def tile(lanes_: int | None = None) -> int:
    """Outputs whose sums are in registers together."""
    width = lanes_ or lanes()
    return 2 * width * _vectors(width)


def least_inputs(lanes_: int | None = None) -> int:
    """Inputs of `raising` come in multiples of this."""
    return 8 * (lanes_ or lanes())


def scratch_bytes(tokens: int, lanes_: int | None = None) -> int:
    """The scratch memory that one thread of `lowering` needs."""
    return tile(lanes_) * (2 * CHUNK + 4 * tokens)


@cache
def raising(lanes_: int | None = None, pairs: bool | None = None) -> Kernel:
    """Multiplies every listed value of token m by weight [width, inputs] of its unit times x[m].

    x: bf16 [tokens, inputs]; the product with x and the new value are rounded to bf16.
    """
    paired = has_pairs() if pairs is None else pairs

    def write(b: Builder) -> None:
        values, up = Numbers(b, False, "values"), Halves(b)

        def block(i: Value) -> None:
            def token(m: Value) -> None:
                x = b.at(b.pointer("x"), b.times(b.mul(m, b.given["inputs"]), 2))

                def unit(k: Value) -> None:
                    n = _unit(b, k)
                    row = b.at(b.pointer("weight"), b.mul(n, b.given["stride"]))
                    product = rounded(b, b.spread(dot(b, up, n, row, x, paired), 1))
                    values.write(rounded(b, b.fmul(values.read(k, 1), product)), k)

                b.run(_mark(b, m, i), _mark(b, m, b.sum(i, 1)), unit)

            b.run(0, b.given["tokens"], token)

        b.run(b.thread, b.sdiv(b.given["width"], b.number(BLOCK)), block, b.threads)

    return Kernel(RAISE, write, lanes_ or lanes())


@cache
def lowering(lanes_: int | None = None, pairs: bool | None = None) -> Kernel:
    """y [tokens, outputs] = the listed values times weight [outputs, width] of their units.

    Each thread, with `size` bytes of scratch memory, takes some of the tiles of outputs, each for
    some of the `parts` into which the tokens are split.
    """
    paired = has_pairs() if pairs is None else pairs

    def write(b: Builder) -> None:
        tokens, parts = b.given["tokens"], b.given["parts"]
        tiles = b.sdiv(b.given["outputs"], b.number(tile(b.lanes)))
        rows = b.sdiv(b.sum(tokens, parts, -1), parts)

        def item(i: Value) -> None:
            first = b.least(b.mul(b.sdiv(i, tiles), rows), tokens)
            last = b.least(b.add(first, rows), tokens)
            _lower(b, b.times(b.srem(i, tiles), tile(b.lanes)), first, last, paired)

        b.run(b.thread, b.mul(tiles, parts), item, b.threads)

    return Kernel(LOWER, write, lanes_ or lanes())


def _vectors(lanes_: int) -> int:
    """Registers of pairs that a unit adds to: as many as there are registers for their sums."""
    return 8 if lanes_ == 16 else 4


def _unit(b: Builder, k: Value) -> Value:
    return b.sext(b.read(I32, b.pointer("units"), b.times(k, 4)), I64)


def _mark(b: Builder, m: Value, block: Value) -> Value:
    marks = b.sum(b.sdiv(b.given["width"], b.number(BLOCK)), 1)
    place = b.add(b.mul(m, marks), block)
    return b.sext(b.read(I32, b.pointer("marks"), b.times(place, 4)), I64)


def _lower(b: Builder, output: Value, first: Value, last: Value, pairs: bool) -> None:
    """A tile of outputs, from `output` on, of tokens first to last."""
    size = tile(b.lanes)
    copy = b.at(b.pointer("scratch"), b.mul(b.thread, b.given["size"]))
    sums = b.at(copy, 2 * CHUNK * size)
    kind, places = ir.VectorType(F32, b.lanes), range(0, 4 * size, 4 * b.lanes)
    width = b.given["width"]

    def of(m: Value) -> Value:
        return b.at(sums, b.times(b.sub(m, first), 4 * size))

    def clear(m: Value) -> None:
        for place in places:
            b.write(b.vector(F32, 0.0), of(m), place)

    def chunk(start: Value) -> None:
        stop = b.least(b.sum(start, CHUNK), width)
        _copy(b, output, start, stop, copy)

        def token(m: Value) -> None:
            def unit(k: Value, totals: Values) -> Values:
                weights = b.at(copy, b.times(b.sub(_unit(b, k), start), 2 * size))
                return _added(
                    b, b.read(I32, b.pointer("values"), b.times(k, 4)), weights, totals, pairs
                )

            begin, end = (_mark(b, m, b.sdiv(at, b.number(BLOCK))) for at in (start, stop))
            totals = b.loop(begin, end, 1, unit, [b.read(kind, of(m), place) for place in places])
            for place, total in zip(places, totals, strict=True):
                b.write(total, of(m), place)

        b.run(first, last, token)

    def finish(m: Value) -> None:
        y = b.at(b.pointer("y"), b.times(b.add(b.mul(m, b.given["outputs"]), output), 2))
        for place in places:
            b.write(b.narrowed(b.read(kind, of(m), place)), y, place // 2)

    b.run(first, last, clear)
    b.run(0, width, chunk, CHUNK)
    b.run(first, last, finish)


def _added(b: Builder, value: Value, weights: Value, totals: Values, pairs: bool) -> Values:
    """totals plus a value (a float32 by its bits, bf16 in their upper half) times a unit's copy."""
    kind, after = ir.VectorType(I32, b.lanes), []
    number = b.spread(b.bitcast(value, F32), b.lanes)
    upper = b.bitcast(number, kind)
    lower = b.shifted(upper, -16)
    for i in range(0, len(totals), 2):
        words = b.read(kind, weights, 2 * b.lanes * i)
        if pairs:
            after += [
                b.dot_pairs(words, lower, totals[i]),
                b.dot_pairs(words, upper, totals[i + 1]),
            ]
        else:
            halves = zip(evens_odds(b, words), totals[i : i + 2], strict=True)
            after += [b.multiply_add(half, number, total) for half, total in halves]
    return after


def _copy(b: Builder, output: Value, start: Value, stop: Value, to: Value) -> None:
    """The weights of a tile for units start to stop: words [units, vectors, lanes]."""
    n, size = b.lanes, tile(b.lanes)

    def vector(v: Value) -> None:
        def square(k: Value) -> None:
            here = b.at(to, b.add(b.times(b.sub(k, start), 2 * size), b.times(v, 4 * n)))
            halves = []
            for half in range(2):
                row = b.sum(output, b.times(v, 2 * n), half * n)
                halves.append(transposed(b, [_words(b, b.sum(row, i), k) for i in range(n)]))
            lower, upper = b.vector(I32, 0xFFFF), b.vector(I32, UPPER)
            for i, (first, second) in enumerate(zip(*halves, strict=True)):
                even = b.or_(b.and_(first, lower), b.shifted(second, 16))
                odd = b.or_(b.shifted(first, -16), b.and_(second, upper))
                b.write(even, here, 4 * size * i)
                b.write(odd, here, 4 * size * i + 2 * size)

        b.run(start, stop, square, 2 * n)

    b.run(0, _vectors(n), vector)


def _words(b: Builder, output: Value, unit: Number) -> Value:
    place = b.add(b.mul(output, b.given["stride"]), b.times(unit, 2))
    return b.read(ir.VectorType(I32, b.lanes), b.pointer("weight"), place)
