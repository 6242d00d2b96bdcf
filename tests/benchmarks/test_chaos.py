"""What the run of `make chaos` makes of files, and how it finds whom to kill; no run of it."""

import contextlib
import json
import os
import subprocess
import sys

import numpy as np

from benchmarks import processes
from benchmarks.chaos import Verdict, good, judge, table
from benchmarks.chaos_parts import Left
from benchmarks.chaos_visitor import Visitor
from dragoman.demos.browser import serve
from dragoman.stages.messages import SessionOptions
from tests.demos.browsers import fake_chain
from tests.waiting import eventually


def segment(start: float, text: str = "uno") -> dict:
    return {"start": start, "transcript": text, "translation": "one"}


WANTED = [segment(1.0), segment(3.0), segment(5.0)]


def judged(left: Left) -> Verdict:
    verdict = Verdict()
    judge(left, WANTED, verdict)
    return verdict


def form(*segments: dict, warnings: tuple[str, ...] = ()) -> dict:
    return {"segments": [*segments], "warnings": [*warnings]}


def test_a_whole_document_has_every_segment():
    found = form(segment(1.0), segment(3.0, "dos"))
    assert judged(Left(0, found, ended=True)) == Verdict(same=1, different=1, lost=["uno"])
    said = form(segment(1.0), segment(3.0), warnings=("5 s were not heard",))
    assert judged(Left(0, said, ended=True)) == Verdict(same=2, said=1)


def test_of_a_killed_process_what_comes_later_is_not_wanted_and_what_was_shown_is():
    found = form(segment(1.0))
    assert judged(Left(0, found, ended=False)) == Verdict(same=1)
    shown = Left(0, found, ended=False, shown=(segment(1.0), segment(3.0)))
    assert judged(shown) == Verdict(same=1, lost=["uno"])
    assert judged(Left(0, None, ended=False)) == Verdict()


def test_the_report_tells_good_from_bad():
    fine = {"same": 3, "different": 0, "said": 1, "lost": []}
    report = {
        "parts": {"live": {**fine, "different": 1}, "batch": fine},
        "kills": {"raylet of live": 2},
        "codes": {"live": [], "batch": [1, 0]},
        "older files as they were": True,
    }
    assert good(report) and "| live | 3 | 1 | 1 | 0 |" in table(report)
    assert "2 raylet of live" in table(report) and "batch [1, 0]" in table(report)
    assert not good({**report, "older files as they were": False})
    assert not good({**report, "codes": {"visitors": [1]}})
    assert not good({**report, "parts": {**report["parts"], "live": {**fine, "same": 0}}})
    assert not good({**report, "parts": {**report["parts"], "live": {**fine, "lost": ["uno"]}}})
    assert not good({**report, "parts": {**report["parts"], "batch": {**fine, "different": 1}}})


def test_processes_below_one_are_found_by_name_with_their_memory():
    child = "import subprocess; subprocess.run(['sleep', '100'])"
    with subprocess.Popen([sys.executable, "-c", child]) as parent:
        found = eventually(
            lambda: [p for p, n in processes.below(parent.pid).items() if n == "sleep"]
        )
        assert processes.below(os.getpid())[parent.pid].startswith("python")
        assert 0 < processes.resident(found[0]) < processes.resident(os.getpid())
        parent.kill()
        os.kill(found[0], 9)
    assert processes.below(parent.pid) == {} and processes.resident(parent.pid) == 0


def test_a_visitor_keeps_what_the_page_has(tmp_path):
    out, sound = tmp_path / "said.json", tmp_path / "sound.raw"
    sound.write_bytes(np.full(16_000, 3_000, "<i2").tobytes())
    with contextlib.contextmanager(fake_chain)() as chain, serve(chain, SessionOptions()) as page:
        visitor = Visitor(page.url)
        visitor.keep(out)
        assert json.loads(out.read_text()) == {"segments": [], "warnings": [], "ended": False}
        visitor.speak(sound.read_bytes(), out)
        visitor.finish(out)
    told = json.loads(out.read_text())
    assert told["ended"] and [segment["start"] for segment in told["segments"]] == [0.0, 0.8]
