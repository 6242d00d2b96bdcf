"""llama.cpp as the second peer, where its Python package `llama_cpp` is installed.

It reads random GGUF files of the same shape: bf16 beside our bf16, Q8_0 beside int8, Q4_0 beside
int4, on as many threads as we have.
"""

import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path

from benchmarks import gguf, limits
from benchmarks.checkpoint import FOLDERS, SIZES
from benchmarks.context import Bench
from benchmarks.rows import Measurement, Result, Row, Unavailable
from benchmarks.text import PROMPT, STEPS, TOKENS_S, own_step, prefill_ours, prompt, stepper
from benchmarks.timing import Contender, alternate, medians

PEER = "llama.cpp"
NAMES = {"bf16": "BF16", "int8": "Q8_0", "int4": "Q4_0"}
LENGTH = 512


def _row(form: str) -> Row:
    return Row(
        f"decode_{form}_llama_cpp",
        f"decoding, E2B, {form}, against llama.cpp {NAMES[form]}",
        TOKENS_S,
        higher=True,
        peer=PEER,
        target=1.0,
    )


ROWS = {form: _row(form) for form in NAMES}
PREFILL = Row(
    "prefill_512_bf16_llama_cpp",
    "prompt of 512 tokens, E2B, bf16, against llama.cpp BF16",
    TOKENS_S,
    higher=True,
    peer=PEER,
)


class Llama:
    """A GGUF file in llama.cpp."""

    def __init__(self, path: Path) -> None:
        from llama_cpp import Llama as Model  # pyright: ignore[reportMissingImports]

        threads = len(os.sched_getaffinity(0))
        self._model = Model(
            str(path),
            n_ctx=1024,
            n_batch=LENGTH,
            n_threads=threads,
            n_threads_batch=threads,
            verbose=False,
        )

    def read(self, ids: list[int]) -> None:
        """Computes a prompt anew."""
        self._model.reset()
        self._model.eval(ids)

    def steps(self, count: int) -> None:
        """More tokens, always the same: which they are does not matter for the time."""
        for _ in range(count):
            self._model.eval([1_000])


def against_llama(bench: Bench, form: str) -> Iterable[Result]:
    """Decoding in ``form``; for bf16 a prompt as well."""
    if importlib.util.find_spec("llama_cpp") is None:
        raise Unavailable(
            "llama_cpp is not installed: pip install llama-cpp-python (builds in minutes)"
        )
    theirs = Llama(gguf.ensure(SIZES["E2B"], form, FOLDERS / f"E2B-{form}.gguf"))
    ours = bench.model("E2B", form)
    ids = prompt(ours, PROMPT)
    theirs.read(ids[0].tolist())
    contenders = {
        "ours": Contender(stepper(*own_step(ours, ids))),
        "theirs": Contender(lambda _: theirs.steps(STEPS)),
    }
    spent = medians(alternate(contenders, bench.rounds))
    least = bench.machine.seconds(limits.read_bytes(ours))
    row = ROWS[form]
    yield Result(row, STEPS / spent["ours"], STEPS / spent["theirs"], 1 / least, bench.rounds)
    if form == "bf16":
        ids = prompt(ours, LENGTH)
        row_ids = ids[0].tolist()
        contenders = {
            "ours": Contender(lambda _: prefill_ours(ours, ids)),
            "theirs": Contender(lambda _: theirs.read(row_ids)),
        }
        spent = medians(alternate(contenders, min(3, bench.rounds)))
        yield Result(PREFILL, LENGTH / spent["ours"], LENGTH / spent["theirs"])


def _measurement(form: str) -> Measurement:
    rows = (ROWS[form], PREFILL) if form == "bf16" else (ROWS[form],)
    return Measurement(f"llama_cpp_{form}", rows, lambda b: against_llama(b, form))


MEASUREMENTS = {form: _measurement(form) for form in NAMES}
