"""Tables of objects in object stores: the same clips as of local files, by few requests."""

from __future__ import annotations

import random
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.data.manifest import read_manifest
from pipeline.data.sources import object_status, row_values, table_reader
from pipeline.data.sources.object_status import MIN_ROWS, PAGE_OBJECTS, folders_to_list
from pipeline.data.unlabeled import read_unlabeled
from pipeline.io.errors import UserError
from pipeline.io.remote_path import RemotePath
from tests.helpers.object_store import upload_folder
from tests.helpers.s3_server import S3Server

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Café") for form in ("NFC", "NFD"))


@pytest.fixture
def bucket(server: S3Server, request: pytest.FixtureRequest) -> Any:
    return server.bucket(request.node.name.replace("_", "-").lower().translate({ord(c): "" for c in "[]/"}))


def write_objects(bucket: Any, names: list[str]) -> None:
    for name in names:
        (bucket / name).write_bytes(name.encode())


def write_table(path: Any, names: list[str]) -> Any:
    rows = "".join(f'"{name}",{"ab"[index % 2]}\n' for index, name in enumerate(names))
    path.write_bytes(f"path,label\n{rows}".encode())
    return path


def read_counted(server: S3Server, table: Any) -> tuple[pd.DataFrame, Counter[str]]:
    """Read a table; return its clips and the requests for its objects, without those for itself."""
    server.reset()
    clips = read_manifest(table).clips
    requests = server.requests()
    assert requests["GET"] == 1
    return clips, requests - Counter({"HEAD": 1, "GET": 1})


def test_objects_of_one_folder_are_listed(server: S3Server, bucket: Any, tmp_path: Path):
    names = [f"sounds/{index:04d}.wav" for index in range(1500)]
    write_objects(bucket, names)
    clips, requests = read_counted(server, write_table(bucket / "table.csv", names))
    assert requests == {"LIST": 2}
    assert clips["size"].tolist() == [15] * 1500 and (clips["mtime_ns"] > 0).all()
    uris = [str(bucket / name) for name in names]
    server.reset()
    by_uri = read_manifest(write_table(tmp_path / "table.csv", uris)).clips
    assert server.requests() == {"LIST": 2}
    assert by_uri["path"].tolist() == uris
    assert by_uri[["size", "mtime_ns"]].equals(clips[["size", "mtime_ns"]])


def test_folders_of_few_objects_are_listed_together(server: S3Server, bucket: Any):
    names = [f"{index:03d}/audio/{take}.wav" for index in range(100) for take in "12"]
    write_objects(bucket, names)
    _, requests = read_counted(server, write_table(bucket / "table.csv", names))
    assert requests == {"LIST": 1}


def test_few_objects_of_large_folder_are_requested(server: S3Server, bucket: Any):
    write_objects(bucket, [f"sounds/{index:04d}.wav" for index in range(2 * PAGE_OBJECTS)])
    few = [f"sounds/{index * 100:04d}.wav" for index in range(MIN_ROWS - 1)]
    clips, requests = read_counted(server, write_table(bucket / "few.csv", few))
    assert requests == {"HEAD": len(few)}
    more = [f"sounds/{index * 100:04d}.wav" for index in range(MIN_ROWS + 1)]
    more_clips, requests = read_counted(server, write_table(bucket / "more.csv", more))
    assert requests == {"HEAD": len(more), "LIST": 2}  # the listing ends when it gets too long
    assert more_clips.head(len(few)).drop(columns="label").equals(clips.drop(columns="label"))


def test_folders_of_long_table_are_listed_once(
    server: S3Server, bucket: Any, monkeypatch: pytest.MonkeyPatch
):
    for module in (row_values, table_reader):
        monkeypatch.setattr(module, "CHUNK_ROWS", 10)
    names = [f"{folder}/{index:03d}.wav" for folder in "abcd" for index in range(50)]
    write_objects(bucket, names)
    random.Random(0).shuffle(names)
    clips, requests = read_counted(server, write_table(bucket / "table.csv", names))
    assert clips["clip_id"].tolist() == sorted(names) and (clips["size"] > 0).all()
    assert requests == {"LIST": 4}  # and the table is requested once, although it is read twice


