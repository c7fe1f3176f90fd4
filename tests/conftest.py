"""Test session settings: one thread, own cache, Ray without authentication, order; fixtures."""

from __future__ import annotations

import os

# Before numpy and torch are imported, which read these once.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
# Threads that wait for each other would keep CPUs busy that other tests need: half of the time of training.
os.environ.update(OMP_WAIT_POLICY="PASSIVE")
os.environ.update(RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0")
# By default Ray's workers run at low priority, and tests would time out when the CPUs are busy otherwise.
os.environ.update(RAY_worker_niceness="0")

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.run_order import make_scheduler, sort_tests

ESC10 = Path(__file__).parents[2] / "shared/data/esc10"


@pytest.hookimpl(trylast=True)  # after the deselection by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    sort_tests(items)


@pytest.hookimpl(optionalhook=True)  # unknown without pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let xdist choose unless the tests are distributed by file."""
    return make_scheduler(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(scope="session", autouse=True)
def separate_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Use a temporary cache folder, also in subprocesses."""
    os.environ["MELRAY_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def esc10() -> list[Path]:
    """Return the clips of ESC-10; skip the test where they are missing."""
    clips = sorted(ESC10.glob("*/*.ogg"))
    if not clips:
        pytest.skip(f"no ESC-10 in {ESC10}")
    return clips


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 300 kB; needs root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", folder], capture_output=True)
    if mount.returncode:
        pytest.skip("needs permission to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Callable[[Path], Path]]:
    """Return a function that gives a folder at another path, where nobody can write; needs root."""
    mounts: list[Path] = []

    def mount(folder: Path) -> Path:
        mounted = tmp_path / f"read-only {len(mounts)}"
        mounted.mkdir()
        commands = ["mount", "--bind", folder, mounted], ["mount", "-o", "remount,ro,bind", mounted]
        if any(subprocess.run(command, capture_output=True).returncode for command in commands):
            pytest.skip("needs permission to mount a file system")
        mounts.append(mounted)
        return mounted

    yield mount
    for mounted in mounts:
        subprocess.run(["umount", "-l", mounted], check=True)
