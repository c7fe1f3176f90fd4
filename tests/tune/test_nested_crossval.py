"""Searches of a nested cross-validation before they start."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.io.errors import UserError
from tests.helpers.sounds import write_shards
from tune.nested_crossval import NestedCrossvalConfig, check_nested, fold_search
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
    with pytest.raises(UserError, match="contains a run of another command; choose another --run"):
        check_nested(config)
