"""Holds docs/architecture.md to the code: it lists what a chunk passes, and nothing else."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[1]
ROW = re.compile(r"^\| (\S+\.py): (\S+) \|", re.MULTILINE)
DOCUMENT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
LISTED = ROW.findall(DOCUMENT)


def functions(file: Path) -> set[str]:
    """`name` and `Class.name` of all functions at the top of a file or of its classes."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}.{inner.name}"
                for inner in node.body
                if isinstance(inner, ast.FunctionDef)
            }
    return found


@pytest.mark.parametrize(("file", "function"), LISTED)
def test_a_function_on_the_way_of_a_chunk_is_there(file, function):
    assert function in functions(ROOT / file), f"docs/architecture.md lists {file}: {function}"


def test_the_list_is_what_a_chunk_passes():
    command = [sys.executable, "-m", "benchmarks.path"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S)
    *steps, _ = done.stdout.splitlines() or [done.stderr]
    passed = {tuple(step.split(": ")) for step in steps}
    assert passed == set(LISTED), done.stderr
    assert f"These are the {len(passed)} functions" in DOCUMENT
