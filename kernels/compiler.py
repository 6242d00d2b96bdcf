"""Functions made at run time for the CPU at hand, and the threads they run on.

The machine-level half of `kernels`: a builder of vector code on llvmlite, the compiler
that is installed along with numba and librosa, so that nobody needs one of their own. Unusual: the
threads are those of torch. Two pools of threads that wait for work by spinning take the cores from
each other, so a function is handed to the very library (OpenMP's libgomp) whose threads torch's own
operations run on.
"""

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import torch
from llvmlite import binding, ir

from dragoman.kernels.objects import kept

I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
F32, POINTER, VOID = ir.FloatType(), ir.PointerType(), ir.VoidType()
Value = Any  # an ir.Value; llvmlite is not typed
Number = Any  # the same, or a plain integer

WORKER = ir.FunctionType(VOID, [POINTER])  # what OpenMP calls in every thread


class _BF16(ir.Type):
    """LLVM's bfloat, which llvmlite does not name."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BF16)

    def __hash__(self) -> int:
        return hash(_BF16)


_IRBuilder: Any = ir.IRBuilder


class Builder(_IRBuilder):
    """Builds one function whose argument points to 64-bit integers, by name in `arguments`.

    Vectors have `lanes` entries, as many floats as a register holds. Addresses count bytes and may
    have any alignment. Plain integers stand for 64-bit constants.
    """

    def __init__(self, function: ir.Function, arguments: Sequence[str], lanes: int):
        super().__init__(function.append_basic_block())
        self.lanes = lanes
        self.given = {
            name: self.read(I64, function.args[0], 8 * i) for i, name in enumerate(arguments)
        }
        self.thread, self.threads = self._place()

    def pointer(self, name: str) -> Value:
        return self.inttoptr(self.given[name], POINTER)

    def number(self, value: Number) -> Value:
        return ir.Constant(I64, value) if isinstance(value, int) else value

    def vector(self, kind: ir.Type, value: float, lanes: int | None = None) -> Value:
        """The same constant in every lane."""
        lanes = lanes or self.lanes
        return ir.Constant(ir.VectorType(kind, lanes), [value] * lanes)

    def sum(self, *values: Number) -> Value:
        total = self.number(values[0])
        for value in values[1:]:
            total = self.add(total, self.number(value))
        return total

    def times(self, a: Number, b: Number) -> Value:
        return self.mul(self.number(a), self.number(b))

    def least(self, a: Value, b: Value) -> Value:
        return self.select(self.icmp_signed("<", a, b), a, b)

    def at(self, pointer: Value, bytes: Number) -> Value:
        return self.gep(pointer, [self.number(bytes)], source_etype=I8)

    def read(self, kind: ir.Type, pointer: Value, bytes: Number = 0) -> Value:
        return self.load(self.at(pointer, bytes), typ=kind, align=1)

    def write(self, value: Value, pointer: Value, bytes: Number = 0) -> None:
        self.store(value, self.at(pointer, bytes), align=1)

    def prefetch(self, pointer: Value, bytes: Number) -> None:
        """Asks for the cache line there, which may lie outside of all memory."""
        kind = ir.FunctionType(VOID, [POINTER, I32, I32, I32])
        name = "llvm.prefetch.p0"
        function = self.module.globals.get(name) or ir.Function(self.module, kind, name)
        how = [ir.Constant(I32, value) for value in (0, 3, 1)]  # read, keep, data
        self.call(function, [self.at(pointer, bytes), *how])

    def permute(self, a: Value, b: Value, order: Sequence[int]) -> Value:
        """Entries of a, then b, in another order."""
        kind = ir.VectorType(I32, len(order))
        return self.shuffle_vector(a, b, ir.Constant(kind, list(order)))

    def joined(self, pieces: Sequence[Value]) -> Value:
        """Vectors of one length, a power of two of them, one behind the other."""
        while len(pieces) > 1:
            both = range(2 * pieces[0].type.count)
            pairs = zip(pieces[::2], pieces[1::2], strict=True)
            pieces = [self.permute(a, b, both) for a, b in pairs]
        return pieces[0]

    def call_vector(self, name: str, kind: ir.Type, *arguments: Value) -> Value:
        """An intrinsic function of LLVM for `kind`, which is the type of its result, too."""
        lanes = arguments[-1].type.count
        types = [argument.type for argument in arguments]
        full = f"llvm.{name}.v{lanes}f32"
        known = self.module.globals.get(full)
        function = known or ir.Function(self.module, ir.FunctionType(kind, types), full)
        return self.call(function, arguments, fastmath=("reassoc",) if kind == F32 else ())

    def call_scalar(self, name: str, value: Value) -> Value:
        """An intrinsic function of LLVM for one float32."""
        full = f"llvm.{name}.f32"
        known = self.module.globals.get(full)
        function = known or ir.Function(self.module, ir.FunctionType(F32, [F32]), full)
        return self.call(function, [value])

    def spread(self, value: Value, lanes: int) -> Value:
        """One number in every lane."""
        kind = ir.VectorType(value.type, 1)
        one = self.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(I32, 0))
        return self.permute(one, one, [0] * lanes)

    def multiply_add(self, a: Value, b: Value, c: Value) -> Value:
        """a * b + c of vectors."""
        return self.call_vector("fmuladd", a.type, a, b, c)

    def dot_pairs(self, a: Value, b: Value, c: Value) -> Value:
        """c + the two products in each lane of vectors of bf16, where the CPU `has_pairs`."""
        kind = ir.VectorType(_BF16(), 2 * self.lanes)
        name = f"llvm.x86.avx512bf16.dpbf16ps.{32 * self.lanes}"
        known = self.module.globals.get(name)
        function = known or ir.Function(
            self.module, ir.FunctionType(c.type, [c.type, kind, kind]), name
        )
        return self.call(function, [c, self.bitcast(a, kind), self.bitcast(b, kind)])

    def dot_bytes(self, unsigned: Value, signed: Value, total: Value) -> Value:
        """total + the four products in each lane of vectors of bytes, where the CPU `has_bytes`."""
        kind = total.type
        name = f"llvm.x86.avx512.vpdpbusd.{32 * kind.count}"
        known = self.module.globals.get(name)
        function = known or ir.Function(self.module, ir.FunctionType(kind, [kind] * 3), name)
        return self.call(function, [total, unsigned, signed])

    def look_up(self, table: Value, places: Value) -> Value:
        """Bytes of a table of 16, which `table` repeats for every 16 bytes of a register, at
        `places`, each below 16; where the CPU `has_look_up`."""
        kind = table.type
        name = {32: "avx2.pshuf.b", 64: "avx512.pshuf.b.512"}[kind.count]
        full = f"llvm.x86.{name}"
        known = self.module.globals.get(full)
        function = known or ir.Function(self.module, ir.FunctionType(kind, [kind] * 2), full)
        return self.call(function, [table, self.bitcast(places, kind)])

    def shifted(self, words: Value, left: int) -> Value:
        """32-bit words shifted to the left, or to the right by less than 0."""
        move = self.shl if left > 0 else self.lshr
        return move(words, self.vector(I32, abs(left)))

    def total(self, vector: Value) -> Value:
        """The sum of a vector's entries."""
        return self.call_vector("vector.reduce.fadd", F32, ir.Constant(F32, 0.0), vector)

    def widened(self, bits: Value) -> Value:
        """bf16 as stored, one or a vector, as float32."""
        wide, target = I32, F32
        if isinstance(bits.type, ir.VectorType):
            wide, target = (ir.VectorType(kind, bits.type.count) for kind in (I32, F32))
        moved = self.shl(self.zext(bits, wide), ir.Constant(wide, _filled(wide, 16)))
        return self.bitcast(moved, target)

    def narrowed(self, value: Value) -> Value:
        """float32, one or a vector, as bf16 is stored; rounded to the nearest, ties to even."""
        wide, short = I32, I16
        if isinstance(value.type, ir.VectorType):
            wide, short = (ir.VectorType(kind, value.type.count) for kind in (I32, I16))
        bits = self.bitcast(value, wide)
        shift = ir.Constant(wide, _filled(wide, 16))
        odd = self.and_(self.lshr(bits, shift), ir.Constant(wide, _filled(wide, 1)))
        half = self.add(odd, ir.Constant(wide, _filled(wide, 0x7FFF)))
        return self.trunc(self.lshr(self.add(bits, half), shift), short)

    def loop(
        self,
        start: Number,
        stop: Number,
        step: Number,
        body: Callable[[Value, Sequence[Value]], Sequence[Value]],
        carried: Sequence[Value] = (),
    ) -> Sequence[Value]:
        """`for i in range(start, stop, step): carried = body(i, carried)`; what is carried."""
        stop = self.number(stop)
        return self.while_(
            lambda i: self.icmp_signed("<", i, stop), body, carried, start=start, step=step
        )

    def while_(
        self,
        holds: Callable[[Value], Value],
        body: Callable[[Value, Sequence[Value]], Sequence[Value]],
        carried: Sequence[Value] = (),
        start: Number = 0,
        step: Number = 1,
    ) -> Sequence[Value]:
        """`i = start; while holds(i): carried = body(i, carried); i += step`; what is carried."""
        start, step, before = self.number(start), self.number(step), self.block
        head, inside, after = (self.append_basic_block() for _ in range(3))
        self.branch(head)
        self.position_at_end(head)
        variables = [self.phi(value.type) for value in (start, *carried)]
        self.cbranch(holds(variables[0]), inside, after)
        self.position_at_end(inside)
        values = body(variables[0], variables[1:])
        values = (self.add(variables[0], step), *values)
        for variable, first, later in zip(variables, (start, *carried), values, strict=True):
            variable.add_incoming(first, before)
            variable.add_incoming(later, self.block)
        self.branch(head)
        self.position_at_end(after)
        return variables[1:]

    def run(
        self, start: Number, stop: Number, body: Callable[[Value], None], step: Number = 1
    ) -> None:
        """`for i in range(start, stop, step): body(i)`, which carries nothing on."""

        def turn(i: Value, _: Sequence[Value]) -> Sequence[Value]:
            body(i)
            return ()

        self.loop(start, stop, step, turn)

    def wait(self) -> None:
        """Until all threads are here."""
        if _openmp() is not None:
            self.call(self._outside("GOMP_barrier", VOID), ())

    def call_worker(self, address: Value, arguments: Value) -> None:
        """Calls another program's worker."""
        function = self.inttoptr(address, WORKER.as_pointer())
        self.call(function, [self.inttoptr(arguments, POINTER)])

    def _outside(self, name: str, result: ir.Type) -> ir.Function:
        """A function without arguments that is known by its name."""
        known = self.module.globals.get(name)
        return known or ir.Function(self.module, ir.FunctionType(result, []), name)

    def _place(self) -> tuple[Value, Value]:
        """Which thread this is, and of how many."""
        if _openmp() is None:
            return self.number(0), self.number(1)
        names = ("omp_get_thread_num", "omp_get_num_threads")
        mine, all_ = (self.sext(self.call(self._outside(n, I32), ()), I64) for n in names)
        return mine, all_


