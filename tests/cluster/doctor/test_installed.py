"""`melray doctor` of an installed wheel, without the checkout and its pyproject.toml."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
DOCTOR = "import cluster, sys; from cluster.cli import main; print(cluster.__file__, file=sys.stderr); main()"


def install_wheel(folder: Path) -> Path:
    """Build the wheel from a copy of the checkout and install it, without its dependencies; return where."""
    source, site = folder / "source", folder / "site"
    for name in ("melray", "models", "pipeline", "tune", "cluster"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    wheel = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source]
    subprocess.run([*PIP, *map(str, wheel)], check=True, capture_output=True)
    shutil.rmtree(source)
    (path,) = folder.glob("melray-*.whl")
    subprocess.run([*PIP, "install", "--no-deps", "--target", str(site), str(path)], check=True)
    return site


@pytest.mark.slow
def test_doctor_of_installed_wheel_checks_packages(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    site = install_wheel(tmp_path)
    assert (site / "melray/__init__.py").is_file() and (site / "melray/py.typed").is_file()
    environment = os.environ | {"PYTHONPATH": str(site), "MELRAY_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", DOCTOR, "doctor", "--json", "--start", "--run", str(tmp_path)]
    doctor = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100
    )
    assert doctor.stderr.startswith(str(site)), doctor.stderr
    checks = {check["name"]: check for check in json.loads(doctor.stdout)}
    assert doctor.returncode == 0, checks
    assert checks["packages"]["level"] == checks["python"]["level"] == "ok"
    assert " as required; ray " in checks["packages"]["message"]
    assert checks["ports"]["message"].endswith("on loopback only")
