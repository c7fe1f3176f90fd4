"""Lists of the files of a split next to class folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.data.manifest import Manifest, read_manifest
from pipeline.io.errors import UserError
from tests.helpers.s3_server import S3Server
from tests.pipeline.data.test_manifest import touch

FILES = [
    "cat/1.wav",
    "cat/2.wav",
    "cat/3.wav",
    "cat/4.wav",
    "dog/1.wav",
    "dog/2.wav",
    "dog/3.wav",
    "dog/b c.wav",
]
NOTE = "leaving out {} of other splits ({}); to use them, move these lists away"


def write(root: Path, **lists: str | bytes) -> Path:
    """Write clips, and lists by their names without ending."""
    touch(root, *FILES)
    for name, text in lists.items():
        (root / f"{name}.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def ids(manifest: Manifest) -> list[str]:
    return manifest.clips["clip_id"].tolist()


def test_clips_of_held_out_lists_are_left_out(tmp_path: Path):
    write(tmp_path, testing_list="cat/1.wav\ndog/1.wav\n", validation_list="cat/2.wav\n")
    found = read_manifest(tmp_path)
    assert ids(found) == ["cat/3.wav", "cat/4.wav", "dog/2.wav", "dog/3.wav", "dog/b c.wav"]
    counts = "2 in 'testing_list.txt', 1 in 'validation_list.txt'"
    assert found.warnings == [NOTE.format("3 clips", counts)]


@pytest.mark.parametrize(
    "line",
    [
        "dog/b c.wav", "./dog/b c.wav", "dog\\b c.wav", "dog/b c", "sounds/dog/b c.wav", "b c.wav", "b c",
        "/data/sounds/dog/b c.wav\r", "dog/b c.wav\tdog", "dog/b c.wav,dog", "  dog/b c.wav  ", "dog/b c|1",
    ],
)  # fmt: skip
def test_paths_are_recognized_as_people_write_them(line: str, tmp_path: Path):
    found = read_manifest(write(tmp_path, test=f"\n{line}\n"))
    assert ids(found) == [name for name in FILES if name != "dog/b c.wav"]


def test_class_may_follow_a_path(tmp_path: Path):
    found = ids(read_manifest(write(tmp_path, test="dog/2.wav 1\ncat/3.wav 0\n")))
    assert found == [name for name in FILES if name not in ("dog/2.wav", "cat/3.wav")]


@pytest.mark.parametrize("line", ["1.wav", "bird/1.wav", "t/1.wav", "dog/1.mp3", "g/1.wav", "hello", "/"])
def test_other_lines_are_no_clips(line: str, tmp_path: Path):
    """Two clips are named `1.wav`; a part of a folder's name is another folder."""
    found = read_manifest(write(tmp_path, test=f"{line}\n"))
    assert ids(found) == FILES and not found.warnings


def test_without_the_listed_clips_of_training_others_are_left_out(tmp_path: Path):
    """As in the fault-filtered lists of GTZAN, which leave out damaged clips."""
    lists = {"train_filtered": "cat/1.wav\ncat/2.wav\ndog/1.wav\ndog/3.wav\n", "test_filtered": "dog/2.wav\n"}
    found = read_manifest(write(tmp_path, **lists))
    assert ids(found) == ["cat/1.wav", "cat/2.wav", "dog/1.wav", "dog/3.wav"]
    counts = "1 in 'test_filtered.txt', 3 not in 'train_filtered.txt'"
    assert found.warnings == [NOTE.format("4 clips", counts)]


def test_clip_of_several_lists_is_held_out(tmp_path: Path):
    found = read_manifest(write(tmp_path, train="cat/1.wav\ncat/2.wav\ndog/1.wav\n", test="dog/1.wav\n"))
    assert ids(found) == ["cat/1.wav", "cat/2.wav"]
    assert found.warnings[1:2] == ["lists leave no clip of 'dog' for training"]


def test_lines_without_clip_are_counted(tmp_path: Path):
    found = read_manifest(write(tmp_path, test="cat/1.wav\ncat/1.wav\ncat/9.wav\n"))
    assert found.warnings[0] == "2 lines of the list 'test.txt': no clip, or one of another line"


def test_all_clips_are_read_if_lists_leave_none(tmp_path: Path):
    """As if only the test set was downloaded."""
    found = read_manifest(write(tmp_path, testing_list="\n".join(FILES)))
    assert ids(found) == FILES
    assert found.warnings == ["lists leave no clip for training (8 in 'testing_list.txt'): reading all clips"]


def test_other_texts_are_no_lists(tmp_path: Path):
    texts = {"LICENSE": "cat/1.wav\n", "train_test": "cat/1.wav\n", "test_notes": "cats and dogs\n"}
    found = read_manifest(write(tmp_path, **texts))
    assert ids(found) == FILES and not found.warnings


def test_list_that_is_no_text_is_reported(tmp_path: Path):
    found = read_manifest(write(tmp_path, test=b"cat/\xff\xfe1.wav\n"))
    assert ids(found) == FILES
    assert len(found.warnings) == 1
    assert found.warnings[0].startswith(
        f"not read as a list of clips: --data {tmp_path / 'test.txt'}: not UTF-8"
    )


def test_list_in_the_training_split_is_read(tmp_path: Path):
    write(tmp_path / "train", val="cat/1.wav\n")
    touch(tmp_path, "test/1.wav")
    assert len(ids(read_manifest(tmp_path))) == len(FILES) - 1


def test_list_next_to_nested_classes_is_read(tmp_path: Path):
    write(tmp_path / "speech_commands", testing_list="cat/1.wav\n")
    assert len(ids(read_manifest(tmp_path))) == len(FILES) - 1


def test_list_as_data_has_the_clips_to_read(tmp_path: Path):
    """The held-out split of the folder, to evaluate a model on."""
    write(tmp_path, testing_list="cat/1.wav\ndog/b c.wav\n")
    found = read_manifest(tmp_path / "testing_list.txt")
    assert dict(zip(ids(found), found.clips["label"], strict=True)) == {
        "cat/1.wav": "cat",
        "dog/b c.wav": "dog",
    }
    # Together they are the folder without lists.
    training = ids(read_manifest(tmp_path))
    assert sorted(training + ids(found)) == FILES


def test_list_of_unknown_files_is_an_error(tmp_path: Path):
    write(tmp_path, testing_list="bird/1.wav\n")
    message = r"testing_list\.txt: none of its 1 line is a recording in class folders .* e\.g\. 'bird/1\.wav'"
    with pytest.raises(UserError, match=message):
        read_manifest(tmp_path / "testing_list.txt")


def test_list_in_object_store_is_read(server: S3Server, tmp_path: Path):
    bucket = server.bucket("lists", tmp_path)
    for name in FILES:
        (bucket / name).write_bytes(name.encode())
    (bucket / "testing_list.txt").write_text("cat/1.wav\n")
    server.reset()
    assert len(ids(read_manifest(bucket))) == len(FILES) - 1
    assert server.requests()["GET"] == 1
    assert ids(read_manifest(bucket / "testing_list.txt")) == ["cat/1.wav"]
