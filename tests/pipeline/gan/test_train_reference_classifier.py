"""Selection classifiers that a run finds in its folder, left by a command that failed early."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.train import train_in_process
from pipeline.data.dataset import open_dataset
from pipeline.data.split import split_rows
from pipeline.data.split_record import read_split_record, trained_clips
from pipeline.gan import train_reference_classifier
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.train_reference_classifier import (
    delete_selection_classifier_of_other_clips,
    train_selection_classifier,
)
from pipeline.training.run_folder import RunFolder
from tests.helpers.sounds import gan_config, write_shards


@pytest.fixture(autouse=True)
def training_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train for an epoch, without worker processes."""

    def train(runs: dict[str, TrainClassifierConfig], *_: object) -> None:
        for config in runs.values():
            train_in_process(config, RunFolder(config.run).acquire())

    monkeypatch.setattr(train_reference_classifier, "train_concurrently", train)
    monkeypatch.setattr(train_reference_classifier, "EPOCHS", 1)
    monkeypatch.setattr(train_reference_classifier, "MIN_EPOCHS", 1)


def classifier_clips(config: TrainGanConfig) -> set[str]:
    """Return the ids of the clips that the selection classifier of a run was trained on."""
    record = read_split_record(config.run / "reference_classifiers/selection/split.parquet")
    assert record is not None
    return set(trained_clips(record)["clip_id"])


def training_clips(config: TrainGanConfig) -> set[str]:
    """Return the ids of the clips that a GAN is trained on."""
    dataset = open_dataset(config.shards)
    return set(dataset.table["clip_id"].iloc[split_rows(dataset, config).train])


@pytest.mark.parametrize(
    "changed", [{"fold": 2}, {"val_fraction": 0.6}], ids=lambda changed: next(iter(changed))
)
def test_classifier_of_another_split_is_trained_again(
    shards: Path, tmp_path: Path, changed: dict[str, object]
) -> None:
    """It was trained on clips that the other split holds out, or selects epochs by."""
    settings = {"select_best": True, "fold": 1}
    train_selection_classifier(gan_config(shards, tmp_path, **settings))
    config = gan_config(shards, tmp_path, **settings | changed)
    assert classifier_clips(config) != training_clips(config)
    train_selection_classifier(config)
    assert classifier_clips(config) == training_clips(config)


@pytest.mark.parametrize("fold", [1, 2])
def test_run_without_selection_keeps_no_classifier_of_another_split(
    shards: Path, tmp_path: Path, fold: int
) -> None:
    """Otherwise `generate --min-confidence` would choose clips by it."""
    train_selection_classifier(gan_config(shards, tmp_path, select_best=True, fold=1))
    delete_selection_classifier_of_other_clips(gan_config(shards, tmp_path, select_best=False, fold=fold))
    assert (tmp_path / "reference_classifiers/selection").exists() == (fold == 1)


def test_classifier_of_another_dataset_is_trained_again(shards: Path, tmp_path: Path) -> None:
    train_selection_classifier(gan_config(shards, tmp_path / "run", select_best=True))
    config = gan_config(write_shards(tmp_path, clips=14), tmp_path / "run", select_best=True)
    train_selection_classifier(config)
    assert classifier_clips(config) == training_clips(config)


def test_classifier_of_the_same_clips_is_kept(shards: Path, tmp_path: Path) -> None:
    weights = tmp_path / "reference_classifiers/selection/model.safetensors"
    train_selection_classifier(gan_config(shards, tmp_path, select_best=True))
    trained = weights.stat().st_mtime_ns
    train_selection_classifier(gan_config(shards, tmp_path, select_best=True, batch_size=4))
    assert weights.stat().st_mtime_ns == trained
