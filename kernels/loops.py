"""The loops of products with weights of bf16, plain or in 12 bits: each written for one type of x
and y, and one number of rows of x.

Two ways to compute: with float32 on any CPU, and, where the CPU has the instruction, with pairs of
bf16, which multiplies twice as many numbers at a time. Products of bf16 are exact in float32 and
sums are float32 in both.

A thread computes a run of outputs. It goes through its weights once and multiplies them as they
come, several outputs together, so that x is read less often than weights are; the memory is at its
quickest where weights are asked for early and in the order in which they are used. Of long rows it
takes a part at a time, for some outputs one after the other, so that this part of x stays in the
cache; their sums wait in its scratch memory. To compute with float32, it first lays x out there,
inputs at even places apart from those at odd ones, as weights leave their registers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from llvmlite import ir

from dragoman.kernels.compiler import F32, I32, Builder, Kernel, Value, has_pairs, lanes
from dragoman.kernels.row_loops import LINE, SOURCES, Halves, each_block, evens_odds
from dragoman.kernels.rows import Numbers

AHEAD_BYTES = 4096  # how far in front of their use weights are asked for, all outputs together
PRODUCT = ("y", "x", "weight", "scratch", "outputs", "inputs", "stride")
UNPACK = ("y", "weight", "outputs", "inputs", "stride")
PART = 8192  # inputs at a time of one row of x, half as many for each row more
LEAST_PART = 2048  # but no fewer
WAITING = 96  # outputs whose sums wait for the next part; a multiple of those that go together
Values = Sequence[Value]


@cache
def product(
    half: bool, rows: int, form: str = "bf16", lanes_: int | None = None, pairs: bool | None = None
) -> Kernel:
    """y [rows, outputs] = x [rows, inputs] @ weight^T; x and y are bf16 (`half`) or float32, the
    weights of a `form` of `kernels.row_loops`.

    lanes_, pairs: for another CPU than this.
    """

    def write(b: Builder) -> None:
        _Product(b, form, half, _paired(half, pairs), rows).write()

    return Kernel((*PRODUCT, *SOURCES[form].operands), write, lanes_ or lanes())


@cache
def unpacking(form: str = "bf12", lanes_: int | None = None) -> Kernel:
    """y [outputs, inputs] = the weights of a `form`, as bf16."""

    def write(b: Builder) -> None:
        weights = SOURCES[form](b)

        def output(n: Value) -> None:
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

            each_block(b, weights, b.number(0), b.given["inputs"], turn)
            weights.rest(n, left_out, ())

        b.run(*_share(b, 1), output)

    return Kernel((*UNPACK, *SOURCES[form].operands), write, lanes_ or lanes())


def scratch_bytes(
    half: bool, inputs: int, rows: int, pairs: bool | None = None, lanes_: int | None = None
) -> int:
    """The scratch memory that one thread of a product needs."""
    laid = 0 if _paired(half, pairs) else 4 * rows * inputs
    return laid + WAITING * rows * 4 * (lanes_ or lanes())


def _tile(paired: bool, form: str, rows: int) -> tuple[int, int]:
    """How many outputs and rows of x go together: as measured on a CPU with pairs, so that reading
    x again costs no more than the memory does, and sums stay in registers."""
    if not paired:
        return 1, 4
    if form == "bf12":
        return (1 if rows == 1 else 3), 4
    return 4, 4


def _paired(half: bool, pairs: bool | None) -> bool:
    """Pairs need an x of bf16."""
    return half and (has_pairs() if pairs is None else pairs)


@dataclass(frozen=True)
class Part:
    """Inputs start to stop. Sums begin at zero with them or have waited for them, and end with them
    or wait again."""

    start: Value
    stop: Value
    begins: bool
    ends: bool


class _Product:
    """Writes the code of a product."""

    def __init__(self, b: Builder, form: str, half: bool, paired: bool, rows: int):
        self.b, self.half, self.paired, self.rows = b, half, paired, rows
        self.weights = SOURCES[form](b)
        self.several, most = _tile(paired, form, rows)
        self.step = -(-rows // -(-rows // most))  # equal parts
        self.part = max(LEAST_PART, PART // 2 ** (rows - 1))
        self.vector, self.width = ir.VectorType(F32, b.lanes), 2 if paired else 4
        self.vector_bytes = 4 * b.lanes

    def write(self) -> None:
        b = self.b
        self._place()
        first, last = _share(b, self.several)
        inputs = b.given["inputs"]
        with b.if_else(b.icmp_signed("<=", inputs, b.number(self.part))) as (short, long):
            with short:
                self._part(first, last, Part(b.number(0), inputs, True, True))
            with long:
                b.run(
                    first, last, lambda n: self._long(n, b.least(b.sum(n, WAITING), last)), WAITING
                )

    def _long(self, first: Value, last: Value) -> None:
        """Outputs first to last, part by part."""
        b, inputs = self.b, self.b.given["inputs"]
        rest = b.and_(b.sum(inputs, -1), b.number(-self.part))  # where the last part begins

        def part(k: Value) -> None:
            self._part(first, last, Part(k, b.sum(k, self.part), False, False))

        count, zero = b.times(b.sub(last, first), self.rows), b.vector(F32, 0.0)
        b.run(0, count, lambda i: b.write(zero, self.sums, b.times(i, self.vector_bytes)))
        b.run(0, rest, part, self.part)
        self._part(first, last, Part(rest, inputs, False, True))

    def _place(self) -> None:
        """Where each row of x is, pairs as given, others laid out; and where sums wait."""
        b, inputs = self.b, self.b.given["inputs"]
        size, waiting = b.times(inputs, self.width), WAITING * self.rows * self.vector_bytes
        laid = b.number(0) if self.paired else b.times(size, self.rows)
        self.sums = b.at(b.pointer("scratch"), b.times(b.thread, b.sum(laid, waiting)))
        x = b.pointer("x") if self.paired else b.at(self.sums, waiting)
        self.xs = [b.at(x, b.times(size, m)) for m in range(self.rows)]
        if not self.paired:
            b.run(0, self.rows, lambda m: self._lay(m, b.at(x, b.mul(m, size))))

    def _lay(self, m: Value, target: Value) -> None:
        """Copies a row of x for products of float32."""
        b, laid = self.b, Halves(self.b)
        x = Numbers(b, self.half, "x", b.mul(m, b.given["inputs"]))

        def turn(k: Value, whole: bool, _: Values) -> Values:
            for i in range(0, laid.block(whole), 2 * b.lanes):
                low, high = (x.read(b.sum(k, i, j), b.lanes) for j in (0, b.lanes))
                for odd in (0, 1):
                    vector = b.permute(low, high, range(odd, 2 * b.lanes, 2))
                    b.write(vector, target, b.times(b.sum(k, i, odd * b.lanes), self.width))
            return ()

        each_block(b, laid, b.number(0), b.given["inputs"], turn)

    def _part(self, first: Value, last: Value, part: Part) -> None:
        """A part of the outputs first to last: of several at a time, then of one."""
        b = self.b
        whole = b.sub(last, b.srem(b.sub(last, first), b.number(self.several)))

        def outputs(count: int) -> Callable[[Value], None]:
            return lambda n: self._outputs(n, count, b.sub(n, first), part)

        b.run(first, whole, outputs(self.several), self.several)
        if self.several > 1:
            b.run(whole, last, outputs(1))

    def _outputs(self, n: Value, count: int, index: Value, part: Part) -> None:
        """A part of the outputs n to n + count, whose sums wait at `index`."""
        b = self.b
        numbers = [b.sum(n, i) for i in range(count)]
        rows = [b.at(b.pointer("weight"), b.mul(i, b.given["stride"])) for i in numbers]
        outputs = [(row, self.weights.key(i)) for row, i in zip(rows, numbers, strict=True)]
        for i in numbers:
            self.weights.ask(b.sum(i, count))
        zero = b.vector(F32, 0.0)
        for group, m in enumerate(range(0, self.rows, self.step)):
            xs = self.xs[m : m + self.step]
            places = [
                self._waiting(b.sum(index, i), m + j) for i in range(count) for j in range(len(xs))
            ]

            def turn(
                k: Value, whole: bool, sums: Values, xs: Values = xs, group: int = group
            ) -> Values:
                if whole:
                    self._ask(k, part, [row for row, _ in outputs], group)
                return self._block(k, whole, outputs, xs, sums)

            sums = [zero if part.begins else b.read(self.vector, self.sums, at) for at in places]
            sums = each_block(b, self.weights, part.start, part.stop, turn, sums)
            if part.ends:
                for i, number in enumerate(numbers):
                    self._finish(number, m, sums[i * len(xs) : (i + 1) * len(xs)])
            else:
                for at, value in zip(places, sums, strict=True):
                    b.write(value, self.sums, at)

    def _block(
        self, k: Value, whole: bool, outputs: Sequence[tuple[Value, Value]], xs: Values,
        sums: Values,
    ) -> Values:  # fmt: skip
        """Adds the products of a block of inputs, with weights of each output where its row and its
        key say."""
        b, sums, place = self.b, list(sums), self.weights.place(k)
        blocks = [self.weights.words(row, key, place, whole) for row, key in outputs]
        for together in zip(*blocks, strict=True):
            for i, (first, words) in enumerate(together):
                for j, value in enumerate(self._entries(words)):
                    there = b.sum(b.times(b.sum(k, first), self.width), self.vector_bytes * j)
                    for at, x in enumerate(xs, start=i * len(xs)):
                        sums[at] = self._multiplied(value, b.read(self.vector, x, there), sums[at])
        return sums

    def _finish(self, n: Value, first: int, sums: Values) -> None:
        """Output n of the rows from `first` on."""
        b = self.b

        def left_out(k: Value, weight: Value, totals: Values) -> Values:
            values = [self._entry(m, k) for m in range(first, first + len(sums))]
            return [b.fadd(t, b.fmul(weight, x)) for t, x in zip(totals, values, strict=True)]

        totals = self.weights.rest(n, left_out, [b.total(value) for value in sums])
        for m, total in enumerate(totals, start=first):
            y = Numbers(b, self.half, "y", b.sum(b.times(b.given["outputs"], m), n))
            y.write(b.spread(total, 1), b.number(0))

    def _waiting(self, index: Value, m: int) -> Value:
        """Where the sum of an output and a row of x waits."""
        b = self.b
        return b.times(b.sum(b.times(index, self.rows), m), self.vector_bytes)

    def _ask(self, k: Value, part: Part, rows: Values, group: int) -> None:
        """Asks for weights while those of the block at input k are used.

        Those a little further on, of the same output, or at the end of the part of the one that
        takes its place. Of several groups of rows of x only the first finds weights that were not
        used yet; so, where it pays, each asks for some of the lines of the next outputs instead.
        """
        b, place = self.b, self.weights.place(k)
        groups, after = -(-self.rows // self.step), b.times(b.given["stride"], len(rows))
        if groups > 1 and self.weights.spreads:
            ahead, lines = b.sum(place, after), self.weights.lines()[group::groups]
        else:
            ahead, end = (
                b.sum(place, AHEAD_BYTES // len(rows) // LINE * LINE),
                self.weights.place(part.stop),
            )
            next_ = b.sub(b.sum(ahead, after), b.sub(end, self.weights.place(part.start)))
            ahead = b.select(b.icmp_signed(">=", ahead, end), next_, ahead)
            lines = self.weights.lines()
        for line in lines:
            for row in rows:
                b.prefetch(row, b.sum(ahead, line))

    def _entries(self, words: Value) -> Values:
        """Two inputs a word, as weights that meet x."""
        return [words] if self.paired else evens_odds(self.b, words)

    def _multiplied(self, value: Value, x: Value, total: Value) -> Value:
        """total + value * x, a float32 in each lane."""
        return (self.b.dot_pairs if self.paired else self.b.multiply_add)(value, x, total)

    def _entry(self, m: int, k: Value) -> Value:
        """Entry k of row m of x."""
        b = self.b
        x = Numbers(b, self.half, "x", b.times(b.given["inputs"], m))
        return b.extract_element(x.read(k, 1), ir.Constant(I32, 0))


def _share(b: Builder, several: int) -> tuple[Value, Value]:
    """This thread's part of the outputs: its first, and the first of the next."""
    outputs, unit = b.given["outputs"], b.number(several)
    units = b.sdiv(b.sum(outputs, several - 1), unit)
    share = b.mul(b.sdiv(b.sum(units, b.threads, -1), b.threads), unit)
    start = b.least(b.mul(b.thread, share), outputs)
    return start, b.least(b.add(start, share), outputs)
