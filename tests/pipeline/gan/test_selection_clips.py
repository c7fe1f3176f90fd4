"""No clip both selects the epoch of a generator and scores it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from pipeline.data.split import Split
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.selection_clips import scored_rows, selection_rows
from pipeline.io.errors import UserError

RUN = Path("run")
LABELS = np.arange(120) % 3
# Recordings of two clips of a class.
GROUPS = np.arange(120) // 6 * 3 + LABELS
DATASET = cast(Any, SimpleNamespace(labels=LABELS, table=pd.DataFrame({"split_group": GROUPS})))
NOTHING = np.zeros(0, int)


def rows(split: Split, **settings: Any) -> tuple[np.ndarray, np.ndarray]:
    config = TrainGanConfig(shards=Path("shards"), run=RUN, **settings)
    return selection_rows(DATASET, split, config), scored_rows(DATASET, split, config, RUN)


def test_validation_clips_are_divided_by_recording_and_class(caplog: pytest.LogCaptureFixture) -> None:
    val = np.arange(60, 120)
    selecting, scored = rows(Split(np.arange(60), val, NOTHING))
    assert sorted([*selecting, *scored]) == val.tolist() and not caplog.text
    assert not set(GROUPS[selecting]) & set(GROUPS[scored])
    assert np.bincount(LABELS[selecting]).tolist() == np.bincount(LABELS[scored]).tolist() == [10, 10, 10]


def test_held_out_fold_scores_and_all_validation_clips_select() -> None:
    selecting, scored = rows(Split(np.arange(60), np.arange(60, 90), np.arange(90, 120)))
    assert selecting.tolist() == list(range(60, 90)) and scored.tolist() == list(range(90, 120))


@pytest.mark.parametrize("val", [np.array([60, 63]), np.arange(60, 66)[:3]])
def test_few_clips_do_both_and_it_is_said(val: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    selecting, scored = rows(Split(np.arange(60), val, NOTHING))
    assert selecting.tolist() == scored.tolist() == val.tolist()
    assert f"selected on the {len(val)} validation clips that score it" in caplog.text


def test_all_clips_score_if_nothing_is_selected() -> None:
    val = np.arange(60, 120)
    selecting, scored = rows(Split(np.arange(60), val, NOTHING), select_best=False)
    assert not len(selecting) and scored.tolist() == val.tolist()


def test_without_other_clips_than_those_trained_on_there_is_no_score() -> None:
    with pytest.raises(UserError, match="trained on all clips; no held-out clips to compare with"):
        rows(Split(np.arange(120), NOTHING, NOTHING))
