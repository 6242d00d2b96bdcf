"""Holds the direction of dependencies between the packages, by walking their imports."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BESIDE = {"training", "evaluation"}  # packages under their own names
UNDER_TEST = BESIDE | {
    "kernels",
    "encoders",
    "decoder",
    "models",
    "stages",
    "pipeline",
    "server",
    "demos",
}
PACKAGES = UNDER_TEST | {"benchmarks", "tests"}
FOLDERS = UNDER_TEST - BESIDE  # packages below the name `dragoman`
MAY_IMPORT = {
    "encoders": set(),
    "decoder": set(),
    "kernels": {"encoders", "decoder"},
    "models": {"encoders", "decoder", "kernels"},
    "stages": {"encoders", "decoder", "models"},
    "pipeline": {"stages", "models"},
    "server": {"pipeline", "stages", "models"},
    "demos": {"server", "pipeline", "stages", "models"},
    "training": {"encoders", "decoder", "models"},
    "evaluation": {"decoder", "models", "stages", "pipeline", "training"},
}
NUMERIC_ONLY = {"kernels", "encoders", "decoder"}
BESIDES_TORCH = {
    "encoders": {"timm"},  # imported when a vision tower is built
    "decoder": set(),
    # What makes a model quick: for a CPU, and for a GPU, where it comes with torch.
    "kernels": {"llvmlite", "triton", "encoders", "decoder"},
}
ONLY_IN = {
    "ray": {"pipeline", "server", "tests", "benchmarks"},
    "transformers": {"tests", "benchmarks"},
}


def imports(path: Path) -> set[str]:
    """The top-level names that a file imports, anywhere in it, at import time or later."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {_package(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level != 1:
            module = f"dragoman.{node.module or ''}".strip(".") if node.level else node.module
            names = [alias.name for alias in node.names] if module == "dragoman" else [""]
            found |= {_package(f"{module}.{name}") for name in names}
    return found


def _package(module: str) -> str:
    """`ray` of `ray.data`; `stages` of `dragoman.stages.look`: the folders lie below that name."""
    first, _, rest = module.partition(".")
    return rest.split(".")[0] if first == "dragoman" and rest.split(".")[0] in FOLDERS else first


def package_imports(package: str) -> dict[str, set[str]]:
    files = sorted((ROOT / package).rglob("*.py"))
    return {str(file.relative_to(ROOT)): imports(file) for file in files}


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_packages_import_only_what_lies_below_them(package):
    allowed = MAY_IMPORT[package] | {package}
    assert {
        file: wrong
        for file, names in package_imports(package).items()
        if (wrong := (names & PACKAGES) - allowed)
    } == {}


@pytest.mark.parametrize("package", sorted(NUMERIC_ONLY))
def test_the_model_needs_torch_alone(package):
    allowed = {"torch", package} | BESIDES_TORCH[package] | set(sys.stdlib_module_names)
    assert {
        file: wrong
        for file, names in package_imports(package).items()
        if (wrong := names - allowed)
    } == {}


def test_timm_is_not_imported_before_a_tower_is_built():
    script = (
        "import sys; from dragoman import encoders; "
        "from dragoman.stages import look, translate; print('timm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("False\n", 0), done.stderr


def modules_imported(path: Path) -> set[str]:
    """The files of this repository that a file imports by their names, at import time or later."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if _file(name) else node.module for name in inside}
    return {str(file.relative_to(ROOT)) for name in found if (file := _file(name))}


def _file(module: str) -> Path | None:
    """The file of a module of ours; None for a package, or for what is not ours."""
    file = ROOT / f"{module.removeprefix('dragoman.').replace('.', '/')}.py"
    return file if file.is_file() else None


def test_no_modules_import_each_other_in_a_circle():
    files = [file for package in FOLDERS for file in sorted((ROOT / package).rglob("*.py"))]
    graph = {str(file.relative_to(ROOT)): modules_imported(file) for file in files}
    assert len(graph["kernels/block_loops.py"]) > 2
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.parametrize("library", sorted(ONLY_IN))
def test_libraries_stay_where_they_belong(library):
    found = {
        file
        for package in PACKAGES - ONLY_IN[library]
        for file, names in package_imports(package).items()
        if library in names
    }
    assert found == set()


def test_the_walk_sees_imports_of_every_form(tmp_path):
    file = tmp_path / "sample.py"
    file.write_text(
        "import ray.data as rd\nfrom dragoman.demos.cli import main\n"
        "from dragoman import stages\nfrom . import near\nfrom ..models import hub\n"
        "def late():\n    import torch, numpy\n"
    )
    assert imports(file) == {"ray", "demos", "stages", "models", "torch", "numpy"}


@pytest.mark.parametrize("module", ["errors", "spec", "system"])
def test_what_everything_may_import_imports_nothing_of_ours(module):
    found = imports(ROOT / "dragoman" / f"{module}.py")
    assert found <= set(sys.stdlib_module_names)


def test_every_package_has_a_rule():
    assert set(MAY_IMPORT) == UNDER_TEST
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} <= PACKAGES | {"dragoman"}
