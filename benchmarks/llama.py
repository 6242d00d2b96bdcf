"""llama.cpp as the second peer, where its Python package `llama_cpp` is installed.

It reads random GGUF files of the same shape: bf16 beside our bf16 and bf12, neither of which loses
anything, Q8_0 beside int8, Q4_0 beside int4, on as many threads as we have.
"""

import importlib.util
from collections.abc import Iterable
from pathlib import Path

from benchmarks.context import Bench
from benchmarks.rows import Measurement, Result, Row, Unavailable
from benchmarks.text import (
    PROMPT,
    STEPS,
    TOKENS_S,
    decoding_limit,
    own_step,
    prefill_ours,
    prompt,
    stepper,
)
from benchmarks.timing import Contender, alternate, medians
from dragoman import system
from dragoman.decoder import LanguageModel

PEER = "llama.cpp"
NAMES = {
    "bf16": "BF16",
    "bf12": "BF16 (nothing is lost on either side)",
    "int8": "Q8_0",
    "int4": "Q4_0",
}
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

        threads = system.cores()
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


def installed() -> bool:
    return importlib.util.find_spec("llama_cpp") is not None


def against_llama(bench: Bench, form: str) -> Iterable[Result]:
    """Decoding in ``form``; for bf16 a prompt as well."""
    if not installed():
        raise Unavailable(
            "llama_cpp is not installed: pip install llama-cpp-python (builds in minutes)"
        )
    theirs = Llama(bench.gguf("E2B", form))
    ours = bench.model("E2B", form)
    yield _decoding(bench, ROWS[form], ours, theirs)
    if form == "bf16":
        yield _prefilling(bench, ours, theirs)


def _decoding(bench: Bench, row: Row, ours: LanguageModel, theirs: Llama) -> Result:
    ids, beside = prompt(ours, PROMPT), bench.beside()
    theirs.read(ids[0].tolist())
    contenders = {
        "ours": Contender(stepper(*own_step(ours, ids))),
        "theirs": Contender(lambda _: theirs.steps(STEPS)),
        "machine": beside.contender,
    }
    spent = medians(alternate(contenders, bench.rounds))
    most, detail = decoding_limit(ours, beside)
    ours_s, theirs_s = (STEPS / spent[side] for side in ("ours", "theirs"))
    return Result(row, ours_s, theirs_s, most, bench.rounds, detail=detail)


def _prefilling(bench: Bench, ours: LanguageModel, theirs: Llama) -> Result:
    ids, rounds = prompt(ours, LENGTH), min(3, bench.rounds)
    row_ids = ids[0].tolist()
    contenders = {
        "ours": Contender(lambda _: prefill_ours(ours, ids)),
        "theirs": Contender(lambda _: theirs.read(row_ids)),
    }
    spent = medians(alternate(contenders, rounds))
    return Result(PREFILL, LENGTH / spent["ours"], LENGTH / spent["theirs"], rounds=rounds)


def _measurement(form: str) -> Measurement:
    rows = (ROWS[form], PREFILL) if form == "bf16" else (ROWS[form],)
    return Measurement(f"llama_cpp_{form}", rows, lambda b: against_llama(b, form))


MEASUREMENTS = {form: _measurement(form) for form in NAMES}
