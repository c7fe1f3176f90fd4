"""Workers and trials that share one GPU."""

from __future__ import annotations

from pathlib import Path

from pipeline.training.run_folder import RunFolder
from tests.helpers.gpu import DEVICE, HALF_GPU, melray

HALF_GPU_PER_TRIAL = ["--gpus-per-trial", "0.5"] if DEVICE.type == "cuda" else ["--device", "cpu"]


def test_two_classifier_workers_share_gpu(clips: tuple[Path, Path], tmp_path: Path) -> None:
    flags = ["--run", tmp_path / "run", "--epochs", 2, "--workers", 2, *HALF_GPU]
    melray("train-classifier", "--shards", clips[0], *flags)
    assert len(RunFolder(tmp_path / "run").read_history()) == 2


def test_two_gan_workers_share_gpu(clips: tuple[Path, Path], tmp_path: Path) -> None:
    flags = ["--epochs", 1, "--epoch-steps", 10, "--samples-per-class", 1, "--no-select-best", "--workers", 2]
    melray("train-gan", "--shards", clips[0], "--run", tmp_path / "run", *flags, *HALF_GPU)
    assert len(RunFolder(tmp_path / "run").read_history()) == 1


def test_two_trials_share_gpu(clips: tuple[Path, Path], tmp_path: Path) -> None:
    flags = ["--run", tmp_path / "run", "--trials", 2, "--max-epochs", 1, "--max-concurrent", 2]
    result = melray("tune", "--shards", clips[0], *flags, *HALF_GPU_PER_TRIAL)
    assert "failed" not in result.stdout
