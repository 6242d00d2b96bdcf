"""The loops of products with bf16 weights: each written for one type of x and y, and one number of
rows of x.

Two ways to compute: with float32 on any CPU, and, where the CPU has the instruction, with pairs of
bf16, which multiplies twice as many numbers at a time. Products of bf16 are exact in float32 and
sums are float32 in both.

A thread computes a run of outputs. It goes through its weights once and multiplies them as they
come, several outputs together, so that x is read less often than weights are; the memory is at its
quickest where weights are asked for early and in the order in which they are used. To compute with
float32, a thread first lays x out in its own scratch memory, inputs at even places apart from those
at odd ones, as weights leave their registers.
"""

from collections.abc import Callable, Sequence
from functools import cache

from llvmlite import ir

from kernels.compiler import F32, I32, Builder, Program, Value, has_pairs, lanes
from kernels.products import LEAST
from kernels.row_loops import SOURCES, Halves
from kernels.rows import Numbers

AHEAD_BYTES = 4096  # how far in front of their use weights are asked for, all outputs together
PRODUCT = ("y", "x", "weight", "scratch", "outputs", "inputs", "stride")
UNPACK = ("y", "weight", "outputs", "inputs", "stride")
UPPER = 0xFFFF0000
Values = Sequence[Value]


@cache
def product(
    half: bool, rows: int, form: str = "bf16", lanes_: int | None = None, pairs: bool | None = None
) -> Program:
    """y [rows, outputs] = x [rows, inputs] @ weight^T; x and y are bf16 (`half`) or float32, the
    weights of a `form` of `kernels.row_loops`.

    lanes_, pairs: for another CPU than this.
    """
    paired = _paired(half, pairs)
    several, most = _tile(paired, rows)
    step = -(-rows // -(-rows // most))  # equal parts

    def write(b: Builder) -> None:
        sources, weights = _order(b, paired, half, rows), SOURCES[form](b)

        def some(n: Value, count: int) -> None:
            for first in range(0, rows, step):
                xs = sources[first : first + step]
                _outputs(b, weights, paired, half, xs, first, n, count)

        _each_output(b, several, some)

    return Program((*PRODUCT, *SOURCES[form].operands), write, lanes_ or lanes())


@cache
def unpacking(form: str = "bf12", lanes_: int | None = None) -> Program:
    """y [outputs, inputs] = the weights of a `form`, as bf16."""

    def write(b: Builder) -> None:
        weights = SOURCES[form](b)

        def output(n: Value, _: int) -> None:
            row = b.at(b.pointer("weight"), b.mul(n, b.given["stride"]))
            y = b.at(b.pointer("y"), b.times(b.mul(n, b.given["inputs"]), 2))
            key = weights.key(n)

            def turn(k: Value, whole: bool, _: Values) -> Values:
                for first, words in weights.words(row, key, weights.place(k), whole):
                    b.write(words, y, b.times(b.sum(k, first), 2))
                return ()

            def left_out(k: Value, weight: Value, _: Values) -> Values:
                b.write(b.narrowed(weight), y, b.times(k, 2))
                return ()

            _each_block(b, weights, turn)
            weights.rest(n, left_out, ())

        _each_output(b, 1, output)

    return Program((*UNPACK, *SOURCES[form].operands), write, lanes_ or lanes())


def scratch_bytes(half: bool, inputs: int, rows: int, pairs: bool | None = None) -> int:
    """The scratch memory that one thread of a product needs."""
    return 0 if _paired(half, pairs) else 4 * rows * inputs


def _tile(paired: bool, rows: int) -> tuple[int, int]:
    """How many outputs and rows of x go together: as measured on a CPU with pairs, so that reading
    x again costs no more than the memory does, and sums stay in registers."""
    if not paired:
        return 1, 4
    return (3, 6) if rows in (5, 6) else (4, 4)


def _paired(half: bool, pairs: bool | None) -> bool:
    """Pairs need an x of bf16."""
    return half and (has_pairs() if pairs is None else pairs)


def _order(b: Builder, paired: bool, half: bool, rows: int) -> Values:
    """Where each row of x is: pairs as given, others laid out in this thread's scratch memory."""
    inputs, width = b.given["inputs"], 2 if paired else 4
    size = b.times(inputs, width)
    if paired:
        return [b.at(b.pointer("x"), b.times(size, m)) for m in range(rows)]
    mine = b.at(b.pointer("scratch"), b.times(b.thread, b.times(size, rows)))
    laid = Halves(b)

    def row(m: Value) -> None:
        target = b.at(mine, b.mul(m, size))
        x = Numbers(b, half, "x", b.mul(m, inputs))

        def turn(k: Value, whole: bool, _: Values) -> Values:
            for i in range(0, laid.block(whole), 2 * b.lanes):
                low, high = (x.read(b.sum(k, i, j), b.lanes) for j in (0, b.lanes))
                for odd in (0, 1):
                    vector = b.permute(low, high, range(odd, 2 * b.lanes, 2))
                    b.write(vector, target, b.times(b.sum(k, i, odd * b.lanes), width))
            return ()

        _each_block(b, laid, turn)

    b.run(0, rows, row)
    return [b.at(mine, b.times(size, m)) for m in range(rows)]


def _entries(b: Builder, paired: bool, words: Value) -> Values:
    """Two inputs a word, as weights that meet x."""
    if paired:
        return [words]
    halves = b.shifted(words, 16), b.and_(words, b.vector(I32, UPPER))  # even places, odd ones
    return [b.bitcast(bits, ir.VectorType(F32, b.lanes)) for bits in halves]


def _outputs(
    b: Builder, weights: Halves, paired: bool, half: bool, xs: Values, first: int, n: Value,
    count: int,
) -> None:  # fmt: skip
    """Outputs n to n + count of some rows of x, which begin with row `first`."""
    numbers = [b.sum(n, i) for i in range(count)]
    rows = [b.at(b.pointer("weight"), b.mul(i, b.given["stride"])) for i in numbers]
    keys = [weights.key(i) for i in numbers]
    kind, width = ir.VectorType(F32, b.lanes), 2 if paired else 4

    def turn(k: Value, whole: bool, sums: Values) -> Values:
        sums, ahead, place = list(sums), _ahead(b, weights, k, count), weights.place(k)
        for line in weights.lines() if whole else ():
            for row in rows:
                b.prefetch(row, b.sum(place, ahead, line))
        blocks = (weights.words(*one, place, whole) for one in zip(rows, keys, strict=True))
        for together in zip(*blocks, strict=True):
            for i, (input_, words) in enumerate(together):
                for j, value in enumerate(_entries(b, paired, words)):
                    there = b.sum(b.times(k, width), width * input_, 4 * b.lanes * j)
                    for at, x in enumerate(xs, start=i * len(xs)):
                        sums[at] = _multiplied(b, paired, value, b.read(kind, x, there), sums[at])
        return sums

    sums = _each_block(b, weights, turn, [b.vector(F32, 0.0)] * (count * len(xs)))
    for i, number in enumerate(numbers):
        totals = [b.total(sums[i * len(xs) + m]) for m in range(len(xs))]

        def left_out(k: Value, weight: Value, totals: Values) -> Values:
            values = [_value(b, half, first + m, k) for m in range(len(xs))]
            return [
                b.fadd(total, b.fmul(weight, x)) for total, x in zip(totals, values, strict=True)
            ]

        for m, total in enumerate(weights.rest(number, left_out, totals)):
            y = Numbers(b, half, "y", b.sum(b.times(b.given["outputs"], first + m), number))
            y.write(b.spread(total, 1), b.number(0))


def _value(b: Builder, half: bool, m: int, k: Value) -> Value:
    """Entry k of row m of x."""
    x = Numbers(b, half, "x", b.times(b.given["inputs"], m))
    return b.extract_element(x.read(k, 1), ir.Constant(I32, 0))


def _ahead(b: Builder, weights: Halves, k: Value, count: int) -> Value:
    """From input k of an output to the weights to ask for meanwhile: of the same output, or at its
    end of the one that takes its place when `count` are done."""
    ahead, row = b.number(AHEAD_BYTES // count // 64 * 64), weights.place(b.given["inputs"])
    over = b.icmp_signed(">=", b.sum(weights.place(k), ahead), row)
    next_ = b.sub(b.sum(ahead, b.times(b.given["stride"], count)), row)
    return b.select(over, next_, ahead)


def _multiplied(b: Builder, paired: bool, value: Value, x: Value, total: Value) -> Value:
    """total + value * x, a float32 in each lane."""
    return (b.dot_pairs if paired else b.multiply_add)(value, x, total)


def _each_block(
    b: Builder, weights: Halves, turn: Callable[[Value, bool, Values], Values], carried: Values = ()
) -> Values:
    """Runs over the inputs: `turn(first input, whether the block is whole, carried)`, which returns
    what is carried on."""
    inputs, size = b.given["inputs"], weights.block(True)
    full = b.and_(inputs, b.number(-size))
    carried = b.loop(0, full, size, lambda k, c: turn(k, True, c), carried)
    if weights.block(False) == size:
        return carried
    return b.loop(full, inputs, LEAST, lambda k, c: turn(k, False, c), carried)


def _each_output(b: Builder, several: int, body: Callable[[Value, int], None]) -> None:
    """Runs over this thread's share of the outputs, `body(first, count)`: `several` at a time, then
    one."""
    outputs, unit = b.given["outputs"], b.number(several)
    units = b.sdiv(b.sum(outputs, several - 1), unit)
    share = b.mul(b.sdiv(b.sum(units, b.threads, -1), b.threads), unit)
    start = b.least(b.mul(b.thread, share), outputs)
    stop = b.least(b.add(start, share), outputs)
    last = b.sub(stop, b.srem(b.sub(stop, start), unit))

    b.run(start, last, lambda n: body(n, several), several)
    if several > 1:
        b.run(last, stop, lambda n: body(n, 1))
