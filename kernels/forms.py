"""How weights of each form leave their registers, and how x must lie to meet them there.

Two ways to compute, for `kernels.loops`: with float32 on any CPU, and, where the CPU has the
instruction, with pairs of bf16, which multiplies twice as many numbers at a time. Products of bf16
are exact in float32 and sums are float32 in both.

A turn takes a whole block, which is 8 vectors of float32 inputs, or, where fewer are left, 32
inputs. `order` makes of x what a turn multiplies with, a register after the other; `unpack` the
weights in the same order, each only when it is asked for.

Unusual, int4: a nibble n becomes the fraction of a number, which then is 1 + n / 16, without a
conversion. As the nibble is the weight plus 8, that is 1.5 too much and 16 times too little: every
sum starts at -1.5 sum(x), made once for all outputs, and ends times 16.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from llvmlite import ir

from kernels.compiler import F32, I8, I16, I32, Builder, Value

UPPER = 0xFFFF0000
LEAST = 32  # any number of inputs is a multiple of this
Values = Sequence[Value]
Lazy = Sequence[Callable[[], Value]]
Read = Callable[[int, int], Value]  # (first, count) -> entries of x behind a place
Placed = Iterator[tuple[int, Value]]  # (first input, vector)


@dataclass(frozen=True)
class Form(ABC):
    """bits: of a weight; group: inputs that share a scale; factor: what sums are too small by;
    starts: whether sums start at the last register that `order` makes; pairs: whether registers
    hold bf16."""

    bits: int
    group: int
    factor: float
    starts: bool
    pairs: bool

    @abstractmethod
    def order(self, b: Builder, x: Read, whole: bool) -> Values: ...

    @abstractmethod
    def unpack(self, b: Builder, weight: Value, whole: bool) -> Lazy: ...

    def inputs(self, b: Builder, whole: bool) -> int:
        return 8 * b.lanes if whole else LEAST

    def width(self, b: Builder) -> int:
        """Entries of a register."""
        return 2 * b.lanes if self.pairs else b.lanes

    def multiply(self, b: Builder, value: Value, x: Value, total: Value | None) -> Value:
        """total + value * x, a float32 in each lane."""
        if self.pairs:
            return b.dot_pairs(value, x, b.vector(F32, 0.0) if total is None else total)
        return b.fmul(value, x) if total is None else b.multiply_add(value, x, total)


class Quantized(Form):
    """A form with scales."""

    @abstractmethod
    def scale(self, b: Builder, scale: Value, whole: bool) -> Value:
        """The scale of each lane."""

    @abstractmethod
    def weights(self, b: Builder, values: Values, factor: Value, whole: bool) -> Placed:
        """Unpacked float32 values times their scales, and which inputs they are of."""


class BF16(Form):
    """In float32 x is split into the inputs at even and those at odd places."""

    def order(self, b: Builder, x: Read, whole: bool) -> Values:
        V, count = self.width(b), self.inputs(b, whole)
        if self.pairs:
            return [x(i, V) for i in range(0, count, V)]
        both = [(x(i, V), x(i + V, V)) for i in range(0, count, 2 * V)]
        return [b.permute(*pair, range(odd, 2 * V, 2)) for pair in both for odd in (0, 1)]

    def unpack(self, b: Builder, weight: Value, whole: bool) -> Lazy:
        kind = ir.VectorType(I32, b.lanes)
        places = range(0, 2 * self.inputs(b, whole), 4 * b.lanes)
        words = [b.read(kind, weight, place) for place in places]
        if self.pairs:
            return [lambda word=word: word for word in words]

        def vector(word: Value, odd: bool) -> Value:
            bits = b.and_(word, b.vector(I32, UPPER)) if odd else b.shifted(word, 16)
            return b.bitcast(bits, ir.VectorType(F32, b.lanes))

        return [lambda w=w, o=o: vector(w, o) for w in words for o in (False, True)]


class Int8(Quantized):
    """A byte an input, in their order."""

    def order(self, b: Builder, x: Read, whole: bool) -> Values:
        V = self.width(b)
        return [x(i, V) for i in range(0, self.inputs(b, whole), V)]

    def unpack(self, b: Builder, weight: Value, whole: bool) -> Lazy:
        places = range(0, self.inputs(b, whole), self.width(b))

        def vector(place: int) -> Value:
            if not self.pairs:
                return self._floats(b, weight, place)
            # Small integers fit in the upper half of a float32, so that is their bf16.
            low, high = (self._floats(b, weight, place + i * b.lanes) for i in (0, 1))
            low, high = (b.bitcast(half, ir.VectorType(I16, 2 * b.lanes)) for half in (low, high))
            return b.permute(low, high, range(1, 4 * b.lanes, 2))

        return [lambda place=place: vector(place) for place in places]

    def scale(self, b: Builder, scale: Value, whole: bool) -> Value:
        value = b.widened(b.read(ir.VectorType(I16, 1), scale))
        return b.permute(value, value, [0] * b.lanes)

    def weights(self, b: Builder, values: Values, factor: Value, whole: bool) -> Placed:
        return ((i * b.lanes, b.fmul(value, factor)) for i, value in enumerate(values))

    def _floats(self, b: Builder, weight: Value, place: int) -> Value:
        bytes_, words, floats = (ir.VectorType(kind, b.lanes) for kind in (I8, I32, F32))
        return b.sitofp(b.sext(b.read(bytes_, weight, place), words), floats)


class Int4(Quantized):
    """4 words for 32 inputs; nibble j of word r is input 4 j + r, plus 8.

    A whole block is one vector of words. 32 inputs alone fill 4 lanes and have zeros for x in the
    others. A pair is a word's nibbles j and j + 4, which one shift puts in place.
    """

    def order(self, b: Builder, x: Read, whole: bool) -> Values:
        groups = b.lanes // 4 if whole else 1
        vectors = [
            b.joined(self._padded(b, [self._four(b, x, 32 * i, j) for i in range(groups)]))
            for j in range(4 if self.pairs else 8)
        ]
        halves = [half for vector in vectors for half in self._halves(b, vector)]
        total = halves[0]
        for half in halves[1:]:
            total = b.fadd(total, half)
        return [*vectors, b.fmul(total, b.vector(F32, -1.5))]

    def unpack(self, b: Builder, weight: Value, whole: bool) -> Lazy:
        words = b.read(ir.VectorType(I32, b.lanes if whole else 4), weight)
        if not whole:
            words = b.joined(self._padded(b, [words]))
        if self.pairs:
            return [lambda j=j: self._pairs(b, words, 3 - 4 * j) for j in range(4)]
        return [lambda j=j: self._floats(b, words, 19 - 4 * j) for j in range(8)]

    def scale(self, b: Builder, scale: Value, whole: bool) -> Value:
        groups = b.lanes // 4 if whole else 1
        values = b.widened(b.read(ir.VectorType(I16, groups), scale))
        return b.permute(values, values, [min(i // 4, groups - 1) for i in range(b.lanes)])

    def weights(self, b: Builder, values: Values, factor: Value, whole: bool) -> Placed:
        factor = b.fmul(factor, b.vector(F32, self.factor))
        values = [b.fmul(b.fsub(value, b.vector(F32, 1.5)), factor) for value in values]
        together = b.lanes // 4
        for group in range(together if whole else 1):
            mine = range(4 * group, 4 * group + 4)
            pieces = [b.permute(value, value, mine) for value in values]
            for j in range(0, 8, together):
                yield 32 * group + 4 * j, b.joined(pieces[j : j + together])

    def _four(self, b: Builder, x: Read, first: int, j: int) -> Value:
        """Of x, what 4 words of weights meet after a shift by j nibbles."""
        low = x(first + 4 * j, 4)
        if not self.pairs:
            return low
        pairs = b.permute(low, x(first + 16 + 4 * j, 4), [0, 4, 1, 5, 2, 6, 3, 7])
        return b.bitcast(pairs, ir.VectorType(I32, 4))

    def _padded(self, b: Builder, pieces: list[Value]) -> list[Value]:
        """Vectors of 4, and zeros up to a register."""
        zeros = ir.Constant(pieces[0].type, [0] * 4)
        return pieces + [zeros] * (b.lanes // 4 - len(pieces))

    def _halves(self, b: Builder, vector: Value) -> Values:
        """The float32 numbers of a register of x."""
        if not self.pairs:
            return [vector]
        halves = (b.shifted(vector, 16), b.and_(vector, b.vector(I32, UPPER)))
        return [b.bitcast(half, ir.VectorType(F32, b.lanes)) for half in halves]

    def _floats(self, b: Builder, words: Value, left: int) -> Value:
        """1 + n / 16 of the nibble that is `left` bits below the top of a float32's fraction."""
        fraction = b.and_(b.shifted(words, left), b.vector(I32, 0xF << 19))
        bits = b.or_(fraction, b.vector(I32, 0x3F800000))
        return b.bitcast(bits, ir.VectorType(F32, b.lanes))

    def _pairs(self, b: Builder, words: Value, left: int) -> Value:
        """The same of two nibbles, in bf16."""
        fraction = b.and_(b.shifted(words, left), b.vector(I32, 0x780078))
        return b.or_(fraction, b.vector(I32, 0x3F803F80))


FORMS: dict[tuple[str, bool], Form] = {
    (name, pairs): kind(bits, group, factor, starts, pairs)
    for name, kind, bits, group, factor, starts in (
        ("bf16", BF16, 16, LEAST, 1.0, False),
        ("int8", Int8, 8, 128, 1.0, False),
        ("int4", Int4, 4, 32, 16.0, True),
    )
    for pairs in (False, True)
}
