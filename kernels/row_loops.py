"""How weights that lie row by row, an output each, leave memory: bf16 as it is, or in 12 bits.

Either gives vectors of words, each with two neighbouring inputs as bf16: the first below.
"""

from collections.abc import Callable, Iterator, Sequence

from llvmlite import ir

from dragoman.decoder import bf12
from dragoman.decoder.storage import LEAST
from dragoman.kernels.compiler import F32, I8, I16, I32, I64, Builder, Number, Value

LINE = 64  # bytes of memory that come together
LOW_NIBBLES = 0x0F
UPPER = 0xFFFF0000
Values = Sequence[Value]
Body = Callable[[Value, Value, Values], Values]  # (input, weight, sums) -> sums
Words = Iterator[tuple[int, Value]]  # (first input, counted from a block's, two inputs a word)


class Halves:
    """Weights of bf16, as they are."""

    operands = ()
    # Whether lines of the next outputs may be asked for all along: rows of bf16 often lie a power
    # of two apart, so that they would push each other out of the cache.
    spreads = False

    def __init__(self, b: Builder):
        self.b = b

    def block(self, whole: bool) -> int:
        """Inputs that a turn takes: 8 vectors of float32, or, where fewer are left, LEAST."""
        return 8 * self.b.lanes if whole else LEAST

    def place(self, k: Value) -> Value:
        """Bytes before input k of an output."""
        return self.b.times(k, 2)

    def lines(self) -> range:
        """Where the lines of a whole block begin."""
        return range(0, 2 * self.block(True), LINE)

    def key(self, n: Value) -> Value | None:
        """What the weights of output n are read with."""
        return None

    def ask(self, n: Value) -> None:
        """Asks for what lies beside the weights of an output."""

    def words(self, row: Value, key: Value | None, place: Value, whole: bool) -> Words:
        """A block of an output whose weights begin at `row`; it is at `place` of them."""
        kind = ir.VectorType(I32, self.b.lanes)
        for first in range(0, self.block(whole), 2 * self.b.lanes):
            yield first, self.b.read(kind, row, self.b.sum(place, 2 * first))

    def rest(self, n: Value, body: Body, sums: Values) -> Values:
        """Runs over weights that are not among the words: `body(input, weight, sums)`."""
        return sums


class BF12(Halves):
    """Weights of bf16 in 12 bits; see `decoder.bf12`."""

    operands = ("scale", "scale_stride")
    spreads = True

    def block(self, whole: bool) -> int:
        return bf12.GROUP

    def place(self, k: Value) -> Value:
        return self.b.lshr(self.b.times(k, 3), self.b.number(1))

    def lines(self) -> range:
        return range(0, bf12.GROUP_BYTES, LINE)

    def key(self, n: Value) -> Value:
        """The upper bytes that codes stand for, once for every 16 bytes of a register."""
        b = self.b
        table = b.read(ir.VectorType(I8, bf12.CODES), self._rest(n))
        return b.permute(table, table, list(range(bf12.CODES)) * (b.lanes // 4))

    def ask(self, n: Value) -> None:
        self.b.prefetch(self._rest(n), 0)

    def words(self, row: Value, key: Value | None, place: Value, whole: bool) -> Words:
        b = self.b
        size, kind = 4 * b.lanes, ir.VectorType(I32, b.lanes)  # of a register, in bytes
        for part in range(0, bf12.HALF, size):
            both = b.read(kind, row, b.sum(place, bf12.GROUP + part))
            for half in range(2):
                codes = b.shifted(both, -4) if half else both
                codes = b.and_(codes, b.vector(I32, 0x01010101 * LOW_NIBBLES))
                high = b.look_up(key, codes)
                low = b.read(high.type, row, b.sum(place, bf12.HALF * half + part))
                for i, first in enumerate((0, bf12.HALF // 2)):
                    order = [
                        lane + 8 * i + byte + size * upper
                        for lane in range(0, size, 16)
                        for byte in range(8)
                        for upper in range(2)
                    ]
                    words = b.bitcast(b.permute(low, high, order), kind)
                    yield bf12.HALF * half + first + part // 2, words

    def rest(self, n: Value, body: Body, sums: Values) -> Values:
        b = self.b
        entries = b.at(self._rest(n), bf12.CODES)

        def here(entry: Value) -> Value:
            return b.zext(b.read(I16, entries, b.times(entry, bf12.ENTRY_BYTES)), I64)

        def turn(entry: Value, sums: Values) -> Values:
            value = b.read(I16, entries, b.sum(b.times(entry, bf12.ENTRY_BYTES), 2))
            return body(here(entry), b.widened(value), sums)

        return b.while_(
            lambda entry: b.icmp_signed("<", here(entry), b.given["inputs"]), turn, sums
        )

    def _rest(self, n: Value) -> Value:
        b = self.b
        return b.at(b.pointer("scale"), b.mul(n, b.given["scale_stride"]))


SOURCES = {"bf16": Halves, "bf12": BF12}


def each_block(
    b: Builder, weights: Halves, start: Number, stop: Value,
    turn: Callable[[Value, bool, Values], Values], carried: Values = (),
) -> Values:  # fmt: skip
    """Runs over inputs: `turn(first input, whether the block is whole, carried)`, which returns
    what is carried on."""
    start, size = b.number(start), weights.block(True)
    full = b.add(start, b.and_(b.sub(stop, start), b.number(-size)))
    carried = b.loop(start, full, size, lambda k, c: turn(k, True, c), carried)
    if weights.block(False) == size:
        return carried
    return b.loop(full, stop, LEAST, lambda k, c: turn(k, False, c), carried)


def evens_odds(b: Builder, words: Value) -> tuple[Value, Value]:
    """The first and the second input of each word, as float32."""
    kind = ir.VectorType(F32, words.type.count)
    upper = b.and_(words, b.vector(I32, UPPER, words.type.count))
    return b.bitcast(b.shifted(words, 16), kind), b.bitcast(upper, kind)


def dot(b: Builder, weights: Halves, n: Value, row: Value, x: Value, pairs: bool) -> Value:
    """The sum of the products of output n, whose weights begin at `row`, and of a row of bf16."""
    kind, key = ir.VectorType(I32, b.lanes), weights.key(n)

    def turn(k: Value, whole: bool, sums: Values) -> Values:
        sums = list(sums)
        for i, (first, words) in enumerate(weights.words(row, key, weights.place(k), whole)):
            entries, at = b.read(kind, x, b.times(b.sum(k, first), 2)), i % len(sums)
            if pairs:
                sums[at] = b.dot_pairs(words, entries, sums[at])
            else:
                for both in zip(evens_odds(b, words), evens_odds(b, entries), strict=True):
                    sums[at] = b.multiply_add(*both, sums[at])
        return sums

    def left_out(k: Value, weight: Value, totals: Values) -> Values:
        return [b.fadd(totals[0], b.fmul(weight, b.widened(b.read(I16, x, b.times(k, 2)))))]

    sums = each_block(b, weights, 0, b.given["inputs"], turn, [b.vector(F32, 0.0)] * 4)
    total = b.total(b.fadd(b.fadd(sums[0], sums[1]), b.fadd(sums[2], sums[3])))
    return weights.rest(n, left_out, [total])[0]
