"""Tests on a GPU: skipped without one. `MELRAY_GPU_DEVICE=cpu` runs those that can on the CPU, to test them.

`benchmarks/bench_gpu.py` provides the clips (`MELRAY_GPU_DATA`), and gets the outcome of each test as soon as
it is known (`MELRAY_GPU_OUTCOMES`), so that a hang in one does not hide the others.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from benchmarks.gpu_data import write_clips, write_random_shards
from tests.helpers.gpu import DEVICE


@pytest.fixture(scope="session", autouse=True)
def gpu() -> None:
    """Skip all tests on a host without a GPU."""
    if DEVICE.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU that torch can use")


@pytest.fixture(autouse=True)
def threads() -> None:
    """Use a few CPUs: other test files run at the same time."""
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def clips(gpu: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return shards of synthesized clips of ten classes, and a folder of unlabeled clips."""
    folder = os.environ.get("MELRAY_GPU_DATA")
    if folder:
        return Path(folder) / "shards", Path(folder) / "data" / "test"
    return write_clips(tmp_path_factory.mktemp("clips"), 12)


@pytest.fixture(scope="session")
def random_shards(gpu: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return shards of 80 random spectrograms of four classes."""
    seconds = 5.0 if DEVICE.type == "cuda" else 0.5
    return write_random_shards(tmp_path_factory.mktemp("random") / "shards", 80, classes=4, seconds=seconds)


def pytest_runtest_logstart(nodeid: str, location: object) -> None:
    """Record that a test has started; a test that hangs is killed with its process."""
    _record(nodeid, "failed", 0.0, "did not finish")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Record the outcome of a test."""
    if report.when == "call" or report.outcome != "passed":
        crash = getattr(report.longrepr, "reprcrash", None)
        message = crash.message if crash else str(report.longrepr or "")
        _record(report.nodeid, report.outcome, report.duration, message)


def _record(name: str, outcome: str, seconds: float, message: str) -> None:
    path = os.environ.get("MELRAY_GPU_OUTCOMES")
    if path:
        event = {"name": name, "outcome": outcome, "seconds": seconds, "message": message[:400]}
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")
