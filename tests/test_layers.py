"""Who may import whom: cluster > tune > pipeline > models; and signal code and networks know nothing of Ray."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from cluster.commands import STAGES

ROOT = Path(__file__).parents[1]
LAYERS = ("models", "pipeline", "tune", "cluster")
PURE = [f"pipeline/{name}.py" for name in "audio mel augment features manifest split shards submission".split()]
MODULES = sorted(str(path.relative_to(ROOT)) for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))


def imported(module: str, inside_functions: bool = True) -> set[str]:
    """The modules that a file imports, anywhere in it or only as it is loaded."""
    found = set()
    tree = ast.parse((ROOT / module).read_text())
    nodes = ast.walk(tree) if inside_functions else tree.body
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: import by full names"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def packages(module: str) -> set[str]:
    return {name.partition(".")[0] for name in imported(module)}


@pytest.mark.parametrize("module", MODULES)
def test_a_layer_knows_only_those_below(module: str):
    above = LAYERS[LAYERS.index(module.partition("/")[0]) + 1 :]
    assert not packages(module) & set(above)


@pytest.mark.parametrize("module", [*(name for name in MODULES if name.startswith("models/")), *PURE])
def test_pure_modules_do_not_import_ray(module: str):
    assert "ray" not in packages(module)


def test_the_reader_of_imports_sees_them():
    assert {"pipeline", "models"} <= packages("pipeline/audio/features.py")
    assert "ray" in packages("pipeline/ray_data.py")  # inside a function


def loaded(module: str) -> set[str]:
    """All packages that come with a module: by its own imports outside functions, and by those of what it imports."""
    done: set[str] = set()
    found: set[str] = set()
    left = {module}
    while left:
        done.add(name := left.pop())
        outer = imported(name, inside_functions=False)
        found |= {other.partition(".")[0] for other in outer}
        left |= {path for other in outer if (path := other.replace(".", "/") + ".py") in MODULES} - done
    return found


@pytest.mark.parametrize("module", [*(name for name in MODULES if name.startswith("models/")), *PURE])
def test_pure_modules_do_not_load_ray_by_way_of_others(module: str):
    assert "ray" not in loaded(module)


def test_the_reader_of_loaded_modules_goes_all_the_way():
    assert {"numpy", "pyarrow", "pydantic", "soxr"} <= loaded("pipeline/data/shards.py")  # soxr: shards, features, audio


@pytest.mark.parametrize("stage", sorted({stage.module for stage in STAGES.values()}))
def test_a_stage_can_be_loaded_before_ray_is(stage: str):
    """Ray reads its settings, such as the session's token, once: when anything of it is first imported."""
    assert "ray" not in loaded(stage.replace(".", "/") + ".py")
