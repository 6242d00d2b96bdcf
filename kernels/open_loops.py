"""The way up of a sparse feed-forward layer for a few rows: only open gates are multiplied.

Each thread lists the hidden units whose gate is open in any row, all of them, and takes an equal
part of the list; so a barrier is needed neither to list nor to share. A unit's weights are read
once, where they lie, and meet the rows that want them one by one: a row's numbers are the same in
any company.
"""

from collections.abc import Sequence
from functools import cache

from llvmlite import ir

from dragoman.kernels.compiler import F32, I32, I64, Builder, Program, Value, has_pairs, lanes
from dragoman.kernels.gate_loops import cutoff_of, each_bit, gelu, rounded
from dragoman.kernels.row_loops import SOURCES, Halves, dot
from dragoman.kernels.rows import Numbers

RAISE = (
    "y", "gate", "x", "weight", "weight_stride", "scratch", "rows", "width", "stride", "inputs",
)  # fmt: skip
AHEAD = 4  # units in front of their use weights are asked for
BEGUN_BYTES = 128  # of them; what follows in their order, the CPU asks for by itself
MOST_ROWS = 32  # whose gates a word tells of
Values = Sequence[Value]


def scratch_bytes(stride: int) -> int:
    """The scratch memory that each thread needs."""
    return 4 * (2 * stride + MOST_ROWS)


@cache
def raising_open(
    deviations: float, form: str = "bf16", lanes_: int | None = None, pairs: bool | None = None
) -> Program:
    """y = GELU(how far gates are beyond a cutoff of their row) * (weight @ x), 0 where they are
    not.

    y, gate: bf16 [rows, stride], of which `width` columns count and the others of y become zero;
    stride is a multiple of the lanes, rows at most MOST_ROWS. x: bf16 [rows, inputs];
    weight: [width, inputs] in a `form` of `kernels.row_loops`, of whose inputs there is a multiple,
    its rows `weight_stride` bytes apart. A cutoff is a row's mean and so many deviations; what is
    not a number is beyond it.
    """
    paired = has_pairs() if pairs is None else pairs

    def write(b: Builder) -> None:
        lists, weights = _Lists(b), SOURCES[form](b)
        _find_cutoffs(b, lists, deviations)
        count = _list(b, lists)
        first, last = (
            b.sdiv(b.mul(count, b.sum(b.thread, i)), b.threads) for i in range(2)
        )  # fmt: skip
        _clear(b, lists, first, last, count)
        b.run(first, last, lambda k: _raise(b, lists, weights, k, last, paired))

    return Program((*RAISE, *SOURCES[form].operands), write, lanes_ or lanes())


class _Lists:
    """A thread's scratch memory: of each unit, the rows whose gate is open, by their bits; the
    units that have any; the cutoff of each row."""

    def __init__(self, b: Builder):
        self.b, size = b, b.times(b.given["stride"], 4)
        each = b.sum(b.times(size, 2), 4 * MOST_ROWS)
        self.bits = b.at(b.pointer("scratch"), b.mul(b.thread, each))
        self.units = b.at(self.bits, size)
        self.cutoffs = b.at(self.units, size)

    def unit(self, k: Value) -> Value:
        return self.b.sext(self.b.read(I32, self.units, self.b.times(k, 4)), I64)

    def cutoff(self, m: Value) -> Value:
        return self.b.read(F32, self.cutoffs, self.b.times(m, 4))


def _row(b: Builder, name: str, m: Value) -> Numbers:
    return Numbers(b, True, name, b.mul(m, b.given["stride"]))


def _find_cutoffs(b: Builder, lists: _Lists, deviations: float) -> None:
    def row(m: Value) -> None:
        factor = ir.Constant(F32, deviations)
        cutoff = cutoff_of(b, _row(b, "gate", m), b.given["width"], factor)
        b.write(cutoff, lists.cutoffs, b.times(m, 4))

    b.run(0, b.given["rows"], row)


def _list(b: Builder, lists: _Lists) -> Value:
    """Fills bits and units; how many units there are."""
    words, none = ir.VectorType(I32, b.lanes), b.vector(I32, 0)

    def some(i: Value, counted: Values) -> Values:
        def row(m: Value, bits: Values) -> Values:
            cutoff = b.spread(lists.cutoff(m), b.lanes)
            over = b.fcmp_unordered(">", _row(b, "gate", m).read(i, b.lanes), cutoff)
            bit = b.shl(ir.Constant(I32, 1), b.trunc(m, I32))
            return (b.or_(bits[0], b.select(over, b.spread(bit, b.lanes), none)),)

        (bits,) = b.loop(0, b.given["rows"], 1, row, (none,))
        places = b.add(b.spread(b.trunc(i, I32), b.lanes), ir.Constant(words, list(range(b.lanes))))
        limit = b.spread(b.trunc(b.given["width"], I32), b.lanes)
        bits = b.select(b.icmp_signed("<", places, limit), bits, none)
        b.write(bits, lists.bits, b.times(i, 4))
        open_ = b.bitcast(b.icmp_unsigned("!=", bits, none), ir.IntType(b.lanes))

        def one(k: Value, left: Value) -> None:
            place = b.times(b.add(counted[0], k), 4)
            b.write(b.trunc(b.add(i, left), I32), lists.units, place)

        return (b.add(counted[0], each_bit(b, open_, one)),)

    return b.loop(0, b.given["stride"], b.lanes, some, (b.number(0),))[0]


def _clear(b: Builder, lists: _Lists, first: Value, last: Value, count: Value) -> None:
    """Zeros to y from a thread's first unit up to that of the next thread."""
    none, end = b.icmp_signed("==", first, b.number(0)), b.icmp_signed("==", last, count)
    start = b.select(none, b.number(0), lists.unit(first))
    stop = b.select(end, b.given["stride"], lists.unit(last))
    whole = b.sub(stop, b.srem(b.sub(stop, start), b.number(b.lanes)))

    def row(m: Value) -> None:
        y = _row(b, "y", m)
        b.run(start, whole, lambda i: y.write(b.vector(F32, 0.0), i), b.lanes)
        b.run(whole, stop, lambda i: y.write(b.vector(F32, 0.0, 1), i))

    b.run(0, b.given["rows"], row)


def _raise(b: Builder, lists: _Lists, weights: Halves, k: Value, last: Value, pairs: bool) -> None:
    """The unit at place k of the list, for the rows that want it."""
    unit, next_ = lists.unit(k), lists.unit(b.least(b.sum(k, AHEAD), b.sum(last, -1)))
    weight, ahead = (
        b.at(b.pointer("weight"), b.mul(n, b.given["weight_stride"])) for n in (unit, next_)
    )
    weights.ask(next_)
    for line in range(0, BEGUN_BYTES, 64):
        b.prefetch(ahead, line)

    def row(_: Value, m: Value) -> None:
        x = b.at(b.pointer("x"), b.times(b.mul(m, b.given["inputs"]), 2))
        raised = rounded(b, b.spread(dot(b, weights, unit, weight, x, pairs), 1))
        beyond = b.fsub(_row(b, "gate", m).read(unit, 1), b.spread(lists.cutoff(m), 1))
        _row(b, "y", m).write(b.fmul(gelu(b, beyond), raised), unit)

    each_bit(b, b.read(I32, lists.bits, b.times(unit, 4)), row)
