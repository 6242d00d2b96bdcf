"""Holds docs/architecture.md to the code: every function it lists is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROW = re.compile(r"^\| (\S+\.py): (\S+) \|", re.MULTILINE)
LISTED = ROW.findall((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))


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


def test_the_list_is_read():
    assert len(LISTED) > 40


@pytest.mark.parametrize(("file", "function"), LISTED)
def test_a_function_on_the_way_of_a_chunk_is_there(file, function):
    assert function in functions(ROOT / file), f"docs/architecture.md lists {file}: {function}"
