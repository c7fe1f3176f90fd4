"""Tables whose paths are those of another computer, or start in a folder above."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from pipeline.data.manifest import ManifestConfig, read_manifest
from pipeline.io.console import logger
from pipeline.io.errors import UserError
from tests.helpers.object_store import upload_folder
from tests.helpers.s3_server import S3Server
from tests.pipeline.data.test_manifest import labels, touch

FILES = {
    "audio/dog/1.wav": "dog",
    "audio/dog/2.wav": "dog",
    "audio/cat/1.wav": "cat",
    "audio/cat/2.wav": "cat",
}


def write_table(path: Path, start: str, files: dict[str, str] = FILES, **more: str) -> Path:
    rows = [f"{start}{name},{label}" for name, label in {**files, **more}.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["path,label", *rows]))
    return path


@pytest.mark.parametrize(
    "start", ["/home/alice/esc/", "C:/Users/Alice/esc/", "/", "esc/", "data/my/esc/", "./esc/"]
)
@pytest.mark.parametrize("backslashes", [False, True])
@pytest.mark.parametrize("table", ["clips.csv", "meta/clips.csv", "audio/clips.csv"])
def test_moved_files_are_found(start: str, backslashes: bool, table: str, tmp_path: Path):
    files = {name.replace("/", "\\") if backslashes else name: label for name, label in FILES.items()}
    start = start.replace("/", "\\") if backslashes else start
    touch(tmp_path, *FILES)
    found = labels(read_manifest(write_table(tmp_path / table, start, files)))
    # Ids are paths below the folder in which the kept part of the paths is found.
    kept = {name.removeprefix("audio/"): label for name, label in FILES.items()}
    assert found == (kept if table == "audio/clips.csv" else FILES)


def test_start_that_is_left_out_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    touch(tmp_path, *FILES)
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.INFO, "melray"):
        read_manifest(write_table(tmp_path / "clips.csv", "/home/alice/esc/"))
    logger.removeHandler(caplog.handler)
    assert set(caplog.messages) == {
        "data: clips.csv (column 'path' = path, 'label' = label; 4 clips) with audio in ./, instead of "
        "/home/alice/esc/"
    }


def test_table_of_a_folder_is_found_by_moved_files(tmp_path: Path):
    files = {f"audio/{number}.wav": "ab"[number % 2] for number in range(4)}
    touch(tmp_path, *files)
    write_table(tmp_path / "clips.csv", "/home/alice/esc/", files)
    assert labels(read_manifest(tmp_path)) == files


def test_missing_file_among_moved_ones_is_named(tmp_path: Path):
    touch(tmp_path, *FILES)
    table = write_table(tmp_path / "clips.csv", "/home/alice/esc/", **{"audio/dog/3.wav": "dog"})
    found = read_manifest(table)
    assert found.warnings == [f"1 of 5 listed files do not exist, e.g. '{tmp_path / 'audio/dog/3.wav'}'"]


def test_events_of_moved_files_are_read(tmp_path: Path):
    touch(tmp_path, "night/a.wav")
    table = tmp_path / "events.csv"
    table.write_text("path,start,end,label\n/mnt/disk/night/a.wav,0,1,owl\n")
    assert labels(read_manifest(table, ManifestConfig(window=1.0))) == {"night/a.wav": "owl"}


@pytest.mark.parametrize("start", ["old/", "lists/old/"])
def test_same_name_in_another_folder_is_another_file(start: str, tmp_path: Path):
    """A relative path says in which folder a file is."""
    touch(tmp_path, "1.wav", "2.wav")
    table = write_table(tmp_path / "clips.csv", start, {"1.wav": "a", "2.wav": "b"})
    with pytest.raises(UserError, match=r"none of the 2 listed files exists"):
        read_manifest(table)


def test_most_files_must_be_found(tmp_path: Path):
    touch(tmp_path, "audio/1.wav")
    files = {f"audio/{number}.wav": "ab"[number % 2] for number in range(1, 5)}
    with pytest.raises(UserError, match=r"none of the 4 listed files exists"):
        read_manifest(write_table(tmp_path / "clips.csv", "/home/alice/esc/", files))


def test_moved_objects_are_found(server: S3Server, tmp_path: Path):
    touch(tmp_path, *FILES)
    write_table(tmp_path / "clips.csv", "/home/alice/esc/")
    bucket = server.bucket("moved", tmp_path)
    upload_folder(tmp_path, bucket)
    assert labels(read_manifest(bucket / "clips.csv")) == FILES
