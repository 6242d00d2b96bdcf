"""How quantized weights lie in their words, and how they leave their registers.

A word of 32 bits holds some neighbouring inputs of one output, a vector of words the same inputs of
as many outputs. A weight is stored as a code: the integer plus `zero`, so that it has no sign.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from llvmlite import ir

from dragoman.decoder.storage import BITS, GROUP_INPUTS
from dragoman.kernels.compiler import F32, I32, Builder, Value

Placed = Iterator[tuple[int, Value]]  # (first input, vector)


@dataclass(frozen=True)
class Codes:
    """bits: of a code; group: inputs that share a scale. Byte i of a word holds input i, and in its
    upper half, if codes have 4 bits, input i + 4."""

    bits: int
    group: int

    @property
    def zero(self) -> int:
        return 1 << (self.bits - 1)

    @property
    def inputs(self) -> int:
        """Of a word."""
        return 32 // self.bits

    def bytes(self, b: Builder, words: Value) -> Placed:
        """Codes of four inputs in each lane."""
        for half in range(8 // self.bits):
            codes = b.shifted(words, -4 * half) if half else words
            if self.bits < 8:
                codes = b.and_(codes, b.vector(I32, 0x0F0F0F0F, words.type.count))
            yield 4 * half, codes

    def floats(self, b: Builder, words: Value) -> Placed:
        """The integers of one input in each lane, as float32."""
        lanes = words.type.count
        for i in range(self.inputs):
            place = 8 * (i % 4) + 4 * (i // 4)
            codes = b.shifted(words, -place) if place else words
            codes = b.and_(codes, b.vector(I32, 2**self.bits - 1, lanes))
            yield (
                i,
                b.sitofp(b.sub(codes, b.vector(I32, self.zero, lanes)), ir.VectorType(F32, lanes)),
            )


CODES = {name: Codes(bits, GROUP_INPUTS[name]) for name, bits in BITS.items()}
