"""Commands of the GAN on a GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.gpu import ONE_GPU, melray


@pytest.fixture(scope="module")
def trained(clips: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a GAN for a few steps."""
    run = tmp_path_factory.mktemp("gan") / "run"
    flags = ["--epochs", 1, "--epoch-steps", 10, "--samples-per-class", 1, "--no-select-best"]
    melray("train-gan", "--shards", clips[0], "--run", run, *flags, *ONE_GPU)
    return run


def test_generation_writes_audio_files(trained: Path, tmp_path: Path) -> None:
    melray("generate", "--run", trained, "--out", tmp_path / "out", "--count", 2, *ONE_GPU)
    assert len(list((tmp_path / "out").rglob("*.wav"))) == 20


def test_generation_writes_shards(trained: Path, tmp_path: Path) -> None:
    melray("generate", "--run", trained, "--out", tmp_path / "out", "--count", 2, "--as-shards")
    assert json.loads((tmp_path / "out/_manifest.json").read_text())["rows"] == 20


def test_evaluation_writes_a_report(trained: Path) -> None:
    melray("evaluate", "--run", trained, "--clips-per-class", 2)
    assert (trained / "report.html").is_file()
