"""How weights that lie row by row, an output each, leave memory: bf16 as it is, or in 12 bits.

Either gives vectors of words, each with two neighbouring inputs as bf16: the first below.
"""

from collections.abc import Callable, Iterator, Sequence

from llvmlite import ir

from kernels import twelve
from kernels.compiler import I8, I16, I32, I64, Builder, Value
from kernels.products import LEAST

LINE = 64  # bytes of memory that come together
LOW_NIBBLES = 0x0F
Values = Sequence[Value]
Body = Callable[[Value, Value, Values], Values]
Words = Iterator[tuple[int, Value]]  # (first input, counted from a block's, two inputs a word)


class Halves:
    """Weights of bf16, as they are."""

    operands = ()

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

    def key(self, n: Value, ahead: int) -> Value | None:
        """What an output's weights are read with; that of the output so many later is asked for."""
        return None

    def words(self, row: Value, key: Value | None, place: Value, whole: bool) -> Words:
        """A block of an output whose weights begin at `row`; it is at `place` of them."""
        kind = ir.VectorType(I32, self.b.lanes)
        for first in range(0, self.block(whole), 2 * self.b.lanes):
            yield first, self.b.read(kind, row, self.b.sum(place, 2 * first))

    def rest(
        self, n: Value, body: Callable[[Value, Value, Values], Values], sums: Values
    ) -> Values:
        """Runs over weights that are not among the words: `body(input, weight, sums)`."""
        return sums


class Twelve(Halves):
    """Weights of bf16 in 12 bits; see `kernels.twelve`."""

    operands = ("scale", "scale_stride")

    def block(self, whole: bool) -> int:
        return twelve.GROUP

    def place(self, k: Value) -> Value:
        return self.b.lshr(self.b.times(k, 3), self.b.number(1))

    def lines(self) -> range:
        return range(0, twelve.GROUP_BYTES, LINE)

    def key(self, n: Value, ahead: int) -> Value:
        """The upper bytes that codes stand for, once for every 16 bytes of a register."""
        b = self.b
        b.prefetch(self._rest(b.sum(n, ahead)), b.number(0))
        table = b.read(ir.VectorType(I8, twelve.CODES), self._rest(n))
        return b.permute(table, table, list(range(twelve.CODES)) * (b.lanes // 4))

    def words(self, row: Value, key: Value | None, place: Value, whole: bool) -> Words:
        b = self.b
        size, kind = 4 * b.lanes, ir.VectorType(I32, b.lanes)  # of a register, in bytes
        for part in range(0, twelve.HALF, size):
            both = b.read(kind, row, b.sum(place, twelve.GROUP + part))
            for half in range(2):
                codes = b.shifted(both, -4) if half else both
                codes = b.and_(codes, b.vector(I32, 0x01010101 * LOW_NIBBLES))
                high = b.look_up(key, codes)
                low = b.read(high.type, row, b.sum(place, twelve.HALF * half + part))
                for i, first in enumerate((0, twelve.HALF // 2)):
                    order = [
                        lane + 8 * i + byte + size * upper
                        for lane in range(0, size, 16)
                        for byte in range(8)
                        for upper in range(2)
                    ]
                    words = b.bitcast(b.permute(low, high, order), kind)
                    yield twelve.HALF * half + first + part // 2, words

    def rest(
        self, n: Value, body: Callable[[Value, Value, Values], Values], sums: Values
    ) -> Values:
        b = self.b
        entries = b.at(self._rest(n), twelve.CODES)

        def here(entry: Value) -> Value:
            return b.zext(b.read(I16, entries, b.times(entry, twelve.ENTRY_BYTES)), I64)

        def turn(entry: Value, sums: Values) -> Values:
            value = b.read(I16, entries, b.sum(b.times(entry, twelve.ENTRY_BYTES), 2))
            return body(here(entry), b.widened(value), sums)

        return b.while_(
            lambda entry: b.icmp_signed("<", here(entry), b.given["inputs"]), turn, sums
        )

    def _rest(self, n: Value) -> Value:
        b = self.b
        return b.at(b.pointer("scale"), b.mul(n, b.given["scale_stride"]))


SOURCES = {"bf16": Halves, "bf12": Twelve}
