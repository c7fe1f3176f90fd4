"""Keeps tests to one thread, to a cache of their own, and to a quiet Ray."""

from __future__ import annotations

import os

# Before numpy and torch are loaded: later they no longer look.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
os.environ.update(RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0")
# Ray's workers give way to all other processes by default: beside other work on the machine, tests would run into their time limits.
os.environ.update(RAY_worker_niceness="0")

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ESC10 = Path(__file__).parents[2] / "shared/data/esc10"


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Also for the processes that tests start."""
    os.environ["MELRAY_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def esc10() -> list[Path]:
    """The clips of ESC-10, where they are."""
    clips = sorted(ESC10.glob("*/*.ogg"))
    if not clips:
        pytest.skip(f"no ESC-10 in {ESC10}")
    return clips


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 kB, which only root can make."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", folder], capture_output=True)
    if made.returncode:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)