class Kernel:
    """A compiled worker. Keeps its machine code alive."""

    def __init__(self, arguments: Sequence[str], write: Callable[[Builder], None], lanes: int):
        module = ir.Module()
        module.triple = binding.get_process_triple()
        function = ir.Function(module, WORKER, "worker")
        builder = Builder(function, arguments, lanes)
        write(builder)
        builder.ret_void()
        text = str(module)
        self._engine = _engine(kept(f"{_maker()}\n{text}", lambda: _compiled(text)))
        self.address = self._engine.get_function_address("worker")
        self._alone = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self.address)
        self.arguments = tuple(arguments)
        self._arguments = ctypes.c_int64 * len(arguments)

    def run(self, threads: int, *arguments: int) -> None:
        """Calls the worker in `threads` threads, with the interpreter free for others meanwhile."""
        given = self._arguments(*arguments)
        pool = _openmp()
        if threads > 1 and pool is not None:
            pool(self.address, given, threads, 0)
        else:
            self._alone(given)


def works() -> bool:
    """Whether this system lets a program run code that it has made."""
    try:
        binding.check_jit_execution()
    except OSError:
        return False
    return True


@cache
def lanes() -> int:
    """Floats in a vector register of this CPU, at least 8."""
    return 16 if binding.get_host_cpu_features().get("avx512f") else 8