@pytest.mark.parametrize("min_rows", [1, 1000], ids=["listed", "requested"])
def test_names_find_objects_as_local_files(
    min_rows: int, server: S3Server, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(object_status, "MIN_ROWS", min_rows)
    files = [f"dog/{DECOMPOSED}.wav", "dog/b.flac", "dog/b.txt", "dog/C.WAV", "dog/ d.wav", "e/f.wav", "x/y"]
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    rows = [f"dog/{COMPOSED}.wav", "dog\\b", "dog/c.wav", "dog/ d.wav", " e/f.wav", "x/./y", "no/z.wav"]
    local = read_manifest(write_table(tmp_path / "table.csv", rows))
    upload_folder(tmp_path, bucket)
    remote = read_manifest(bucket / "table.csv")
    columns = ["clip_id", "label", "group", "size"]
    assert remote.clips[columns].equals(local.clips[columns])
    root = str(bucket).partition("?")[0]
    paths = [path.partition("?")[0].replace(root, str(tmp_path)) for path in remote.clips["path"]]
    assert paths == local.clips["path"].tolist()
    assert len(remote.warnings) == len(local.warnings) == 1 and "1 of 7 listed files" in remote.warnings[0]


def test_missing_endings_cost_one_list_per_folder(server: S3Server, bucket: Any):
    names = [f"{folder}/{index:03d}" for folder in "ab" for index in range(50)]
    write_objects(bucket, [f"{name}.ogg" for name in names])
    clips, requests = read_counted(server, write_table(bucket / "table.csv", names))
    assert [path.partition("?")[0][-9:] for path in clips["path"]] == [f"{name}.ogg" for name in names]
    assert requests == {"LIST": 4}  # sizes, then names


def test_name_of_several_objects_raises_with_line(server: S3Server, bucket: Any):
    names = [f"sounds/{index}" for index in range(20)]
    write_objects(bucket, [f"{name}.ogg" for name in names])
    write_objects(bucket, ["sounds/7.wav"])
    with pytest.raises(UserError, match=r"line 9: '7' can be '7.ogg' or '7.wav'"):
        read_manifest(write_table(bucket / "table.csv", names))


def test_invalid_uri_raises_with_line(tmp_path: Path):
    with pytest.raises(UserError, match="line 2: credentials in a URI"):
        read_manifest(write_table(tmp_path / "table.csv", ["s3://bucket/x.wav?secret_key=abc"]))


def test_other_splits_are_not_requested(server: S3Server, bucket: Any):
    write_objects(bucket, ["a/1.wav", "b/2.wav"])
    table = bucket / "table.csv"
    held_out = "".join(f"test/{index}.wav,a,test\n" for index in range(20))
    table.write_bytes(f"path,label,split\na/1.wav,a,train\nb/2.wav,b,train\n{held_out}".encode())
    clips, requests = read_counted(server, table)
    assert len(clips) == 2 and requests == {"HEAD": 2}


def test_missing_objects_are_found_next_to_table(server: S3Server, bucket: Any):
    write_objects(bucket, [f"data/sounds/{index}.wav" for index in range(20)])
    table = write_table(bucket / "data/table.csv", [f"{index}.wav" for index in range(20)])
    clips = read_manifest(table).clips
    assert len(clips) == 20 and clips["path"][0] == str(bucket / "data/sounds/0.wav")
    root_table = write_table(bucket / "table.csv", ["nowhere.wav"])
    with pytest.raises(UserError, match="paths are relative to the folder of the CSV"):
        read_unlabeled(root_table)


@pytest.mark.parametrize(
    ("rows", "listed"),
    [
        ({"b/x": MIN_ROWS}, {"b/x": MIN_ROWS}),
        ({"b/x": MIN_ROWS - 1}, {}),
        ({"b/x/y": 1, "b/x/z": MIN_ROWS}, {"b/x/z": MIN_ROWS}),
        ({"b/x/1/y": 4, "b/x/2/y": 4, "b/z/1/y": 2}, {"b/x": 8}),
        ({"b/x/1": 3, "b/x": 3, "b/x/2/3/4": 3}, {"b/x": 9}),
        ({"b/x/1/2/3": 5, "b/y": 5}, {"b": 10}),
        ({"b": MIN_ROWS, "c//x": MIN_ROWS}, {"b": MIN_ROWS}),
    ],
)
def test_folders_are_listed_from_enough_rows(rows: dict[str, int], listed: dict[str, int]):
    counts = {RemotePath("s3", key): count for key, count in rows.items()}
    assert folders_to_list(counts) == {RemotePath("s3", key): count for key, count in listed.items()}
