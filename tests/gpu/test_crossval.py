"""Cross-validation on a GPU."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.gpu import melray


def test_crossval_trains_all_folds(clips: tuple[Path, Path], tmp_path: Path) -> None:
    flags = ["--run", tmp_path / "run", "--num-folds", 2, "--epochs", 1]
    assert "accuracy" in melray("crossval", "--shards", clips[0], *flags).stdout
