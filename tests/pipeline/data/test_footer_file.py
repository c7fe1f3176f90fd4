"""The file with the footers of all shards, by which an extraction without changes is quick."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.data.footer_file import FOOTERS_NAME, FooterFile
from pipeline.data.shards import read_shard_footer
from pipeline.distributed.batch_job import StageBuilder, UnitResult, run_in_process
from pipeline.distributed.work_unit import WorkUnit
from pipeline.extract import extract
from pipeline.io.errors import UserError
from tests.helpers.s3_server import S3Server, s3_server
from tests.helpers.sounds import extract_config, write_tones


def run_never(units: list[WorkUnit], stages: list[StageBuilder]) -> list[UnitResult]:
    raise AssertionError(f"{len(units)} units were run")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    data = write_tones(tmp_path / "data", clips=12)
    (data / "train" / "tone 0" / "1-0000-0.wav").write_text("not audio")
    return data


@pytest.fixture
def shards(data: Path, tmp_path: Path) -> Path:
    extract(extract_config(data, tmp_path / "shards", copies=0), run_in_process)
    return tmp_path / "shards"


def test_file_has_the_footer_of_every_shard(shards: Path):
    known = FooterFile(shards).read()
    paths = sorted(shards.glob("part-*"))
    assert len(paths) == 5
    assert known == {path.name: (path.stat().st_size, read_shard_footer(path)) for path in paths}
    assert sum(summary.info.rejected for _, summary in known.values()) == 1


@pytest.mark.parametrize("content", [None, b"", b"half"], ids=["missing", "empty", "damaged"])
def test_unusable_file_is_made_again(content: bytes | None, data: Path, shards: Path):
    before = {path.name: path.read_bytes() for path in shards.iterdir()}
    (shards / FOOTERS_NAME).unlink()
    if content is not None:
        (shards / FOOTERS_NAME).write_bytes(content)
    assert FooterFile(shards).read() == {}
    extract(extract_config(data, shards, copies=0), run_never)
    assert {path.name: path.read_bytes() for path in shards.iterdir()} == before


def test_unchanged_dataset_is_not_written(data: Path, shards: Path):
    times = {path.name: path.stat().st_mtime_ns for path in shards.iterdir()}
    extract(extract_config(data, shards, copies=0), run_never)
    assert {path.name: path.stat().st_mtime_ns for path in shards.iterdir()} == times


def test_edited_list_of_rejected_clips_is_made_again(data: Path, shards: Path):
    before = (shards / "rejected.csv").read_bytes()
    (shards / "rejected.csv").write_text("edited")
    (shards / "warnings.csv").unlink()
    extract(extract_config(data, shards, copies=0), run_never)
    assert (shards / "rejected.csv").read_bytes() == before and (shards / "warnings.csv").is_file()


def test_shard_cut_short_is_detected(data: Path, shards: Path):
    shard = min(shards.glob("part-*"))
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(UserError, match=f"{shard.name} is incomplete"):
        extract(extract_config(data, shards, copies=0), run_never)


def test_deleted_shard_is_made_again(data: Path, shards: Path):
    shard = min(shards.glob("part-*"))
    before = shard.read_bytes()
    shard.unlink()
    extract(extract_config(data, shards, copies=0), run_in_process)
    assert shard.read_bytes() == before
    assert FooterFile(shards).read().keys() == {path.name for path in shards.glob("part-*")}


def second_extraction_requests(server: S3Server, data: Path, out: Any) -> Counter[str]:
    config = extract_config(data, out, copies=0)
    extract(config, run_in_process)
    server.reset()
    extract(config, run_never)
    return server.requests()


def test_second_extraction_to_bucket_takes_few_requests(tmp_path: Path):
    with s3_server() as server:
        few = second_extraction_requests(
            server, write_tones(tmp_path / "few", clips=4), server.bucket("few") / "out"
        )
        many = second_extraction_requests(
            server, write_tones(tmp_path / "many", clips=40), server.bucket("many") / "out"
        )
        assert few == many, "depends on the number of shards"
