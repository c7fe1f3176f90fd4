"""The script of `make gpu`, on a host without a GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.bench_gpu import read_outcomes
from benchmarks.gpu_measure import union_length
from benchmarks.gpu_rows import PartResult, Row, measured, read_part, run_attempts, table

ROOT = Path(__file__).parents[1]


def run_script(*arguments: object, timeout: float = 110) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.bench_gpu", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=timeout)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the host has a GPU")
def test_script_without_gpu_lists_its_parts() -> None:
    result = run_script()
    assert result.returncode == 0
    for name in ("correctness", "training", "inference", "extraction"):
        assert f"\n  {name} " in result.stdout


@pytest.mark.slow
def test_training_benchmark_runs_on_cpu(tmp_path: Path) -> None:
    flags = ["--device", "cpu", "--quick", "--only", "training", "--logs", tmp_path, "--results", tmp_path]
    result = run_script(*flags)
    assert "failed" not in result.stdout
    (path,) = tmp_path.glob("gpu-*.json")
    rows = json.loads(path.read_text())["training"]["rows"]
    assert {"classifier, batch 8: melray", "GAN, batch 8: melray"} <= {row["name"] for row in rows}


def test_failed_measurement_does_not_stop_others(tmp_path: Path) -> None:
    result = PartResult(tmp_path / "part.json")

    def fail() -> None:
        raise ValueError("no\nmemory")

    run_attempts(result, {"a": fail, "b": lambda: result.add(measured("b", 0.5, goal=0.9))})
    rows = read_part(tmp_path / "part.json").rows
    assert rows == [Row("a", "failed", note="ValueError: no memory"), Row("b", "missed", 0.5, goal=0.9)]


def test_table_lists_all_but_passed_tests() -> None:
    text = table({"correctness": [Row("test_a", "passed"), Row("test_b", "failed", note="why")]})
    assert "1 tests passed" in text and "test_b" in text and "test_a" not in text


def test_hanging_test_is_a_failed_row(tmp_path: Path) -> None:
    events = [
        ("tests/gpu/a.py::a", "failed"),
        ("tests/gpu/a.py::a", "passed"),
        ("tests/gpu/a.py::b", "failed"),
    ]
    lines = [
        json.dumps({"name": name, "outcome": outcome, "seconds": 0, "message": "did not finish"})
        for name, outcome in events
    ]
    (tmp_path / "outcomes").write_text("\n".join(lines))
    assert [row.outcome for row in read_outcomes(tmp_path / "outcomes")] == ["passed", "failed"]


def test_union_of_intervals_counts_overlaps_once() -> None:
    assert union_length([(5.0, 7.0), (0.0, 2.0), (1.0, 3.0), (1.5, 1.6)]) == 5.0
