"""Cross-validation without a cluster: folds, settings and folders that it refuses."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest

from models.config import ConfigError
from pipeline.classifier import train
from pipeline.classifier.config import CrossvalConfig
from pipeline.classifier.crossval import check_folder, crossval, fold_config, known_folds
from pipeline.classifier.train import begin_run, train_in_process, train_many
from pipeline.data.dataset import open_dataset
from pipeline.extract import extract
from pipeline.io.console import logger
from pipeline.io.errors import UserError
from pipeline.training.run_folder import RunFolder
from tests.helpers.sounds import extract_config, run_in_process, train_config, write_shards


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("tones"), clips=8)


def crossval_config(shards: Path, run: Path, **overrides: object) -> CrossvalConfig:
    settings = train_config(shards, run, epochs=1).model_dump() | {"val_fraction": 0.0}
    return CrossvalConfig(**settings | overrides)


def test_more_folds_than_recordings_are_refused(shards: Path, tmp_path: Path) -> None:
    config = crossval_config(shards, tmp_path / "run", num_folds=5)
    with pytest.raises(
        UserError, match=r"--num-folds: 5 folds requested, but class 'tone 0' has only 4 recordings"
    ):
        crossval(config)
    assert not config.run.exists()


def test_single_fold_is_refused(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--fold 2: crossval holds out every fold; drop --fold"):
        crossval_config(shards, tmp_path, fold=2)


@pytest.mark.parametrize(
    ("name", "content"), [("config.json", "a training run"), ("search.json", "a search")]
)
def test_folder_of_other_command_is_refused(shards: Path, tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match=f"contains {content}; choose another --run"):
        crossval(crossval_config(shards, tmp_path))


def test_folder_with_predictions_is_refused(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "predictions.parquet").touch()
    with pytest.raises(UserError, match="contains predictions; choose another --run"):
        crossval(crossval_config(shards, tmp_path))


def test_folder_of_other_kind_of_crossval_is_refused(shards: Path, tmp_path: Path) -> None:
    for name in ("tuned/search_1/search.json", "plain/fold_1/config.json"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("{}")
    check_folder(tmp_path / "tuned", tuned=True)
    with pytest.raises(UserError, match="contains a cross-validation without --tuned; choose another --run"):
        check_folder(tmp_path / "plain", tuned=True)
    with pytest.raises(UserError, match="contains a cross-validation with --tuned; choose another --run"):
        crossval(crossval_config(shards, tmp_path / "tuned"))


def test_resumed_crossval_needs_same_settings(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def train_first(pending: dict, *_: object) -> dict:
        train_in_process(next(iter(pending.values())))
        raise KeyboardInterrupt

    def train_all(pending: dict, *_: object) -> dict:
        return {name: train_in_process(config) for name, config in pending.items()}

    config = crossval_config(shards, tmp_path, num_folds=2)
    monkeypatch.setattr(train, "train_concurrently", train_first)
    with pytest.raises(KeyboardInterrupt):
        crossval(config)
    monkeypatch.setattr(train, "train_concurrently", train_all)
    for changed in ({"epochs": 2}, {"num_folds": 3}, {"seed": 1}):
        with pytest.raises(UserError, match=rf"fold_1 contains a run with {next(iter(changed))} = "):
            crossval(crossval_config(shards, tmp_path, **{"num_folds": 2} | changed))
    results = crossval(config)
    assert [fold["fold"] for fold in results["folds"]] == [1, 2]
    assert json.loads((tmp_path / "crossval.json").read_text()) == results
    assert "mean of 2 folds: accuracy" in capsys.readouterr().out
    # Not of the last command, which may have trained nothing.
    assert results["seconds"] == sum(fold["train_seconds"] for fold in results["folds"]) > 0
    assert crossval(config)["seconds"] == results["seconds"]


def test_resumed_folds_are_named(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runs = {name: train_config(shards, tmp_path / name) for name in ("fold 1", "fold 2")}
    begin_run(runs["fold 1"])
    RunFolder(runs["fold 1"].run).write_history([{"epoch": 1}, {"epoch": 2}])
    monkeypatch.setattr(train, "run_tasks", lambda *_: {})
    with caplog.at_level(logging.INFO, logger="melray"):
        train_many(runs)
    assert [text for text in caplog.messages if "resuming" in text] == ["fold 1: resuming from epoch 2"]


def test_unusable_split_leaves_no_run(shards: Path, tmp_path: Path) -> None:
    config = train_config(shards, tmp_path / "run", fold=9)
    with pytest.raises(UserError, match="--fold 9: fold not found"):
        begin_run(config)
    assert not config.run.exists()
    begin_run(train_config(shards, tmp_path / "run", fold=2))


def test_every_fold_is_held_out_once(shards: Path, tmp_path: Path) -> None:
    config = crossval_config(shards, tmp_path, num_folds=4)
    folds = known_folds(open_dataset(shards), config)
    assert folds == [1, 2, 3, 4]
    assert [fold_config(config, fold).fold for fold in folds] == folds


def test_clips_without_fold_are_reported(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def train_all(pending: dict, *_: object) -> dict:
        return {name: train_in_process(config) for name, config in pending.items()}

    files = sorted((shards.parent / "data").glob("train/*/*.wav"))
    rows = [f"{file},{file.parent.name},{file.name[0] if file.name[0] in '12' else ''}" for file in files]
    table = tmp_path / "clips.csv"
    table.write_text("\n".join(["path,label,fold", *rows]))
    extract(extract_config(table, tmp_path / "shards", fold_pattern=None), run_in_process)
    monkeypatch.setattr(train, "train_concurrently", train_all)
    monkeypatch.setattr(logger, "propagate", True)
    crossval(crossval_config(tmp_path / "shards", tmp_path / "run"))
    assert "12 clips without a fold: trained on in every run, and never scored" in caplog.text


def test_crossval_is_completed_after_its_dataset_was_moved(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_all(pending: dict, *_: object) -> dict:
        return {name: train_in_process(config) for name, config in pending.items()}

    monkeypatch.setattr(train, "train_concurrently", train_all)
    first, moved = tmp_path / "first", tmp_path / "moved"
    shutil.copytree(shards, first)
    expected = crossval(crossval_config(first, tmp_path / "run", num_folds=2))
    (tmp_path / "run" / "crossval.json").unlink()
    first.rename(moved)
    results = crossval(crossval_config(moved, tmp_path / "run", num_folds=2))
    assert results["folds"] == expected["folds"] and results["pooled"] == expected["pooled"]
