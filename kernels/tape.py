"""Programs recorded with their arguments and run one behind the other in one call.

A decode step is some five hundred small programs. Called from Python one by one they would take
longer to be called, and for threads to be woken, than to run; so all threads go through the whole
list and wait for one another only where one program reads what another has written.
"""

import ctypes
from functools import cache

from dragoman.kernels.compiler import I64, Builder, Program, Value, lanes

TAPE = ("steps", "count")


class Arguments:
    """What a recorded program is given, by name: addresses and numbers, which may be changed."""

    def __init__(self, names: tuple[str, ...], given: dict[str, int]):
        if given.keys() != set(names):
            raise ValueError(f"expected the arguments {names}, got {tuple(given)}")
        self._places = {name: i for i, name in enumerate(names)}
        self._values = (ctypes.c_int64 * len(names))(*(given[name] for name in names))
        self.address = ctypes.addressof(self._values)

    def __setitem__(self, name: str, value: int) -> None:
        self._values[self._places[name]] = value


class Tape:
    """A list of programs for `threads` threads, which `run` goes through.

    Whoever records keeps the memory alive that the arguments point to, and its programs must not
    need more threads than there are.
    """

    def __init__(self, threads: int):
        self.threads = threads
        self._kept: list[tuple[Program, Arguments]] = []
        self._steps: list[int] = []
        self._table: ctypes.Array[ctypes.c_int64] | None = None

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, program: Program, wait: bool = True, /, **given: int) -> Arguments:
        """Records one more; wait: whether all threads finish it before any goes on."""
        arguments = Arguments(program.arguments, given)
        self._kept.append((program, arguments))
        self._table = None
        self._steps += (program.address, arguments.address, int(wait))
        return arguments

    def run(self) -> None:
        """Does all of it; the interpreter is free for others meanwhile."""
        if self._table is None:
            self._table = (ctypes.c_int64 * len(self._steps))(*self._steps)
        _player().run(self.threads, ctypes.addressof(self._table), len(self._kept))


@cache
def _player() -> Program:
    """Calls `count` workers, whose addresses, arguments and whether to wait `steps` lists."""

    def write(b: Builder) -> None:
        def step(i: Value) -> None:
            address, arguments, wait = (
                b.read(I64, b.pointer("steps"), b.sum(b.times(i, 24), 8 * k)) for k in range(3)
            )
            b.call_worker(address, arguments)
            with b.if_then(b.icmp_signed("!=", wait, b.number(0))):
                b.wait()

        b.run(0, b.given["count"], step)

    return Program(TAPE, write, lanes())
