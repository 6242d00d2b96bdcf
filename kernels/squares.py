"""Squares of numbers in registers, turned."""

from dragoman.kernels.compiler import Builder, Value


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
