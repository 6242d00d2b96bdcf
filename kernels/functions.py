"""exp and what is made of it, on vectors of float32: within a few units in the last place.

With n the whole number next to x / ln 2 and r = x - n ln 2, exp(x) is 2^n exp(r); |r| is less than
0.35, where eight terms of the Taylor series are enough. What is not a number stays so.
"""

import math

from llvmlite import ir

from dragoman.kernels.compiler import I32, Builder, Value

TERMS = 7  # of exp(r) - 1
LEAST_X, MOST_X = -87.0, 88.0  # between them 2^n is an ordinary number
LN2_HIGH = 355 / 512  # so few bits that its products with n are exact
LN2_LOW = math.log(2.0) - LN2_HIGH


def exp(b: Builder, x: Value) -> Value:
    """e^x; beyond the ends of float32 what it is there."""
    power, rest = _parts(b, x)
    return b.multiply_add(power, rest, power)


def sigmoid(b: Builder, x: Value) -> Value:
    """1 / (1 + e^-x)."""
    one = _all(x, 1.0)
    return b.fdiv(one, b.fadd(one, exp(b, b.fneg(x))))


def silu(b: Builder, x: Value) -> Value:
    """x sigmoid(x)."""
    return b.fmul(x, sigmoid(b, x))


def tanh(b: Builder, x: Value) -> Value:
    """(e^2|x| - 1) / (e^2|x| + 1) with the sign of x; the difference is made without loss."""
    size = b.call_vector("fabs", x.type, x)
    power, rest = _parts(b, b.fadd(size, size))
    less_one = b.multiply_add(power, rest, b.fsub(power, _all(x, 1.0)))
    share = b.fdiv(less_one, b.fadd(less_one, _all(x, 2.0)))
    return b.call_vector("copysign", x.type, share, x)


def clamp(b: Builder, x: Value, least: float, most: float) -> Value:
    """x within [least, most]."""
    low, high = _all(x, least), _all(x, most)
    x = b.select(b.fcmp_ordered(">", x, high), high, x)
    return b.select(b.fcmp_ordered("<", x, low), low, x)


def transposed(b: Builder, rows: list[Value]) -> list[Value]:
    """As many vectors as each has entries, by exchanging ever larger squares."""
    n, distance, rows = len(rows), 1, list(rows)
    while distance < n:
        lower = [i if i & distance == 0 else n + i - distance for i in range(n)]
        upper = [i + distance if i & distance == 0 else n + i for i in range(n)]
        for i in range(n):
            if i & distance == 0:
                pair = rows[i], rows[i + distance]
                rows[i], rows[i + distance] = b.permute(*pair, lower), b.permute(*pair, upper)
        distance *= 2
    return rows


def _parts(b: Builder, x: Value) -> tuple[Value, Value]:
    """2^n and exp(r) - 1."""
    x = clamp(b, x, LEAST_X, MOST_X)
    scaled = b.multiply_add(x, _all(x, 1 / math.log(2.0)), _all(x, 0.5))
    n = b.call_vector("floor", x.type, scaled)
    r = b.multiply_add(n, _all(x, -LN2_HIGH), x)
    r = b.multiply_add(n, _all(x, -LN2_LOW), r)
    series = _all(x, 1 / math.factorial(TERMS))
    for k in range(TERMS - 1, 0, -1):
        series = b.multiply_add(series, r, _all(x, 1 / math.factorial(k)))
    words = ir.VectorType(I32, x.type.count)
    exponent = b.add(b.fptosi(n, words), ir.Constant(words, [127] * words.count))
    power = b.bitcast(b.shl(exponent, ir.Constant(words, [23] * words.count)), x.type)
    return power, b.fmul(series, r)


def _all(like: Value, value: float) -> Value:
    return ir.Constant(like.type, [value] * like.type.count)
