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
from itertools import product as pairs_of

from llvmlite import ir

from kernels.compiler import F32, I32, Builder, Program, Value, has_pairs, lanes
from kernels.products import LEAST
from kernels.rows import Numbers

AHEAD_BYTES = 4096  # how far in front of their use weights are asked for, all outputs together
PRODUCT = ("y", "x", "weight", "scratch", "outputs", "inputs", "stride")
LINE = 64  # bytes of memory that come together
UPPER = 0xFFFF0000
Values = Sequence[Value]


@cache
def product(half: bool, rows: int, lanes_: int | None = None, pairs: bool | None = None) -> Program:
    """y [rows, outputs] = x [rows, inputs] @ weight^T; x and y are bf16 (`half`) or float32.

    lanes_, pairs: for another CPU than this.
    """
    paired = _paired(half, pairs)
    several, most = _tile(paired, rows)
    step = -(-rows // -(-rows // most))  # equal parts

    def write(b: Builder) -> None:
        sources = _order(b, paired, half, rows)

        def some(n: Value, count: int) -> None:
            for first in range(0, rows, step):
                _outputs(b, paired, half, sources[first : first + step], first, n, count)

        _each_output(b, several, some)

    return Program(PRODUCT, write, lanes_ or lanes())


def scratch_bytes(half: bool, inputs: int, rows: int, pairs: bool | None = None) -> int:
    """The scratch memory that one thread of a product needs."""
    return 0 if _paired(half, pairs) else 4 * rows * inputs


def _tile(paired: bool, rows: int) -> tuple[int, int]:
    """How many outputs and rows of x go together: as measured on a CPU with pairs, so that reading
    x again costs no more than the memory does, and sums stay in registers."""
    if not paired:
        return 1, 4
    return (4, 4) if rows <= 4 else (3, 8)


def _paired(half: bool, pairs: bool | None) -> bool:
    """Pairs need an x of bf16."""
    return half and (has_pairs() if pairs is None else pairs)


def _block(b: Builder, whole: bool) -> int:
    """Inputs that a turn takes: 8 vectors of float32, or, where fewer are left, 32."""
    return 8 * b.lanes if whole else LEAST


def _order(b: Builder, paired: bool, half: bool, rows: int) -> Values:
    """Where each row of x is: pairs as given, others laid out in this thread's scratch memory."""
    inputs, width = b.given["inputs"], 2 if paired else 4
    size = b.times(inputs, width)
    if paired:
        return [b.at(b.pointer("x"), b.times(size, m)) for m in range(rows)]
    mine = b.at(b.pointer("scratch"), b.times(b.thread, b.times(size, rows)))

    def row(m: Value) -> None:
        target = b.at(mine, b.mul(m, size))
        x = Numbers(b, half, "x", b.mul(m, inputs))

        def turn(k: Value, whole: bool, _: Values) -> Values:
            for i in range(0, _block(b, whole), 2 * b.lanes):
                low, high = (x.read(b.sum(k, i, j), b.lanes) for j in (0, b.lanes))
                for odd in (0, 1):
                    vector = b.permute(low, high, range(odd, 2 * b.lanes, 2))
                    b.write(vector, target, b.times(b.sum(k, i, odd * b.lanes), width))
            return ()

        _each_block(b, turn)

    b.run(0, rows, row)
    return [b.at(mine, b.times(size, m)) for m in range(rows)]


def _unpacked(b: Builder, paired: bool, weight: Value, place: Value) -> Values:
    """A register of stored weights, as those that meet x."""
    word = b.read(ir.VectorType(I32, b.lanes), weight, place)
    if paired:
        return [word]
    halves = b.shifted(word, 16), b.and_(word, b.vector(I32, UPPER))  # at even places, at odd ones
    return [b.bitcast(bits, ir.VectorType(F32, b.lanes)) for bits in halves]


def _outputs(
    b: Builder, paired: bool, half: bool, xs: Values, first: int, n: Value, count: int
) -> None:
    """Outputs n to n + count of some rows of x, which begin with row `first`."""
    numbers = [b.sum(n, i) for i in range(count)]
    weights = [b.at(b.pointer("weight"), b.times(n, b.given["stride"])) for n in numbers]
    kind, width = ir.VectorType(F32, b.lanes), 2 if paired else 4

    def turn(k: Value, whole: bool, sums: Values) -> Values:
        sums, ahead = list(sums), _ahead(b, k, count)
        for i in range(0, 2 * _block(b, whole), 4 * b.lanes):
            place = b.sum(b.times(k, 2), i)
            for weight in weights if whole and i % LINE == 0 else ():
                b.prefetch(weight, b.sum(place, ahead))
            unpacked = [_unpacked(b, paired, weight, place) for weight in weights]
            for j, registers in enumerate(zip(*unpacked, strict=True)):
                there = b.sum(b.times(k, width), width // 2 * i, 4 * b.lanes * j)
                entries = [b.read(kind, x, there) for x in xs]
                for at, (value, x) in enumerate(pairs_of(registers, entries)):
                    sums[at] = _multiplied(b, paired, value, x, sums[at])
        return sums

    sums = _each_block(b, turn, [b.vector(F32, 0.0)] * (count * len(xs)))
    for i, total in enumerate(sums):
        row = b.times(b.given["outputs"], first + i % len(xs))
        y = Numbers(b, half, "y", b.sum(row, numbers[i // len(xs)]))
        y.write(b.spread(b.total(total), 1), b.number(0))


def _ahead(b: Builder, k: Value, count: int) -> Value:
    """From input k of an output to the weights to ask for meanwhile: of the same output, or at its
    end of the one that takes its place when `count` are done."""
    ahead, row = b.number(AHEAD_BYTES // count // 64 * 64), b.times(b.given["inputs"], 2)
    over = b.icmp_signed(">=", b.sum(b.times(k, 2), ahead), row)
    next_ = b.sub(b.sum(ahead, b.times(b.given["stride"], count)), row)
    return b.select(over, next_, ahead)


def _multiplied(b: Builder, paired: bool, value: Value, x: Value, total: Value) -> Value:
    """total + value * x, a float32 in each lane."""
    return (b.dot_pairs if paired else b.multiply_add)(value, x, total)


def _each_block(
    b: Builder, turn: Callable[[Value, bool, Values], Values], carried: Values = ()
) -> Values:
    """Runs over the inputs: `turn(first input, whether the block is whole, carried)`, which returns
    what is carried on."""
    inputs = b.given["inputs"]
    full = b.and_(inputs, b.number(-_block(b, True)))
    carried = b.loop(0, full, _block(b, True), lambda k, c: turn(k, True, c), carried)
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
