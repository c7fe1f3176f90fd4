"""Who may import whom: cluster > tune > pipeline > models; and signal code and networks know nothing of Ray."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("models", "pipeline", "tune", "cluster")
PURE = [f"pipeline/{name}.py" for name in "audio mel augment features manifest split shards submission".split()]
MODULES = sorted(str(path.relative_to(ROOT)) for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))


def imported(module: str) -> set[str]:
    """The modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
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
    assert {"pipeline", "models"} <= packages("pipeline/features.py")
    assert "ray" in packages("pipeline/extract.py")  # inside a function


def test_pure_modules_do_not_load_ray_by_way_of_others():
    names = [name.removesuffix(".py").replace("/", ".") for name in [*(m for m in MODULES if m.startswith("models/")), *PURE]]
    code = f"import sys, importlib; [importlib.import_module(n) for n in {names!r}]; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0
