"""Files of the user that have the name of a package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.shadowing import explain_shadowing, shadowing_files
from tests.helpers.processes import COMMAND


@pytest.mark.parametrize("file", ["models.py", "pipeline.py", "numpy.py", "yaml/__init__.py", "logging.py"])
def test_shadowing_file_on_pythonpath_is_named(file: str, tmp_path: Path) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    environment = os.environ | {"PYTHONPATH": "."}
    completed = subprocess.run(
        [sys.executable, "-P", *COMMAND[1:], "predict", "--run", "r", "--audio", "a"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    hiding = path.parent if path.name == "__init__.py" else path
    lines = completed.stderr.splitlines()
    assert completed.returncode == 2 and len(lines) == 1, completed.stderr
    assert lines[0].startswith(f"melray: error: {hiding} takes precedence over the package '{hiding.stem}'")


@pytest.mark.parametrize("text", ["raise RuntimeError('no data')", "x = 1 +", "open('missing.csv')"])
def test_shadowing_script_that_fails_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text(text)
    completed = subprocess.run(
        [sys.executable, "-P", *COMMAND[1:], "evaluate", "--run", "r"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert completed.stderr.startswith(f"melray: error: {tmp_path / 'models.py'} takes precedence over the")


def test_unnamed_file_does_not_explain_an_error(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("")
    assert list(shadowing_files([str(tmp_path), *sys.path])) == [tmp_path / "numpy.py"]
    assert list(shadowing_files([*sys.path, str(tmp_path)])) == []
    assert explain_shadowing(ImportError("no module named 'torch'")) is None
    assert explain_shadowing(ValueError("numpy")) is None
