"""An extraction updates the dataset of its data, and replaces nothing else without --overwrite."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.data.output_location import check_outside_data
from pipeline.data.shard_manifest import open_shards
from pipeline.distributed.batch_job import run_in_process
from pipeline.extract import extract
from pipeline.io.errors import UserError
from pipeline.io.folder_lock import own_folder
from tests.helpers.sounds import extract_config, write_tones


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_tones(tmp_path / "data", classes=2, clips=20)


@pytest.fixture
def shards(data: Path, tmp_path: Path) -> Path:
    extract(extract_config(data, tmp_path / "shards", copies=0), run_in_process)
    return tmp_path / "shards"


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_dataset_of_other_data_needs_overwrite(shards: Path, tmp_path: Path):
    before = content(shards)
    other = write_tones(tmp_path / "other", classes=3)
    config = extract_config(other, shards, copies=0)
    message = (
        rf"--out {shards} already contains shards of {tmp_path / 'data'} \(requested {other}\); .*--overwrite"
    )
    with pytest.raises(UserError, match=message):
        extract(config, run_in_process)
    assert content(shards) == before
    assert extract(config.model_copy(update={"overwrite": True}), run_in_process).clips == 30
    assert not set(content(shards)) & {name for name in before if name.startswith("part-")}


def test_same_data_by_another_path_is_accepted(data: Path, shards: Path, tmp_path: Path):
    before = content(shards)
    (tmp_path / "link").symlink_to(data)
    for path in (tmp_path / "link", tmp_path / "shards" / ".." / "data"):
        config = extract_config(path, shards, copies=0)
        assert extract(config, run_in_process).clips == 40
    assert {name for name in content(shards) if name.startswith("part-")} != before.keys()  # paths differ


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda folder: shutil.copy(folder / "1-1000-0.wav", folder / "1-1900-0.wav"), "1 clip new, 0 gone"),
        (lambda folder: (folder / "1-1000-0.wav").unlink(), "0 clips new, 1 gone"),
        (lambda folder: (folder / "1-1000-0.wav").rename(folder / "5-1009-9.wav"), "1 clip new, 1 gone"),
        (lambda folder: os.utime(folder / "1-1000-0.wav", (1, 1)), "the same clips, other content or label"),
        (
            lambda folder: (folder / "1-1000-0.wav").write_text("no"),
            "the same clips, other content or label",
        ),
    ],
    ids=["added", "removed", "renamed", "changed", "damaged"],
)
def test_changed_data_updates_the_dataset(
    change: Callable[[Path], object],
    line: str,
    data: Path,
    shards: Path,
    caplog: pytest.LogCaptureFixture,
):
    change(data / "train" / "tone 1")
    with caplog.at_level(logging.INFO, logger="melray"):
        extract(extract_config(data, shards, copies=0), run_in_process)
        (message,) = [message for message in caplog.messages if message.startswith("updating")]
        assert message.startswith(f"updating {shards}: {line}; ")
        caplog.clear()
        extract(extract_config(data, shards, copies=0), run_in_process)
    assert not any(message.startswith("updating") for message in caplog.messages)


@pytest.mark.parametrize(
    "damage", [Path.unlink, lambda path: path.write_bytes(b"half")], ids=["gone", "half"]
)
def test_update_does_not_need_outdated_shards(
    damage: Callable[[Path], object], data: Path, shards: Path, caplog: pytest.LogCaptureFixture
):
    os.utime(data / "train" / "tone 0" / "1-0000-0.wav", (1, 1))  # a clip of the first shard
    damage(min(shards.glob("part-*")))
    with caplog.at_level(logging.INFO, logger="melray"):
        assert extract(extract_config(data, shards, copies=0), run_in_process).clips == 40
    assert f"updating {shards}: 1 of 5 shards to extract" in caplog.messages


MANIFEST_OF_GENERATED = json.dumps({"source": {"generator": "/runs/gan"}})


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"_manifest.json": MANIFEST_OF_GENERATED, "generated.csv": "x"}, "a generated dataset"),
        ({"generated.csv": "x"}, "generated audio"),
        ({"config.json": "{}", "metrics.jsonl": ""}, "a training run"),
        ({"model.safetensors": "x"}, "a training run"),
        ({"search.json": "{}"}, "a search"),
        ({"predictions.parquet": "x", "submission.csv": "x"}, "predictions"),
    ],
)
def test_results_of_other_commands_are_kept(files: dict[str, str], named: str, data: Path, tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    for name, text in files.items():
        (out / name).write_text(text, encoding="utf-8")
    before = content(out)
    with pytest.raises(UserError, match=f"^--out {out} contains {named}; choose another --out"):
        extract(extract_config(data, out, copies=0), run_in_process)
    assert content(out) == before
    overwrite = extract_config(data, out, copies=0, overwrite=True)
    if named == "a generated dataset":
        assert extract(overwrite, run_in_process).clips == 40
    else:
        with pytest.raises(UserError, match=f"contains {named}"):
            extract(overwrite, run_in_process)
        assert content(out) == before


def test_files_of_other_programs_are_kept(data: Path, tmp_path: Path):
    out = tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    names = ("thesis.tex", "part-00000.parquet", "part-00000-1f3e-c000.snappy.parquet", ".hidden", "x.tmp")
    for name in names:
        (out / name).write_text(name, encoding="utf-8")
    for _ in range(2):
        manifest = extract(extract_config(data, out, copies=0), run_in_process)
    assert all((out / name).read_text(encoding="utf-8") == name for name in names)
    assert (out / "sub").is_dir() and open_shards(out) == manifest


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (".", "is the data folder"),
        ("train/tone 0", "is in the folder of class 'tone 0', whose files are clips"),
        ("train/tone 1/deep/shards", "is in the folder of class 'tone 1'"),
        ("../data/train/../train/tone 0", "is in the folder of class 'tone 0'"),
    ],
)
def test_output_in_class_folder_is_refused(out: str, message: str, data: Path):
    files = sorted(data.rglob("*"))
    with pytest.raises(UserError, match=message):
        extract(extract_config(data, data / out, copies=0), run_in_process)
    assert sorted(data.rglob("*")) == files


def test_output_in_folder_of_a_renamed_class_is_refused(data: Path, tmp_path: Path):
    (tmp_path / "names.csv").write_text("tone 0,low\ntone 1,high\n")
    config = extract_config(data, data / "train" / "tone 0" / "out", class_names=tmp_path / "names.csv")
    with pytest.raises(UserError, match="is in the folder of class 'tone 0'"):
        extract(config, run_in_process)


@pytest.mark.parametrize("out", ["shards", "train/shards", "out/tone 0", "../shards", "../data shards"])
def test_output_next_to_class_folders_is_accepted(out: str, data: Path):
    check_outside_data(data / out, data, ["tone 0", "tone 1"])


@pytest.mark.parametrize("out", ["data/train", "link"])
def test_output_around_class_folders_is_refused(out: str, data: Path, tmp_path: Path):
    """`train` would be an output folder of melray from then on, and left out."""
    (tmp_path / "link").symlink_to(data / "train")
    files = sorted(data.rglob("*"))
    with pytest.raises(UserError, match="is a folder of recordings, which would be left out from then on"):
        extract(extract_config(data, tmp_path / out, copies=0), run_in_process)
    assert sorted(data.rglob("*")) == files


def test_output_in_class_folder_through_link_is_refused(data: Path, tmp_path: Path):
    (tmp_path / "out").symlink_to(data / "train" / "tone 0")
    with pytest.raises(UserError, match="is in the folder of class 'tone 0'"):
        check_outside_data(tmp_path / "out" / "shards", data, ["tone 0", "tone 1"])


def test_second_extraction_changes_nothing(data: Path, shards: Path):
    before = content(shards)
    (data / "train" / "tone 0" / "1-0000-0.wav").unlink()
    with own_folder(shards, "extract"), pytest.raises(UserError, match="is in use by `melray extract`"):
        extract(extract_config(data, shards, copies=0), run_in_process)
    assert content(shards) == before


def test_extraction_that_lost_its_folder_publishes_nothing(data: Path, tmp_path: Path):
    """A host that hung for minutes finds that another command has taken over."""
    out = tmp_path / "out"

    def runner(*arguments):
        yield from run_in_process(*arguments)
        record = json.loads((out / ".owner.json").read_text(encoding="utf-8"))
        (out / ".owner.json").write_text(json.dumps(record | {"id": "other"}), encoding="utf-8")

    with pytest.raises(UserError, match="has taken over this folder"):
        extract(extract_config(data, out, copies=0), runner)
    assert not (out / "_manifest.json").exists() and (out / ".owner.json").exists()
    assert any(out.glob(".units-*")) and any(out.glob("part-*"))
