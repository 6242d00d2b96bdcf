"""The loops of attention over consecutive positions, with pairs of bf16.

Keys and values are first copied into the order in which they are multiplied. Then every turn takes
ROWS rows, a row being one query head at one position, of the heads that share their keys: all
scores, in float32, then their softmax, then the mix of values. Keys that no row of a turn may see
are not touched, so nothing is computed above the diagonal or outside of the window.

Registers hold pairs of neighbours in the axis that is summed over, one pair for each of 16 keys, or
for each of 16 entries of the values.
"""

from collections.abc import Sequence
from functools import cache

from llvmlite import ir

from dragoman.kernels.compiler import F32, I16, I32, Builder, Number, Program, Value
from dragoman.kernels.functions import exp
from dragoman.kernels.rows import share
from dragoman.kernels.squares import transposed

PACK = ("keys", "values", "packed", "heads", "count", "head_stride", "position_stride")
ATTEND = (
    "y", "queries", "packed", "scratch", "size", "heads", "together", "length", "group", "count",
    "window",
)  # fmt: skip
LANES = 16
KEYS = 2 * LANES  # that go together
ROWS, PART = 32, 8  # of a turn, and how many of them have their sums in registers
LEAST_SCORE = -1e30
Values = Sequence[Value]


def packed_bytes(heads: int, count: int, width: int) -> int:
    """Of keys and values, copied."""
    return 4 * heads * _padded(count) * width


def scratch_bytes(count: int, width: int) -> int:
    """The scratch memory that one thread of `attending` needs."""
    return ROWS * (2 * width + 16 + _row_bytes(_padded(count)))


@cache
def packing(width: int) -> Program:
    """Copies keys and values [heads, count, width]; the last ones are repeated to fill up KEYS.

    packed: keys [heads, count / KEYS, width / 2, KEYS] pairs, then values [heads, width / KEYS,
    count / 2, KEYS] pairs. Strides count entries.
    """

    def write(b: Builder) -> None:
        heads, groups = b.given["heads"], _groups(b)
        for_values = b.at(b.pointer("packed"), _packed_place(b, heads, width))

        def some(i: Value) -> None:
            head, group = b.sdiv(i, groups), b.srem(i, groups)
            first = b.times(group, KEYS)
            mine = _packed_place(b, head, width)
            keys = b.at(b.pointer("packed"), b.add(mine, b.times(group, 2 * KEYS * width)))
            _pack_keys(b, head, first, keys, width)
            values = b.at(for_values, b.add(mine, b.times(first, 2 * KEYS)))
            _pack_values(b, head, first, values, width)

        b.run(*share(b, b.mul(heads, groups)), some)

    return Program(PACK, write, LANES)


@cache
def attending(width: int) -> Program:
    """y [batch, length, heads, width], as queries, of the last `length` of `count` positions.

    A query sees the `window` positions that end with its own. `group` heads read the same keys;
    `together` of those keys' heads make a row of the batch, `heads` the whole batch.
    """

    def write(b: Builder) -> None:
        turns = b.sdiv(b.sum(b.mul(b.given["length"], b.given["group"]), ROWS - 1), b.number(ROWS))

        def turn(i: Value) -> None:
            Turn(b, width, b.sdiv(i, turns), b.times(b.srem(i, turns), ROWS)).run()

        b.run(b.thread, b.mul(b.given["heads"], turns), turn, b.threads)

    return Program(ATTEND, write, LANES)


