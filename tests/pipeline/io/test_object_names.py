"""Objects with unusual names: URIs round-trip, and they are found and read like any other file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from pipeline.audio.decode import AudioDecodeError
from pipeline.audio.features import load_clip
from pipeline.data.manifest import read_manifest
from pipeline.data.unlabeled import read_unlabeled
from pipeline.io.remote_path import RemotePath
from pipeline.io.storage import to_path
from tests.helpers.object_store import gcs_bucket, s3_bucket
from tests.helpers.sounds import SMALL_FEATURES

WAV = b"RIFF\x24\0\0\0WAVEfmt "
NAMES = ["what?.wav", "a?b=c.wav", "50%.wav", "%20.wav", "#1.wav", "a b.wav", "ü+&.wav", "a\\b.wav", "c?"]


@pytest.fixture(scope="module", params=["s3", "gs"])
def bucket(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "gs":
        with gcs_bucket("odd") as path:
            yield path
    else:
        with s3_bucket("odd") as (path, _):
            yield path


@pytest.mark.parametrize("options", ["", "scheme=http", "endpoint_override=127.0.0.1%3A9&scheme=http"])
@pytest.mark.parametrize(
    "key",
    [*(f"bucket/{name}" for name in NAMES), "bucket/a//b.wav", "bucket/new\nline", "bucket/x?a=" + "a=" * 60],
)
def test_any_key_round_trips_through_uri(key: str, options: str):
    path = RemotePath("s3", key, options)
    assert to_path(str(path)) == path and to_path(str(path)).key == key
    assert str(path).startswith(f"s3://{key}")


def test_objects_of_any_name_are_clips(bucket: Any):
    folder = bucket / "clips"
    for name in NAMES:
        (folder / name).write_bytes(WAV)
    clips = read_unlabeled(folder).clips
    assert clips["clip_id"].tolist() == sorted(NAMES)
    assert all(to_path(path).read_bytes() == WAV for path in clips["path"])
    (folder / "list.txt").write_text("".join(f"{path}\n" for path in [*NAMES, clips["path"][0]]))
    listed = read_unlabeled(folder / "list.txt").clips
    assert set(listed["path"]) == set(clips["path"]) and set(listed["size"]) == {len(WAV)}


def test_table_in_bucket_finds_equivalent_names(bucket: Any, tmp_path: Any):
    folder = bucket / "table"
    for name in ("dog/1.wav", "rain/A.WAV"):
        (folder / name).write_bytes(WAV)
    (tmp_path / "local.wav").write_bytes(WAV)
    (folder / "clips.csv").write_text(
        f"path;label\ndog\\1;a\n./x/../rain/a.wav;b\n{tmp_path}/local.wav;c\nnone/2.wav;d\n"
    )
    manifest = read_manifest(folder / "clips.csv")
    found = dict(zip(manifest.clips["label"], manifest.clips["size"], strict=True))
    assert found == {"a": len(WAV), "b": len(WAV), "c": len(WAV), "d": -1}
    assert any(warning.startswith("1 of 4 listed files do not exist") for warning in manifest.warnings)


def test_key_with_empty_part_is_rejected_with_reason(bucket: Any):
    if bucket.scheme != "s3":
        pytest.skip("such keys are listed on S3 only")
    endpoint = str(bucket).partition("endpoint=")[2].partition("&")[0]
    requests.put(f"{endpoint}/odd/data/dog//1.wav", WAV, timeout=10).raise_for_status()
    (bucket / "data/rain/1.wav").write_bytes(WAV)
    clips = read_manifest(bucket / "data").clips
    assert clips["clip_id"].tolist() == ["dog//1.wav", "rain/1.wav"]
    with pytest.raises(AudioDecodeError, match=r"unreadable: .*empty path segment"):
        load_clip(clips["path"][0], SMALL_FEATURES)
