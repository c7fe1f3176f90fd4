"""Import order of packages and of pipeline's folders, folders without Ray, and no import circles."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from cluster.arguments.registry import COMMAND_SPECS

ROOT = Path(__file__).parents[1]
PACKAGES = ("models", "pipeline", "tune", "cluster", "melray")
# For each part of pipeline, the parts that it may import.
FOLDERS = {
    "io": set(),
    "audio": {"io"},
    "data": {"io", "audio"},
    "report": {"io", "audio"},
    "distributed": {"io"},
    "training": {"io", "audio", "data", "distributed"},
    "extract": {"io", "audio", "data", "distributed"},
    "classifier": {"io", "audio", "data", "report", "distributed", "training"},
    "gan": {"io", "audio", "data", "report", "distributed", "training", "classifier"},
}
PURE_FOLDERS = (
    "models/",
    "pipeline/io/",
    "pipeline/audio/",
    "pipeline/data/",
    "pipeline/report/",
    "tune/report/",
)
PURE_FILES = ("pipeline/classifier/submission/plan.py",)
MODULES = sorted(
    str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*.py")
)
PURE = [module for module in MODULES if module.startswith(PURE_FOLDERS) or module in PURE_FILES]


@cache
def imported(module: str, inside_functions: bool = True) -> frozenset[str]:
    """The modules that a file imports, anywhere in it or only as it is loaded."""
    names = set()
    tree = ast.parse((ROOT / module).read_text())
    for node in ast.walk(tree) if inside_functions else tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: import by full names"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def imported_packages(module: str) -> set[str]:
    """Top-level packages that a file imports."""
    return {name.partition(".")[0] for name in imported(module)}


def imported_files(module: str, inside_functions: bool = True) -> set[str]:
    """Files of this repository that a file imports."""
    return {
        path
        for name in imported(module, inside_functions)
        if (path := name.replace(".", "/") + ".py") in MODULES
    }


def folder(module: str) -> str:
    """The part of pipeline that a file belongs to, such as `audio` or `extract`."""
    return module.split("/")[1].removesuffix(".py")


def loaded_packages(module: str) -> set[str]:
    """All packages that are loaded with a module, directly or indirectly."""
    done: set[str] = set()
    names: set[str] = set()
    pending = {module}
    while pending:
        done.add(current := pending.pop())
        names |= {name.partition(".")[0] for name in imported(current, inside_functions=False)}
        pending |= imported_files(current, inside_functions=False) - done
    return names


@pytest.mark.parametrize("module", MODULES)
def test_package_imports_only_lower_packages(module: str):
    higher = PACKAGES[PACKAGES.index(module.partition("/")[0]) + 1 :]
    assert not imported_packages(module) & set(higher)


@pytest.mark.parametrize(
    "module", [name for name in MODULES if name.startswith("pipeline/") and folder(name) != "__init__"]
)
def test_pipeline_folder_imports_only_lower_folders(module: str):
    parts = {folder(path) for path in imported_files(module) if path.startswith("pipeline/")}
    assert parts <= FOLDERS[folder(module)] | {folder(module)}


def test_modules_do_not_import_each_other():
    try:
        TopologicalSorter({module: imported_files(module) for module in MODULES}).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_pipeline_has_at_most_ten_entries():
    ignored = ("__pycache__", "py.typed")
    assert len([path for path in (ROOT / "pipeline").iterdir() if path.name not in ignored]) <= 10


@pytest.mark.parametrize("family", ["classifier", "gan"])
def test_model_families_use_the_same_file_names(family: str):
    names = {path.name for path in (ROOT / "pipeline" / family).iterdir()}
    assert {"config.py", "state.py", "loop.py", "train.py", "evaluate.py", "report.py"} <= names


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_do_not_import_ray(module: str):
    assert "ray" not in imported_packages(module)
    assert "ray" not in loaded_packages(module)


@pytest.mark.parametrize("stage", sorted({spec.module for spec in COMMAND_SPECS.values() if spec.in_session}))
def test_stage_module_loads_without_ray(stage: str):
    """Ray reads its settings, such as the session's token, once: when anything of it is first imported."""
    assert "ray" not in loaded_packages(stage.replace(".", "/") + ".py")


@pytest.mark.parametrize(
    "module",
    [
        "pipeline/extract.py",
        "pipeline/classifier/train.py",
        "pipeline/classifier/config.py",
        "pipeline/gan/config.py",
        "tune/config.py",
        "cluster/jobs/submit.py",
    ],
)
def test_module_of_a_driver_loads_without_torch(module: str):
    """Torch is imported by workers: a command line is parsed, and a driver starts, in half of the time."""
    assert "torch" not in loaded_packages(module)


def test_import_reader_sees_nested_and_indirect_imports():
    assert {"pipeline", "models"} <= imported_packages("pipeline/audio/features.py")
    assert "ray" in imported_packages("pipeline/distributed/ray_runner.py")  # inside a function
    assert {"numpy", "pyarrow", "pydantic", "soxr"} <= loaded_packages(
        "pipeline/data/shards.py"
    )  # soxr: by way of audio
