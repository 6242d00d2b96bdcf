"""The loops of `kernels`: each written for one form of weights, one type of x and y, and
one number of rows of x.

A thread computes a run of outputs. It first lays x out in its own scratch memory, in the order in
which weights of the form leave their registers (`kernels.forms`), then goes through its
weights once and multiplies them as they are unpacked. Where weights are read one output after the
other, the memory is at its quickest, so several outputs go together only where many rows of x
would otherwise have to be read again and again.
"""

from collections.abc import Callable, Sequence
from functools import cache

from llvmlite import ir

from kernels.compiler import F32, I16, Builder, Program, Value, has_pairs, lanes
from kernels.forms import FORMS, LEAST, Form, Lazy, Quantized, Values

AHEAD_BYTES = 6144  # how far in front of their use weights are asked for
PRODUCT = ("y", "x", "weight", "scale", "scratch", "outputs", "inputs", "stride", "scale_stride")
UNPACK = ("y", "weight", "scale", "outputs", "inputs", "stride", "scale_stride")


@cache
def product(
    name: str, half: bool, rows: int, lanes_: int | None = None, pairs: bool | None = None
) -> Program:
    """y [rows, outputs] = x [rows, inputs] @ weight^T; x and y are bf16 (`half`) or float32.

    lanes_, pairs: for another CPU than this.
    """
    form = _form(name, half, pairs)
    several, most = _tile(form, rows)
    step = -(-rows // -(-rows // most))  # equal parts

    def write(b: Builder) -> None:
        sources = _order(b, form, half, rows)

        def some(n: Value, count: int) -> None:
            for first in range(0, rows, step):
                _outputs(b, form, half, sources[first : first + step], first, n, count)

        _each_output(b, several, some)

    return Program(PRODUCT, write, lanes_ or lanes())


@cache
def unpacking(name: str, half: bool, lanes_: int | None = None) -> Program:
    """y [outputs, inputs], the weights as bf16 (`half`) or float32."""
    form = _form(name, half, pairs=False)

    def write(b: Builder) -> None:
        _each_output(b, 1, lambda n, _: _unpack(b, form, half, n))

    return Program(UNPACK, write, lanes_ or lanes())


def scratch_bytes(
    name: str, half: bool, inputs: int, rows: int, lanes_: int | None = None,
    pairs: bool | None = None,
) -> int:  # fmt: skip
    """The scratch memory that one thread of a product needs."""
    width = lanes_ or lanes()
    whole, rest = divmod(inputs, 8 * width)
    return rows * (whole + rest // LEAST) * _block_bytes(_form(name, half, pairs), width)


def _tile(form: Form, rows: int) -> tuple[int, int]:
    """How many outputs and rows of x go together: as measured on a CPU with pairs, so that neither
    unpacking nor reading x again costs more than the memory does."""
    if form.bits == 16:
        return (1, 4) if rows == 1 or not form.pairs else (2, 6)
    if form.bits == 8:
        return 1 if rows <= 4 else 2, 8
    return 1 if rows <= 2 else 2, 4


def _form(name: str, half: bool, pairs: bool | None) -> Form:
    """Pairs need an x of bf16."""
    return FORMS[name, half and (has_pairs() if pairs is None else pairs)]


def _order(b: Builder, form: Form, half: bool, rows: int) -> Values:
    """Lays out the rows of x in this thread's scratch memory: where each of them is."""
    inputs, block = b.given["inputs"], 8 * b.lanes
    whole = b.sdiv(inputs, b.number(block))
    rest = b.sdiv(b.sub(inputs, b.times(whole, block)), b.number(LEAST))
    size = b.times(b.sum(whole, rest), _block_bytes(form, b.lanes))
    mine = b.at(b.pointer("scratch"), b.times(b.thread, b.times(size, rows)))

    def row(m: Value) -> None:
        target, first = b.at(mine, b.mul(m, size)), b.mul(m, inputs)

        def turn(k: Value, place: Value, whole: bool, _: Values) -> Values:
            def read(start: int, count: int) -> Value:
                kind = ir.VectorType(I16 if half else F32, count)
                index = b.sum(first, k, start)
                value = b.read(kind, b.pointer("x"), b.times(index, 2 if half else 4))
                return b.widened(value) if half and not form.pairs else value

            for i, vector in enumerate(form.order(b, read, whole)):
                b.write(vector, target, b.sum(place, 4 * b.lanes * i))
            return ()

        _each_block(b, form, turn)

    b.run(0, rows, row)
    return [b.at(mine, b.times(size, m)) for m in range(rows)]


def _outputs(
    b: Builder, form: Form, half: bool, xs: Values, first: int, n: Value, count: int
) -> None:
    """Outputs n to n + count of some rows of x, which begin with row `first`."""
    numbers = [b.sum(n, i) for i in range(count)]
    weights = _rows(b, "weight", "stride", numbers)
    scales = _rows(b, "scale", "scale_stride", numbers)

    def turn(k: Value, place: Value, whole: bool, sums: Values) -> Values:
        here = [b.at(weight, _share(b, k, form.bits, 8)) for weight in weights]
        if whole:
            for pointer in here:
                for line in range(0, b.lanes * form.bits, 64):
                    b.prefetch(pointer, AHEAD_BYTES + line)
        unpacked = [form.unpack(b, pointer, whole) for pointer in here]

        def entries(i: int) -> Values:
            kind = ir.VectorType(F32, b.lanes)
            return [b.read(kind, x, b.sum(place, 4 * b.lanes * i)) for x in xs]

        start = list(entries(len(unpacked[0]))) * count if form.starts else [None] * len(sums)
        parts = _multiplied(b, form, unpacked, entries, start)
        if not isinstance(form, Quantized):
            return [b.fadd(*each) for each in zip(parts, sums, strict=True)]
        factors = [form.scale(b, b.at(row, _scale_place(b, form, k)), whole) for row in scales]
        factors = [factor for factor in factors for _ in xs]
        return [b.multiply_add(*each) for each in zip(parts, factors, sums, strict=True)]

    sums = _each_block(b, form, turn, [b.vector(F32, 0.0)] * (count * len(xs)))
    for i, total in enumerate(sums):
        value = b.fmul(b.total(total), ir.Constant(F32, form.factor))
        row = b.times(b.given["outputs"], first + i % len(xs))
        _write(b, half, value, b.pointer("y"), b.sum(row, numbers[i // len(xs)]))


def _multiplied(
    b: Builder, form: Form, unpacked: Sequence[Lazy], entries: Callable[[int], Values], sums: list
) -> list:
    """sums (for each output, for each row of x; None: nothing yet) plus the products of a block."""
    for i in range(len(unpacked[0])):
        xs = entries(i)
        for output, vectors in enumerate(unpacked):
            value = vectors[i]()
            for m, x in enumerate(xs):
                place = output * len(xs) + m
                sums[place] = form.multiply(b, value, x, sums[place])
    return sums


def _unpack(b: Builder, form: Form, half: bool, n: Value) -> None:
    """The weights of output n."""
    assert isinstance(form, Quantized)
    (weight,), (scale,) = _rows(b, "weight", "stride", [n]), _rows(b, "scale", "scale_stride", [n])
    first = b.times(n, b.given["inputs"])

    def turn(k: Value, _: Value, whole: bool, __: Values) -> Values:
        factor = form.scale(b, b.at(scale, _scale_place(b, form, k)), whole)
        lazy = form.unpack(b, b.at(weight, _share(b, k, form.bits, 8)), whole)
        for place, vector in form.weights(b, [value() for value in lazy], factor, whole):
            _write(b, half, vector, b.pointer("y"), b.sum(first, k, place))
        return ()

    _each_block(b, form, turn)


Turn = Callable[[Value, Value, bool, Values], Values]


def _each_block(b: Builder, form: Form, turn: Turn, carried: Values = ()) -> Values:
    """Runs over the inputs: `turn(first input, its place in scratch memory, whether the block is
    whole, carried)`, which returns what is carried on."""
    inputs, block, size = b.given["inputs"], 8 * b.lanes, _block_bytes(form, b.lanes)
    full = b.and_(inputs, b.number(-block))

    def whole(k: Value, carried: Values) -> Values:
        return turn(k, _share(b, k, size, block), True, carried)

    def rest(k: Value, carried: Values) -> Values:
        place = b.sum(_share(b, full, size, block), _share(b, b.sub(k, full), size, LEAST))
        return turn(k, place, False, carried)

    carried = b.loop(0, full, block, whole, carried)
    return b.loop(full, inputs, LEAST, rest, carried)


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


def _block_bytes(form: Form, lanes_: int) -> int:
    """Scratch memory of a block of x."""
    registers = (4 if form.pairs else 8) + form.starts
    return 4 * lanes_ * registers


def _rows(b: Builder, name: str, stride: str, numbers: Values) -> Values:
    """Where some outputs begin in the weights or scales."""
    return [b.at(b.pointer(name), b.times(n, b.given[stride])) for n in numbers]


def _share(b: Builder, k: Value, part: int, whole: int) -> Value:
    """k * part / whole, which comes out even."""
    return b.sdiv(b.times(k, part), b.number(whole))


def _scale_place(b: Builder, form: Form, k: Value) -> Value:
    return b.times(b.sdiv(k, b.number(form.group)), 2)


def _write(b: Builder, half: bool, value: Value, pointer: Value, index: Value) -> None:
    b.write(b.narrowed(value) if half else value, pointer, b.times(index, 2 if half else 4))
