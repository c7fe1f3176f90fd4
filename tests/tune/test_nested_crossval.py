"""Searches of a nested cross-validation before they start."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.io.errors import UserError
from pipeline.training.run import start_run
from tests.helpers.sounds import write_shards
from tune import nested_crossval as nested
from tune.config import NestedCrossvalConfig, SearchConfig
from tune.nested_crossval import (
    base_config,
    check_nested,
    drop_run_of_earlier_settings,
    final_training,
    fold_search,
)
from tune.search import make_spec, write_record


def test_resume_continues_folds_that_were_not_searched_yet(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("batch_size: [8, 16]")
    config = NestedCrossvalConfig(
        shards=write_shards(tmp_path, clips=8),
        run=tmp_path / "run",
        space=tmp_path / "space.yaml",
        trials=2,
        max_epochs=2,
        num_folds=2,
        resume=True,
    )
    with pytest.raises(UserError, match=r"--resume: no search in --run .*run; drop --resume to start one"):
        check_nested(config)
    first = fold_search(config, 1)
    write_record(first, make_spec(first))
    assert [fold_search(config, fold).resume for fold in (1, 2)] == [True, False]
    check_nested(config)


def test_folder_of_training_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    config = NestedCrossvalConfig(shards=tmp_path / "shards", run=tmp_path)
    with pytest.raises(UserError, match="contains a training run; choose another --run"):
        check_nested(config)


def test_settings_without_effect_on_the_evaluated_runs_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They train without validation clips, other than the trials of the search."""
    (tmp_path / "base.yaml").write_text("schedule: plateau")
    config = NestedCrossvalConfig(
        shards=write_shards(tmp_path, clips=8), run=tmp_path / "run", base=tmp_path / "base.yaml", num_folds=2
    )
    (tmp_path / "run").mkdir()

    def search(fold: SearchConfig) -> None:
        fold.run.mkdir()
        (fold.run / "best.yaml").write_text("schedule: plateau")

    def train_many(runs: dict) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(nested, "search", search)
    monkeypatch.setattr(nested, "train_many", train_many)
    with pytest.raises(KeyboardInterrupt):
        nested.nested_crossval(config)
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "runs that are evaluated: --schedule plateau without validation clips: the learning rate stays "
        "constant for half of the epochs"
    ]


def test_final_run_is_repeated_if_the_search_has_found_other_settings(tmp_path: Path) -> None:
    config = NestedCrossvalConfig(
        shards=write_shards(tmp_path, clips=8), run=tmp_path / "run", num_folds=2, max_epochs=2
    )
    first = final_training(config, base_config(config), "tuned", 1)
    start_run("train-classifier", first)
    drop_run_of_earlier_settings(first.model_copy(update={"cpus_per_worker": 1}))
    assert first.run.is_dir()
    better = first.model_copy(update={"learning_rate": 0.5 * first.learning_rate})
    drop_run_of_earlier_settings(better)
    assert not first.run.exists()
    start_run("train-classifier", better)