class Turn:
    """ROWS rows from `first` on; where there are fewer, the last one is repeated."""

    def __init__(self, b: Builder, width: int, head: Value, first: Value):
        self.b, self.width, self.head, self.first = b, width, head, first
        padded = b.times(_groups(b), KEYS)
        self.row_bytes = b.sum(b.times(padded, 4), 64)
        scratch = b.at(b.pointer("scratch"), b.mul(b.thread, b.given["size"]))
        self.queries = scratch
        self.places = b.at(scratch, 2 * ROWS * width)
        self.factors = b.at(self.places, 8 * ROWS)
        self.scores = b.at(self.factors, 8 * ROWS)
        self.keys = b.at(b.pointer("packed"), _packed_place(b, head, width))
        for_values = _packed_place(b, b.given["heads"], width)
        self.values = b.at(self.keys, for_values)
        newest, oldest = self.seen(b.number(ROWS - 1))[1], self.seen(b.number(0))[0]
        self.start = b.and_(oldest, b.number(-KEYS))
        self.stop = b.and_(b.sum(newest, KEYS), b.number(-KEYS))

    def run(self) -> None:
        b = self.b

        def gather(r: Value) -> None:
            place = self.place(r)
            b.write(place, self.places, b.times(r, 8))
            for i in range(0, 2 * self.width, 64):
                part = b.read(ir.VectorType(I32, 16), b.pointer("queries"), b.sum(place, i))
                b.write(part, self.queries, b.sum(b.times(r, 2 * self.width), i))

        def softmax(r: Value) -> None:
            self.softmax(r)

        b.run(0, ROWS, gather)
        self.score()
        b.run(0, ROWS, softmax)
        self.mix()

    def position(self, r: Value) -> tuple[Value, Value]:
        """Of row r: which of the queries' positions, and which head of the group."""
        b, group = self.b, self.b.given["group"]
        last = b.sum(b.mul(b.given["length"], group), -1)
        row = b.least(b.add(self.first, r), last)
        return b.sdiv(row, group), b.srem(row, group)

    def place(self, r: Value) -> Value:
        """Where row r begins among the queries, in bytes."""
        b, together, group = self.b, self.b.given["together"], self.b.given["group"]
        position, member = self.position(r)
        batch, head = b.sdiv(self.head, together), b.srem(self.head, together)
        row = b.add(b.mul(batch, b.given["length"]), position)
        row = b.add(b.mul(row, b.mul(together, group)), b.add(b.mul(head, group), member))
        return b.times(row, 2 * self.width)

    def seen(self, r: Value) -> tuple[Value, Value]:
        """The first and the last key that row r sees."""
        b = self.b
        newest = b.add(self.position(r)[0], b.sub(b.given["count"], b.given["length"]))
        oldest = b.sum(b.sub(newest, b.given["window"]), 1)
        return b.select(b.icmp_signed("<", oldest, b.number(0)), b.number(0), oldest), newest

    def score(self) -> None:
        """Products of queries and keys, in float32: [ROWS, keys]."""
        b, width = self.b, self.width

        def some(k: Value) -> None:
            keys = b.at(self.keys, b.times(k, 2 * width))

            def part(r: Value) -> None:
                queries = b.at(self.queries, b.times(r, 2 * width))
                rows = [b.at(queries, 2 * width * i) for i in range(PART)]
                sums = _products(b, rows, keys, 0, width // 2)
                for i, (low, high) in enumerate(sums):
                    target = b.at(self.row(b.sum(r, i)), b.times(k, 4))
                    b.write(low, target)
                    b.write(high, target, 4 * LANES)

            b.run(0, ROWS, part, PART)

        b.run(self.start, self.stop, some, KEYS)

    def softmax(self, r: Value) -> None:
        """Turns a row of scores into weights of bf16, not yet divided by their sum."""
        b, row = self.b, self.row(r)
        oldest, newest = (b.trunc(key, I32) for key in self.seen(r))
        kind = ir.VectorType(I32, LANES)
        counting = ir.Constant(kind, list(range(LANES)))
        oldest, newest = _spread(b, oldest), _spread(b, newest)

        def visible(k: Value) -> tuple[Value, Value]:
            score = b.read(ir.VectorType(F32, LANES), row, b.times(k, 4))
            key = b.add(_spread(b, b.trunc(k, I32)), counting)
            after, before = b.icmp_signed(">=", key, oldest), b.icmp_signed("<=", key, newest)
            return b.and_(after, before), score

        def largest(k: Value, so_far: Values) -> Values:
            seen, score = visible(k)
            score = b.select(seen, score, b.vector(F32, LEAST_SCORE))
            return [b.call_vector("maxnum", score.type, so_far[0], score)]

        def weigh(k: Value, total: Values) -> Values:
            seen, score = visible(k)
            weight = b.select(seen, exp(b, b.fsub(score, top)), b.vector(F32, 0.0))
            b.write(b.narrowed(weight), row, b.times(k, 2))  # where it was read, or before
            return [b.fadd(total[0], weight)]

        start = [b.vector(F32, LEAST_SCORE)]
        (best,) = b.loop(self.start, self.stop, LANES, largest, start)
        top = b.spread(b.call_vector("vector.reduce.fmax", F32, best), LANES)
        (total,) = b.loop(self.start, self.stop, LANES, weigh, [b.vector(F32, 0.0)])
        factor = b.fdiv(ir.Constant(F32, 1.0), b.total(total))
        b.write(factor, self.factors, b.times(r, 4))

    def mix(self) -> None:
        """Sums the values by their weights."""
        b, width = self.b, self.width
        pairs = [b.sdiv(end, b.number(2)) for end in (self.start, self.stop)]
        all_pairs = b.times(_groups(b), KEYS // 2)

        def some(h: Value) -> None:
            values = b.at(self.values, b.times(b.mul(h, all_pairs), 4))

            def part(r: Value) -> None:
                rows = [self.row(b.sum(r, i)) for i in range(PART)]
                for i, halves in enumerate(_products(b, rows, values, *pairs)):
                    number = b.sum(r, i)
                    factor = b.spread(b.read(F32, self.factors, b.times(number, 4)), LANES)
                    place = b.read(ir.IntType(64), self.places, b.times(number, 8))
                    y = b.at(b.pointer("y"), b.add(place, b.times(h, 2)))
                    for j, half in enumerate(halves):
                        b.write(b.narrowed(b.fmul(half, factor)), y, 2 * LANES * j)

            b.run(0, ROWS, part, PART)

        b.run(0, width, some, KEYS)

    def row(self, r: Value) -> Value:
        return self.b.at(self.scores, self.b.mul(r, self.row_bytes))


def _products(b: Builder, rows: Values, packed: Value, start: Number, stop: Number) -> list[Values]:
    """Of each row's pairs from `start` to `stop` with as many rows of KEYS packed pairs: sums."""
    kind = ir.VectorType(F32, LANES)

    def pair(w: Value, sums: Values) -> Values:
        place = b.times(w, 4 * KEYS)
        halves = [b.read(kind, packed, b.sum(place, 4 * LANES * j)) for j in range(2)]
        words = (b.spread(b.read(F32, row, b.times(w, 4)), LANES) for row in rows)
        factors = [(word, half) for word in words for half in halves]
        return [b.dot_pairs(*both, total) for both, total in zip(factors, sums, strict=True)]

    sums = b.loop(start, stop, 1, pair, [b.vector(F32, 0.0)] * (2 * len(rows)))
    return [sums[i : i + 2] for i in range(0, len(sums), 2)]


def _pack_keys(b: Builder, head: Value, first: Value, target: Value, width: int) -> None:
    kind = ir.VectorType(I32, LANES)
    for half in range(2):
        rows = [_source(b, "keys", head, b.sum(first, half * LANES, i)) for i in range(LANES)]
        for word in range(0, width // 2, LANES):
            square = [b.read(kind, row, 4 * word) for row in rows]
            for i, pairs in enumerate(transposed(b, square)):
                b.write(pairs, target, 4 * ((word + i) * KEYS + half * LANES))


def _pack_values(b: Builder, head: Value, first: Value, target: Value, width: int) -> None:
    count = b.times(_groups(b), 4 * KEYS * KEYS // 2)  # bytes of KEYS entries

    def pair(s: Value) -> None:
        key = b.add(first, b.times(s, 2))
        rows = [_source(b, "values", head, b.sum(key, i)) for i in range(2)]
        for h in range(0, width, LANES):
            low, high = (
                b.zext(b.read(ir.VectorType(I16, LANES), row, 2 * h), ir.VectorType(I32, LANES))
                for row in rows
            )
            place = b.add(b.times(count, h // KEYS), b.times(s, 4 * KEYS))
            b.write(b.or_(low, b.shifted(high, 16)), target, b.sum(place, 4 * (h % KEYS)))

    b.run(0, KEYS // 2, pair)


def _source(b: Builder, name: str, head: Value, key: Value) -> Value:
    """Where a key or its value lies; beyond the last one, the last."""
    key = b.least(key, b.sum(b.given["count"], -1))
    place = b.add(b.mul(head, b.given["head_stride"]), b.mul(key, b.given["position_stride"]))
    return b.at(b.pointer(name), b.times(place, 2))


def _groups(b: Builder) -> Value:
    return b.sdiv(b.sum(b.given["count"], KEYS - 1), b.number(KEYS))


def _packed_place(b: Builder, heads: Value, width: int) -> Value:
    """Bytes of the packed keys, or values, of so many heads."""
    return b.times(b.mul(heads, _groups(b)), 2 * KEYS * width)


def _padded(count: int) -> int:
    return -(-count // KEYS) * KEYS


def _row_bytes(padded: int) -> int:
    return 4 * padded + 64  # rows do not begin in the same lines of the cache


def _spread(b: Builder, value: Value) -> Value:
    """One int32 in every lane."""
    return b.bitcast(b.spread(b.bitcast(value, F32), LANES), ir.VectorType(I32, LANES))
