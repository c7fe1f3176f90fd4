"""Tables of work units become one table and one submission, whose rows are in the order of the plan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipeline.classifier.prediction import merge
from pipeline.classifier.prediction.merge import merge_predictions
from pipeline.classifier.prediction.tables import unit_table, write_unit
from pipeline.classifier.submission.plan import plan_submission
from pipeline.classifier.submission.sample import SampleSubmission
from pipeline.distributed.batch_job import BatchJob
from pipeline.io.errors import UserError

NAMES = ("dog", "rain")
CLIPS = pd.DataFrame({"clip_id": [f"{number}.wav" for number in range(10)], "path": "/x"})


@pytest.fixture
def job(tmp_path: Path) -> BatchJob:
    """Job of five units of two clips, whose tables are written."""
    job = BatchJob("testing", CLIPS, 2, None, tmp_path / ".parts")
    for unit in job.units:
        clips = unit.read_clips()
        numbers = [int(clip["clip_id"][0]) for clip in clips]
        reasons = ["empty file" if number == 4 else "" for number in numbers]
        warnings = ["truncated" if number == 7 else "" for number in numbers]
        probabilities = np.array([[number / 8, 1 - number / 8] for number in numbers], np.float32)
        write_unit(unit.path, unit_table(clips, reasons, warnings, probabilities, NAMES))
    return job


@pytest.mark.parametrize(("group_bytes", "num_groups"), [(1, 5), (200, 2), (1 << 20, 1)])
def test_tables_are_merged_in_order_of_plan(
    group_bytes: int, num_groups: int, job: BatchJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge, "ROW_GROUP_BYTES", group_bytes)
    merged = merge_predictions(job.units, tmp_path, plan_submission(None, CLIPS, NAMES), NAMES)
    table = pd.read_parquet(tmp_path / "predictions.parquet")
    assert table["id"].tolist() == CLIPS["clip_id"].tolist()
    assert table["p:dog"].tolist() == [number / 8 for number in range(10)]
    assert pq.read_metadata(tmp_path / "predictions.parquet").num_row_groups == num_groups
    lines = (tmp_path / "submission.csv").read_text(encoding="utf-8").splitlines()
    assert lines == ["id,label", *(f"{number}.wav,{NAMES[number < 4]}" for number in range(10))]
    assert merged.clips == 10 and [clip.clip_id for clip in merged.unreadable] == ["4.wav"]
    assert (tmp_path / "warnings.csv").read_text(encoding="utf-8").splitlines()[1:] == ["7.wav,/x,truncated"]


def test_rows_of_sample_come_from_several_tables(
    job: BatchJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge, "ROW_GROUP_BYTES", 1)
    sample = SampleSubmission(pd.DataFrame({"id": ["9", "0", "5"], "p": ["0.5"] * 3}, dtype=str), "s.csv")
    plan = plan_submission(sample, CLIPS, NAMES, positive_class="dog")
    merge_predictions(job.units, tmp_path, plan, NAMES)
    assert (tmp_path / "submission.csv").read_text(encoding="utf-8") == "id,p\n9,1.125\n0,0.0\n5,0.625\n"


def test_damaged_table_leaves_earlier_files(job: BatchJob, tmp_path: Path) -> None:
    (tmp_path / "submission.csv").write_text("earlier")
    job.units[3].path.write_bytes(b"PAR1")
    with pytest.raises(UserError, match=rf"{job.units[3].name} is damaged .*: delete it"):
        merge_predictions(job.units, tmp_path, plan_submission(None, CLIPS, NAMES), NAMES)
    assert {path.name for path in tmp_path.iterdir()} == {".parts", "submission.csv"}
    assert (tmp_path / "submission.csv").read_text(encoding="utf-8") == "earlier"
