"""A GPU without enough memory."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from benchmarks.gpu_data import write_random_shards
from tests.helpers.gpu import DEVICE, ONE_GPU
from tests.helpers.processes import run_command


@pytest.mark.skipif(DEVICE.type != "cuda", reason="would fill the memory of the host")
def test_lack_of_gpu_memory_is_one_line(tmp_path: Path) -> None:
    # The first layer has one output of 170 GB: the allocation fails at once and disturbs no other test.
    shards = write_random_shards(tmp_path / "shards", 256, classes=4, seconds=30.0)
    flags = ["--val-fraction", 0, "--batch-size", 256, "--precision", "fp32", "--model.channels", 4096]
    start_time = time.monotonic()
    result = run_command(
        *("train-classifier", "--shards", shards, "--run", tmp_path / "run", *flags),
        *("--model.convs-per-block", 1, "--cpus", 4, *ONE_GPU),
        timeout=100,
    )
    assert result.returncode == 2, result.stderr[-300:]
    last_line = result.stderr.strip().splitlines()[-1]
    assert "out of GPU memory" in last_line and "--batch-size" in last_line, last_line
    assert "Traceback" not in result.stderr
    assert "resuming" not in result.stderr, "it was retried"
    assert time.monotonic() - start_time < 75