@cache
def has_pairs() -> bool:
    """Whether this CPU multiplies pairs of bf16 and adds both to a float32."""
    features = binding.get_host_cpu_features()
    return bool(features.get("avx512bf16") and features.get("avx512f"))


@cache
def has_look_up(lanes_: int) -> bool:
    """Whether this CPU looks bytes up in tables of 16, in vectors of `lanes_` floats."""
    features = binding.get_host_cpu_features()
    return bool(features.get("avx512bw" if lanes_ == 16 else "avx2"))


@cache
def has_bytes(lanes_: int) -> bool:
    """Whether this CPU multiplies bytes, four a lane, and adds them up, in `lanes_` lanes."""
    features = binding.get_host_cpu_features()
    wide = bool(features.get("avx512vnni"))
    if lanes_ == 16:
        return wide
    return lanes_ == 8 and bool(features.get("avxvnni") or (wide and features.get("avx512vl")))


def _compiled(text: str) -> bytes:
    """An object file of a module."""
    machine = _machine()
    module = binding.parse_assembly(text)
    passes = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(2))
    passes.getModulePassManager().run(module, passes)
    return machine.emit_object(module)


def _engine(code: bytes) -> binding.ExecutionEngine:
    """An object file's code in memory, ready to run."""
    machine = _machine()
    empty = binding.parse_assembly(f'target triple = "{binding.get_process_triple()}"')
    engine = binding.create_mcjit_compiler(empty, machine)
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine


@cache
def _maker() -> str:
    """What besides its text decides what a module becomes."""
    features = binding.get_host_cpu_features().flatten()
    return f"{llvmlite.__version__} {binding.get_host_cpu_name()} {features}"


def _machine() -> binding.TargetMachine:
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding.Target.from_triple(binding.get_process_triple()).create_target_machine(
        cpu=binding.get_host_cpu_name(),
        features=binding.get_host_cpu_features().flatten(),
        opt=3,
        jit=True,
    )


@cache
def _openmp() -> Callable[..., None] | None:
    """libgomp's way to run a function in its threads; None where torch brought none."""
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        library = ctypes.CDLL(str(path))  # the copy that torch has loaded
        for name in ("omp_get_thread_num", "omp_get_num_threads", "GOMP_barrier"):
            address = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
            binding.add_symbol(name, address)
        run = library.GOMP_parallel
        run.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
        run.restype = None
        return run
    return None


def _filled(kind: ir.Type, value: int) -> int | list[int]:
    return [value] * kind.count if isinstance(kind, ir.VectorType) else value
