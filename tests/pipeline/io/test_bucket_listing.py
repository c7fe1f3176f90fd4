"""Large folders of buckets are listed completely, by concurrent requests."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.io import bucket_listing
from pipeline.io.bucket_listing import list_objects
from pipeline.io.concurrent import map_concurrently
from pipeline.io.folder_tree import open_tree
from tests.helpers.s3_server import S3Server

NAMES = [
    *(f"class {index % 7}/{index}.wav" for index in range(60)),
    *(f"{index}.wav" for index in range(20)),
    "a/b/c/d/deep.wav",
    "a/empty",
]


@pytest.fixture(scope="module")
def bucket(server: S3Server) -> Any:
    bucket = server.bucket()
    for _ in map_concurrently(lambda name: (bucket / "data" / name).write_bytes(name.encode()), NAMES):
        pass
    (bucket / "data/a/empty").write_bytes(b"")
    (bucket / "data-2.wav").write_bytes(b"x")
    return bucket


def test_small_folder_takes_one_listing(server: S3Server, bucket: Any):
    server.reset()
    assert sorted(name for name, _ in list_objects(bucket / "data")) == sorted(NAMES)
    assert server.requests() == {"LIST": 1}


@pytest.mark.parametrize("max_folders", [5000, 5], ids=["split", "too many folders"])
@pytest.mark.parametrize("first", [1, 10, 50])
def test_large_folder_is_listed_completely(
    first: int, max_folders: int, bucket: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bucket_listing, "FIRST_OBJECTS", first)
    monkeypatch.setattr(bucket_listing, "MAX_FOLDERS", max_folders)
    items = list(list_objects(bucket / "data"))
    assert sorted(name for name, _ in items) == sorted(NAMES)
    assert {name: info.size for name, info in items if name != "a/empty"} == {
        name: len(name) for name in NAMES if name != "a/empty"
    }
    assert all(info.key == f"data/{name}" for name, info in items)


def test_tree_of_large_folder_is_that_of_one_listing(bucket: Any, monkeypatch: pytest.MonkeyPatch):
    whole = open_tree(bucket)
    monkeypatch.setattr(bucket_listing, "FIRST_OBJECTS", 10)
    split = open_tree(bucket)
    for folder in ("", "data", "data/a", "data/class 3", "data/a/b/c/d"):
        assert split.list(folder) == whole.list(folder)
    assert whole.list("data/a").files == []
    assert split.status("data/class 3/3.wav") == whole.status("data/class 3/3.wav")
