"""Tables of predictions of few and of thousands of classes: exact values, one request for each table."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipeline.classifier.prediction.merge import merge_predictions
from pipeline.classifier.prediction.tables import (
    MAX_CLASS_COLUMNS,
    predicted_clips,
    read_unit,
    unit_table,
    write_unit,
)
from pipeline.classifier.submission.plan import plan_submission
from pipeline.classifier.submission.sample import SampleSubmission
from pipeline.distributed.batch_job import BatchJob
from tests.helpers.s3_server import s3_server

CLIPS = pd.DataFrame({"clip_id": [f"{number}.wav" for number in range(6)], "path": "/x"})


def class_list(count: int) -> list[str]:
    return [f"class {i:04d}" for i in range(count)]


def make_probabilities(classes: int) -> np.ndarray:
    """Return probabilities of all clips `[shape=(6, classes)]`, float32."""
    return np.random.default_rng(0).dirichlet(np.full(classes, 0.1), len(CLIPS)).astype(np.float32)


def write_job(folder: Any, classes: int) -> BatchJob:
    """Write the tables of a job of three units of two clips."""
    job = BatchJob("testing", CLIPS, 2, classes, folder)
    for number, unit in enumerate(job.units):
        probabilities = make_probabilities(classes)[2 * number : 2 * number + 2]
        table = unit_table(unit.read_clips(), ["", ""], ["", ""], probabilities, class_list(classes))
        write_unit(unit.path, table)
    return job


def merge(folder: Path, classes: int, sample: SampleSubmission | None = None, **settings: Any) -> None:
    plan = plan_submission(sample, CLIPS, class_list(classes), **settings)
    merge_predictions(write_job(folder / ".parts", classes).units, folder, plan, class_list(classes))


@pytest.mark.parametrize("classes", [1, 3, 5000])
def test_unit_table_keeps_probabilities_exactly(classes: int, tmp_path: Path) -> None:
    unit = write_job(tmp_path, classes).units[1]
    clips = predicted_clips(read_unit(unit))
    expected = make_probabilities(classes)[2:4]
    assert clips.probabilities.tolist() == expected.tolist()
    assert clips.labels == [class_list(classes)[i] for i in expected.argmax(1)]
    assert pq.read_metadata(unit.path).num_columns == 6


def test_few_classes_have_a_column_each(tmp_path: Path) -> None:
    merge(tmp_path, MAX_CLASS_COLUMNS)
    table = pd.read_parquet(tmp_path / "predictions.parquet")
    names = class_list(MAX_CLASS_COLUMNS)
    assert list(table) == ["id", "label", "path", "reason", "warning", *(f"p:{name}" for name in names)]
    assert (table[[f"p:{name}" for name in names]].to_numpy() == make_probabilities(len(names))).all()
    assert not (tmp_path / "classes.json").exists()


def test_many_classes_have_a_list_and_names(tmp_path: Path) -> None:
    count = MAX_CLASS_COLUMNS + 1
    merge(tmp_path, count)
    table = pd.read_parquet(tmp_path / "predictions.parquet")
    assert list(table) == ["id", "label", "path", "reason", "warning", "probabilities"]
    assert (np.stack(table["probabilities"]) == make_probabilities(count)).all()
    names = json.loads((tmp_path / "classes.json").read_text(encoding="utf-8"))
    assert [names[i] for i in make_probabilities(count).argmax(1)] == table["label"].tolist()
    # The list of other predictions in the folder goes with them.
    merge(tmp_path, 3)
    assert not (tmp_path / "classes.json").exists()


def test_submission_has_probabilities_of_many_classes(tmp_path: Path) -> None:
    names, probabilities = class_list(1500), make_probabilities(1500)
    merge(tmp_path, 1500, requested="probability")
    whole = pd.read_csv(tmp_path / "submission.csv")
    assert list(whole) == ["id", *names]
    assert (whole[names].to_numpy(np.float32) == probabilities).all()
    sample = SampleSubmission(pd.DataFrame({"id": ["4", "0"]}), "s.csv", columns=("id", *names))
    merge(tmp_path, 1500, sample)
    chosen = pd.read_csv(tmp_path / "submission.csv")
    assert (chosen[names].to_numpy(np.float32) == probabilities[[4, 0]]).all()


def test_tables_in_object_store_take_few_requests(tmp_path: Path) -> None:
    with s3_server() as server:
        out = server.bucket() / "out"
        job = write_job(out / ".parts", 1500)
        plan = plan_submission(None, CLIPS, class_list(1500))
        server.reset()
        merge_predictions(job.units, out, plan, class_list(1500))
        # Each table is read once; predictions, classes, submission, and two lists of clips are written.
        assert server.requests() == {"GET": 3, "PUT": 5}
        table = pd.read_parquet(io.BytesIO((out / "predictions.parquet").read_bytes()))
        assert (np.stack(table["probabilities"]) == make_probabilities(1500)).all()
