"""Training on all clips after validation: as a run of that length, resumable, not evaluated on its clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.config import ConfigError
from pipeline.classifier import train
from pipeline.classifier.command_configs import EvaluateConfig
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.evaluate import evaluate
from pipeline.classifier.train import begin_run, describe_result
from pipeline.data.split_record import SPLIT_NAME, read_split_record, trained_clips
from pipeline.io.errors import UserError
from pipeline.training.model_file import load_classifier
from pipeline.training.run_folder import RunFolder
from tests.helpers.classifier_training import interrupted_at, train_run
from tests.helpers.html_page import Page
from tests.helpers.label_sets import write_label_set_shards
from tests.helpers.runs import load_weights, tensors_equal
from tests.helpers.sounds import SMALL_NETWORK, train_config

pytestmark = pytest.mark.usefixtures("single_thread")


def refit_settings(shards: Path, run: Path, **overrides: object) -> TrainClassifierConfig:
    # The best of six epochs is not the last one.
    settings = {"refit": True, "fold": 1, "epochs": 6, "warmup_epochs": None, "learning_rate": 1e-2}
    return train_config(shards, run, **settings | {"model": SMALL_NETWORK} | overrides)


@pytest.fixture(scope="module")
def undisturbed(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("refit") / "run"
    torch.set_num_threads(1)
    train_run(refit_settings(shards, run))
    return run


def test_refit_equals_run_on_all_clips(undisturbed: Path, shards: Path, tmp_path: Path) -> None:
    epochs = RunFolder(undisturbed / "validated").read_json("summary.json")["best_epoch"]
    settings = {"refit": False, "val_fraction": 0.0, "epochs": epochs}
    train_run(refit_settings(shards, tmp_path / "run", **settings))
    weights = load_weights(undisturbed)
    assert tensors_equal(weights, load_weights(tmp_path / "run"))
    assert not tensors_equal(weights, load_weights(undisturbed / "validated"))
    history = RunFolder(undisturbed).read_history()
    assert [metrics["epoch"] for metrics in history] == list(range(1, epochs + 1))


def test_validated_part_equals_ordinary_run(undisturbed: Path, shards: Path, tmp_path: Path) -> None:
    train_run(refit_settings(shards, tmp_path / "run", refit=False))
    assert tensors_equal(load_weights(tmp_path / "run"), load_weights(undisturbed / "validated"))


def test_calibration_is_that_of_validated_model(undisturbed: Path) -> None:
    metadata = load_classifier(undisturbed).metadata
    validated = load_classifier(undisturbed / "validated").metadata
    assert metadata.temperature == validated.temperature != 1.0
    record = metadata.training["validated"]
    assert record["epoch"] == validated.training["epoch"]
    assert record["val_accuracy"] == validated.training["val_accuracy"]
    assert "val_accuracy" not in metadata.training
    assert metadata.training["config"]["val_fraction"] == 0.0


def test_summary_says_what_was_validated(undisturbed: Path) -> None:
    summary = RunFolder(undisturbed).read_json("summary.json")
    assert summary["validated"] == RunFolder(undisturbed / "validated").read_json("summary.json")
    assert summary["epochs"] == summary["validated"]["best_epoch"] and "val_accuracy" not in summary
    text = describe_result(summary)
    assert text.startswith("validated: 6 epochs in ")
    assert f"; then trained on all clips: {summary['epochs']} epoch" in text


def test_recorded_split_includes_validation_clips(undisturbed: Path) -> None:
    record = read_split_record(undisturbed / SPLIT_NAME)
    validated = read_split_record(undisturbed / "validated" / SPLIT_NAME)
    assert record is not None and validated is not None
    assert set(record["split"]) == {"train", "held-out"}
    assert set(trained_clips(record)["clip_id"]) == set(
        validated.loc[validated["split"] != "held-out", "clip_id"]
    )


def test_evaluation_on_validation_clips_is_refused(undisturbed: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"trained on these clips too \(--refit\).* --run .*/validated, or"):
        evaluate(EvaluateConfig(run=undisturbed, split="validation"))
    metrics = evaluate(EvaluateConfig(run=undisturbed, out=tmp_path))
    assert metrics["split"] == "fold 1, held out"
    assert "those of the validated model" in Page((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert evaluate(EvaluateConfig(run=undisturbed / "validated", split="validation", out=tmp_path))["clips"]


@pytest.mark.parametrize("step", [5, 17, 33])
def test_interrupted_refit_equals_undisturbed(
    undisturbed: Path, shards: Path, tmp_path: Path, step: int
) -> None:
    """The run with validation takes 18 steps; then follow those of the run on all clips."""
    config = refit_settings(shards, tmp_path / "run")
    with interrupted_at(step):
        train_run(config)
    train_run(config)
    assert tensors_equal(load_weights(undisturbed), load_weights(config.run))
    assert (
        load_classifier(config.run).metadata.temperature == load_classifier(undisturbed).metadata.temperature
    )


def test_refit_interrupted_before_summary_is_finished(
    undisturbed: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = refit_settings(shards, tmp_path / "run")
    finish_run = train.finish_run

    def interrupted_finish(config: TrainClassifierConfig, *args: Any) -> dict[str, Any]:
        if config.refit:
            raise KeyboardInterrupt
        return finish_run(config, *args)

    monkeypatch.setattr(train, "finish_run", interrupted_finish)
    with pytest.raises(KeyboardInterrupt):
        train_run(config)
    monkeypatch.setattr(train, "finish_run", finish_run)
    assert not (config.run / "summary.json").exists()
    train_run(config)
    assert tensors_equal(load_weights(undisturbed), load_weights(config.run))
    assert load_classifier(config.run).metadata.training["validated"]


def test_run_with_refit_needs_same_command(undisturbed: Path, shards: Path) -> None:
    with pytest.raises(UserError, match=r"contains a run with refit = True \(requested False\)"):
        begin_run(refit_settings(shards, undisturbed, refit=False))


def test_refit_without_validation_is_refused(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--refit needs validation clips.*--val-fraction"):
        refit_settings(shards, tmp_path, val_fraction=0.0)


def test_impossible_validation_leaves_no_run(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--val-split: 99 folds requested"):
        begin_run(refit_settings(shards, tmp_path / "run", val_split=(1, 99)))
    assert not (tmp_path / "run").exists()


def test_explicit_warmup_shrinks_with_the_epochs(shards: Path, tmp_path: Path) -> None:
    config = refit_settings(shards, tmp_path / "run", warmup_epochs=3.0)
    folder = RunFolder(config.run / "validated")
    folder.path.mkdir(parents=True)
    folder.write_json("summary.json", {"epochs": 6, "best_epoch": 2, "total_seconds": 1.0})
    settings = train.refit_config(config)
    assert (settings.epochs, settings.num_warmup_epochs) == (2, 1.0)


def test_multi_label_refit_keeps_validated_thresholds(tmp_path: Path) -> None:
    shards = write_label_set_shards(tmp_path / "shards")
    train_run(train_config(shards, tmp_path / "run", refit=True, epochs=2))
    thresholds = load_classifier(tmp_path / "run").metadata.thresholds
    assert thresholds is not None
    validated = load_classifier(tmp_path / "run/validated").metadata.thresholds
    np.testing.assert_array_equal(thresholds, validated)
