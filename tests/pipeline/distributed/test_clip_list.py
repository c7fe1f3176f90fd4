"""Lists of clips, from which workers read those of a unit by one request."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from pipeline.distributed import clip_list
from pipeline.distributed.batch_job import BatchJob
from pipeline.distributed.clip_list import read_clip_ids
from pipeline.io.concurrent import map_concurrently
from tests.helpers.s3_server import s3_server

CLIPS = pd.DataFrame({"clip_id": [f"clip {index}" for index in range(50)], "fold": range(50)})


def test_units_read_their_clips_from_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(clip_list, "FILE_BYTES", 2000)
    units = BatchJob("testing", CLIPS, 3, None, tmp_path).units
    assert [clip for unit in units for clip in unit.read_clips()] == CLIPS.to_dict("records")
    lists = sorted({unit.list_name for unit in units})
    assert len(lists) > 2 and {path.name for path in tmp_path.iterdir()} == set(lists)
    ids = [clip_id for name in lists for clip_id in read_clip_ids(tmp_path / name)]
    assert sorted(ids) == sorted(CLIPS["clip_id"])


def test_unit_of_bucket_reads_its_clips_by_one_request():
    with s3_server() as server:
        bucket = server.bucket()
        units = BatchJob("testing", CLIPS, 3, None, bucket / "out").units
        server.reset()
        clips = map_concurrently(lambda unit: unit.read_clips(), units)
        assert [clip for unit_clips in clips for clip in unit_clips] == CLIPS.to_dict("records")
        assert server.requests() == {"GET": len(units)}
