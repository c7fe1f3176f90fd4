"""Commands of the classifier on a GPU, which they use by themselves."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.helpers.gpu import DEVICE, ONE_GPU, melray

needs_gpu = pytest.mark.skipif(DEVICE.type != "cuda", reason="without a GPU there is no choice")


@pytest.fixture(scope="module")
def trained(clips: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Train a classifier with the default flags; return the run and what was printed."""
    run = tmp_path_factory.mktemp("classifier") / "run"
    result = melray("train-classifier", "--shards", clips[0], "--run", run, "--epochs", 2)
    return run, result.stderr


@needs_gpu
def test_training_uses_gpu_and_says_so(trained: tuple[Path, str]) -> None:
    assert "using 1 GPU per worker" in trained[1]
    assert "without CUDA graphs" not in trained[1]


def test_training_with_device_cpu_uses_none(clips: tuple[Path, Path], tmp_path: Path) -> None:
    flags = ["--run", tmp_path / "run", "--epochs", 1, "--device", "cpu"]
    assert not re.search("GPU", melray("train-classifier", "--shards", clips[0], *flags).stderr)


@needs_gpu
def test_evaluation_uses_gpu_and_says_so(trained: tuple[Path, str]) -> None:
    result = melray("evaluate", "--run", trained[0])
    assert "using GPU" in result.stderr
    assert (trained[0] / "report.html").is_file()


def predictions(trained: tuple[Path, str], audio: Path, out: Path, *flags: str, cpus: int = 4) -> np.ndarray:
    melray("predict", "--run", trained[0], "--audio", audio, "--out", out, *flags, cpus=cpus)
    return pd.read_parquet(out / "predictions.parquet").select_dtypes("number").to_numpy()


def test_predictions_equal_those_of_cpu(
    trained: tuple[Path, str], clips: tuple[Path, Path], tmp_path: Path
) -> None:
    on_gpu = predictions(trained, clips[1], tmp_path / "gpu")
    on_cpu = predictions(trained, clips[1], tmp_path / "cpu", "--device", "cpu")
    assert on_gpu.shape == on_cpu.shape
    assert np.allclose(on_gpu, on_cpu, atol=1e-3)


def test_prediction_with_one_cpu_does_not_hang(
    trained: tuple[Path, str], clips: tuple[Path, Path], tmp_path: Path
) -> None:
    assert len(predictions(trained, clips[1], tmp_path / "out", *ONE_GPU, cpus=1)) == 20
