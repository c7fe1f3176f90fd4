"""Console progress of training runs: one line per epoch, read from the run folders."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from pipeline.training.progress import TrainingProgress, epoch_line, step_line
from pipeline.training.run_folder import RunFolder

STEP = {
    "epoch": 2,
    "epochs": 10,
    "step": 3,
    "steps": 20,
    "steps_per_second": 4.0,
    "seconds_left": 200.0,
}
CLASSIFIER = {"epoch": 1, "train_loss": 1.25, "samples_per_second": 1234.5, "best": True}
VALIDATED = CLASSIFIER | {"val_loss": 0.5, "val_accuracy": 0.875, "val_macro_f1": 0.8}
GAN = {
    "epoch": 4,
    "discriminator_loss": 0.7,
    "generator_loss": 0.9,
    "diversity": 0.95,
    "steps_per_second": 2.5,
    "best": True,
}


@pytest.mark.parametrize(
    ("name", "progress", "expected"),
    [
        ("", STEP, "epoch 2 of 10: step 3 of 20, 4.0 steps/s, 3 min 20 s left"),
        ("fold 1", STEP, "fold 1, epoch 2 of 10: step 3 of 20, 4.0 steps/s, 3 min 20 s left"),
    ],
)
def test_step_line_shows_current_step(name: str, progress: dict[str, Any], expected: str) -> None:
    assert step_line(name, progress) == expected


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        (CLASSIFIER, "epoch 1: train loss 1.250, 1,234 samples/s"),
        (
            VALIDATED,
            "epoch 1: train loss 1.250, validation loss 0.500, accuracy 87.5%, macro-F1 0.800, "
            "1,234 samples/s, best",
        ),
        (
            VALIDATED | {"best": False},
            "epoch 1: train loss 1.250, validation loss 0.500, accuracy 87.5%, macro-F1 0.800, "
            "1,234 samples/s",
        ),
        (
            CLASSIFIER | {"val_loss": 0.5, "val_map": 0.75, "val_macro_f1": 0.8},
            "epoch 1: train loss 1.250, validation loss 0.500, macro average precision 0.750, "
            "macro-F1 0.800, 1,234 samples/s, best",
        ),
        (GAN, "epoch 4: D loss 0.700, G loss 0.900, diversity 95%, 2.5 steps/s"),
        (
            GAN | {"class_accuracy": 0.8, "frechet": 12.34},
            "epoch 4: D loss 0.700, G loss 0.900, diversity 95%, class accuracy 80%, Fréchet distance 12.3, "
            "2.5 steps/s, best",
        ),
    ],
)
def test_epoch_line_shows_metrics(metrics: dict[str, Any], expected: str) -> None:
    assert epoch_line(metrics) == expected


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path)
    run.write_history([CLASSIFIER])
    return run


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    texts = [record.getMessage() for record in caplog.records if record.name == "melray"]
    caplog.clear()
    return texts


def test_new_epochs_are_logged_once(run: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="melray"):
        progress = TrainingProgress({"fold 1": run})
        assert not progress._log_events() and messages(caplog) == []
        run.write_history([CLASSIFIER, CLASSIFIER | {"epoch": 2}, CLASSIFIER | {"epoch": 3}])
        assert progress._log_events()
        expected = [f"fold 1: epoch {epoch}: train loss 1.250, 1,234 samples/s" for epoch in (2, 3)]
        assert messages(caplog) == expected
        assert not progress._log_events() and messages(caplog) == []


def test_epochs_after_rollback_are_logged_again(run: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="melray"):
        progress = TrainingProgress({"": run})
        run.write_history([])
        assert not progress._log_events()
        run.write_history([CLASSIFIER])
        assert progress._log_events()
        assert messages(caplog) == ["epoch 1: train loss 1.250, 1,234 samples/s"]


def test_last_epoch_is_logged_on_exit(run: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="melray"):
        with TrainingProgress({"": run}):
            run.write_history([CLASSIFIER, CLASSIFIER | {"epoch": 2}])
        assert messages(caplog) == ["epoch 2: train loss 1.250, 1,234 samples/s"]


def test_heartbeat_shows_steps_of_all_runs(run: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    run.write_json("progress.json", STEP)
    progress = TrainingProgress({"a": run, "b": run, "not started": RunFolder(run.path / "missing")})
    with caplog.at_level(logging.INFO, logger="melray"):
        progress._log_heartbeat()
    line = "epoch 2 of 10: step 3 of 20, 4.0 steps/s, 3 min 20 s left"
    assert messages(caplog) == [f"a, {line}; b, {line}"]
    assert progress._render().plain == f"a, {line}\nb, {line}"


def test_finished_runs_have_no_current_step(run: RunFolder) -> None:
    run.write_json("progress.json", STEP | {"epochs": 2})
    progress = TrainingProgress({"": run})
    assert progress._render().plain == "epoch 2 of 2: step 3 of 20, 4.0 steps/s, 3 min 20 s left"
    run.write_history([CLASSIFIER, CLASSIFIER | {"epoch": 2}])
    progress._log_events()
    assert progress._render().plain == ""
