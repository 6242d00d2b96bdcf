"""The loops over the gates of a feed-forward layer: which are open, and what passes them.

Lists hold, token after token, the hidden units whose gate is open (int32) and what passes each
gate (float32 that bf16 can hold). Marks (int32 [tokens, width / BLOCK + 1]) say where in the lists
each token's units of each block begin, and where its last one ends. A thread writes its tokens to
its own part of the lists, which is as large as `share` units for each of them.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache

from llvmlite import ir

from dragoman.decoder.layers import TINY
from dragoman.kernels.compiler import F32, I16, I32, I64, Builder, Kernel, Value, lanes
from dragoman.kernels.functions import sigmoid
from dragoman.kernels.rows import Numbers, share, summed

CHOOSE = ("gate", "units", "values", "marks", "excess", "tokens", "width", "share", "deviations")
GATE = ("y", "gate", "up", "count")
BLOCK = 64  # hidden units from a mark to the next
GELU = (math.sqrt(8 / math.pi), 0.044715 * math.sqrt(8 / math.pi))  # 2 u is a x + b x^3


def spare(lanes_: int | None = None) -> int:
    """Entries that a thread must have in the lists beyond those that it may use."""
    return 4 * (lanes_ or lanes())


@cache
def choosing(lanes_: int | None = None) -> Kernel:
    """Lists the open gates of each token, and GELU of how far they are open.

    gate: bf16 [tokens, width]; deviations: a float32, by its bits; excess: int64 [threads], above 0
    where a part of the lists was too small: then they mean nothing.
    """

    def write(b: Builder) -> None:
        first, last = share(b, b.given["tokens"])
        start, end = (b.mul(row, b.given["share"]) for row in (first, last))
        limit = b.sum(end, -spare(b.lanes))

        def token(m: Value, carried: Sequence[Value]) -> Sequence[Value]:
            return _choose(b, m, limit, *carried)

        _, total = b.loop(first, last, 1, token, (start, b.number(0)))
        excess = b.sub(total, b.sub(limit, start))
        excess = b.select(b.icmp_signed("<", first, last), excess, b.number(0))
        b.write(excess, b.pointer("excess"), b.times(b.thread, 8))

    return Kernel(CHOOSE, write, lanes_ or lanes())


@cache
def gating(lanes_: int | None = None) -> Kernel:
    """y = GELU(gate) * up, each rounded to bf16; `count` is a multiple of the lanes."""

    def write(b: Builder) -> None:
        start, stop = (
            b.times(n, b.lanes) for n in share(b, b.sdiv(b.given["count"], b.number(b.lanes)))
        )
        y, gate, up = (Numbers(b, True, name) for name in ("y", "gate", "up"))

        def some(i: Value) -> None:
            passed = rounded(b, gelu(b, gate.read(i, b.lanes)))
            y.write(b.fmul(passed, up.read(i, b.lanes)), i)

        b.run(start, stop, some, b.lanes)

    return Kernel(GATE, write, lanes_ or lanes())


def gelu(b: Builder, x: Value) -> Value:
    """GELU by its tanh form: x (1 + tanh u) / 2 = x / (1 + exp(-2 u))."""
    linear, cubic = (b.vector(F32, factor, x.type.count) for factor in GELU)
    twice = b.fmul(x, b.multiply_add(b.fmul(x, x), cubic, linear))
    return b.fmul(x, sigmoid(b, twice))


def rounded(b: Builder, value: Value) -> Value:
    """float32 at the precision of bf16."""
    return b.widened(b.narrowed(value))


def cutoff_of(b: Builder, gate: Numbers, width: Value, deviations: Value) -> Value:
    """Mean of a row plus so many (float32) standard deviations, at the precision of bf16."""
    count = b.sitofp(width, F32)
    mean = b.fdiv(summed(b, width, gate.read), count)

    def square(i: Value, entries: int) -> Value:
        difference = b.fsub(gate.read(i, entries), b.spread(mean, entries))
        return b.fmul(difference, difference)

    variance, least = b.fdiv(summed(b, width, square), count), ir.Constant(F32, TINY)
    variance = b.select(b.fcmp_ordered("<", variance, least), least, variance)
    return rounded(b, b.fadd(mean, b.fmul(deviations, b.call_scalar("sqrt", variance))))


def each_bit(b: Builder, word: Value, body: Callable[[Value, Value], None]) -> Value:
    """`body(k, place)` for the k-th bit that is set in a word; how many are."""
    count = b.zext(b.ctpop(word), I64)

    def one(k: Value, left: Sequence[Value]) -> Sequence[Value]:
        body(k, b.zext(b.cttz(left[0], ir.Constant(ir.IntType(1), 1)), I64))
        return (b.and_(left[0], b.sub(left[0], ir.Constant(left[0].type, 1))),)

    b.loop(0, count, 1, one, (word,))
    return count


def _choose(b: Builder, m: Value, limit: Value, where: Value, total: Value) -> Sequence[Value]:
    """Lists token m from `where` on; where the next one begins, and how many gates were open."""
    width = b.given["width"]
    gate, values = Numbers(b, True, "gate", b.mul(m, width)), Numbers(b, False, "values")
    blocks = b.sdiv(width, b.number(BLOCK))
    marks = b.at(b.pointer("marks"), b.times(b.mul(m, b.sum(blocks, 1)), 4))
    deviations = b.bitcast(b.trunc(b.given["deviations"], I32), F32)
    cutoff = cutoff_of(b, gate, width, deviations)
    first = b.least(where, limit)

    def block(j: Value, carried: Sequence[Value]) -> Sequence[Value]:
        where, total = carried
        b.write(b.trunc(where, I32), marks, b.times(j, 4))
        for i in range(0, BLOCK, b.lanes):
            unit = b.sum(b.times(j, BLOCK), i)
            over = b.fcmp_unordered(">", gate.read(unit, b.lanes), b.spread(cutoff, b.lanes))
            open_ = b.bitcast(over, ir.IntType(b.lanes))
            count = each_bit(b, open_, _listing(b, gate, unit, where, cutoff))
            where, total = b.least(b.add(where, count), limit), b.add(total, count)
        return where, total

    def some(k: Value) -> None:
        passed = rounded(b, values.read(k, b.lanes))
        values.write(rounded(b, gelu(b, passed)), k)

    last, total = b.loop(0, blocks, 1, block, (first, total))
    b.write(b.trunc(last, I32), marks, b.times(blocks, 4))
    b.run(first, last, some, b.lanes)
    return last, total


def _listing(
    b: Builder, gate: Numbers, first: Value, where: Value, cutoff: Value
) -> Callable[[Value, Value], None]:
    """Lists how far the gate of a unit is open, counted from `first`."""

    def one(k: Value, left: Value) -> None:
        unit, place = b.add(first, left), b.times(b.add(where, k), 4)
        opening = b.fsub(b.widened(b.read(I16, gate.place, b.times(unit, 2))), cutoff)
        b.write(b.trunc(unit, I32), b.pointer("units"), place)
        b.write(opening, b.pointer("values"), place)

    return one
