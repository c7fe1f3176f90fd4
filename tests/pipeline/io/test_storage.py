"""Places on a store: the same as folders of this machine, seen through what melray does with them."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from models.config import ConfigError
from pipeline.classifier.evaluate import EvaluateConfig
from pipeline.classifier.loop import train_loop
from pipeline.data.manifest import read_manifest, read_unlabelled
from pipeline.data.shards import open_shards, read_shard
from pipeline.extract import extract, run_in_process
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.files import write_atomically, write_text_atomically
from pipeline.io.remote_path import RemotePath
from pipeline.io.storage import copy_tree, local_file, remove_tree, to_path
from pipeline.training.checkpoint import Checkpoints, load_tensors, save_tensors
from pipeline.training.run_folder import RunFolder
from tests.helpers.object_store import bucket, google_bucket, upload
from tests.helpers.runs import ALONE, same, weights
from tests.helpers.sounds import extract_config, train_config, write_tones


@pytest.fixture(scope="module", params=["s3", "gs"])
def store(request: pytest.FixtureRequest) -> Iterator[RemotePath]:
    if request.param == "gs":
        with google_bucket("things") as place:
            yield place
    else:
        with bucket("things") as (place, _):
            yield place


@pytest.fixture
def folder(store: RemotePath, request: pytest.FixtureRequest) -> RemotePath:
    return store / request.node.name.replace("[", "_").replace("]", "")


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tones(tmp_path_factory.mktemp("tones"))


class TestNames:
    def test_a_place_is_read_as_it_is_written(self) -> None:
        for text in (
            "s3://bucket/a/b.txt",
            "gs://bucket/a",
            "s3://bucket/a?endpoint_override=127.0.0.1%3A9&scheme=http",
        ):
            place = to_path(Path(text))  # pathlib has made one slash of two
            assert isinstance(place, RemotePath) and str(place) == text
            assert EvaluateConfig(run=text).run == place  # type: ignore[arg-type, comparison-overlap]
            assert EvaluateConfig(run=text).to_dict()["run"] == text  # type: ignore[arg-type]
            again = EvaluateConfig(**EvaluateConfig(run=text).model_dump())  # type: ignore[arg-type]
            assert again.run == place and pickle.loads(pickle.dumps(place)) == place

    def test_options_go_along_to_what_lies_below(self) -> None:
        place: RemotePath = to_path(Path("s3://bucket/a?scheme=http")) / "b" / "c.txt"
        assert str(place) == "s3://bucket/a/b/c.txt?scheme=http" and place.key == "bucket/a/b/c.txt"
        assert (place.name, place.stem, str(place.parent)) == ("c.txt", "c", "s3://bucket/a/b?scheme=http")
        assert place.with_suffix(".png").name == "c.png" and place.with_name("d").name == "d"
        assert place.relative_to(place.parent.parent).as_posix() == "b/c.txt"
        assert sorted([place, place.parent]) == [place.parent, place]

    @pytest.mark.parametrize("text", ["ftp://host/file", "s3://", "http://bucket/a"])
    def test_what_is_no_store_is_told(self, text: str) -> None:
        with pytest.raises(
            ConfigError,
            match="no such kind of storage; known are a path of this machine, s3://bucket/…, gs://bucket/…",
        ):
            EvaluateConfig(run=text)  # type: ignore[arg-type]

    def test_a_path_of_this_machine_is_made_absolute(self) -> None:
        assert to_path(Path("a/b")) == Path.cwd() / "a/b"
        assert to_path(Path("odd:name")) == Path.cwd() / "odd:name"


class TestFiles:
    def test_what_is_written_is_there(self, folder: RemotePath) -> None:
        assert (
            not folder.exists()
            and not folder.is_dir()
            and list(folder.iterdir()) == []
            and list(folder.glob("*")) == []
        )
        write_text_atomically(folder / "a/b.txt", "grün\n")  # type: ignore[arg-type]
        write_atomically(folder / "c.bin", lambda file: file.write(b"\0\1"))  # type: ignore[arg-type]
        assert (
            folder.is_dir()
            and (folder / "a").is_dir()
            and (folder / "a/b.txt").is_file()
            and not (folder / "a").is_file()
        )
        assert (folder / "a/b.txt").read_text() == "grün\n" and (folder / "c.bin").read_bytes() == b"\0\1"
        with (folder / "a/b.txt").open() as file:
            assert list(file) == ["grün\n"]
        with pytest.raises(ValueError, match="write it whole"):
            (folder / "c.bin").open("ab")
        with local_file(folder / "c.bin") as copy:  # type: ignore[arg-type]
            assert copy.read_bytes() == b"\0\1"
        assert not copy.exists()

    def test_a_write_that_breaks_off_leaves_the_old_object(self, folder: RemotePath) -> None:
        write_text_atomically(folder / "a", "old")  # type: ignore[arg-type]

        def breaks(file: object) -> None:
            file.write(b"ne")  # type: ignore[attr-defined]
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_atomically(folder / "a", breaks)  # type: ignore[arg-type]
        assert (folder / "a").read_text() == "old"

    def test_what_is_missing_is_told_as_of_a_file(self, folder: RemotePath) -> None:
        with pytest.raises(FileNotFoundError, match="no such object"):
            (folder / "none").read_text()
        (folder / "none").unlink(missing_ok=True)
        with pytest.raises(UserError, match="no such file"):
            load_tensors(folder / "none")  # type: ignore[arg-type]
        with pytest.raises(UserError, match=r"--shards (s3|gs)://things/.*: no such folder"):
            open_shards(folder)  # type: ignore[arg-type]

    def test_patterns_find_what_they_find_in_a_folder(self, folder: RemotePath, tmp_path: Path) -> None:
        names = [
            "part-1.parquet",
            "part-2.parquet",
            "_manifest.json",
            "epoch_1/state.json",
            "epoch_2/x",
            "a/checkpoints/y",
            "b/c/checkpoints/z",
        ]
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(name)
            (folder / name).write_text(name)
        for pattern in ("part-*.parquet", "epoch_*", "epoch_*/state.json", "**/checkpoints", "*/x", "none*"):
            here = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob(pattern))
            assert [path.relative_to(folder).as_posix() for path in folder.glob(pattern)] == here, pattern
        copy_tree(folder, folder.parent / "copy", leave_out=("checkpoints",))  # type: ignore[arg-type]
        copied = [
            path.relative_to(folder.parent / "copy").as_posix() for path, _ in (folder.parent / "copy").walk()
        ]
        assert copied == sorted(name for name in names if "checkpoints" not in name)
        remove_tree(folder)  # type: ignore[arg-type]
        assert list(folder.walk()) == []

    @pytest.mark.slow
    def test_a_server_that_is_not_there_is_a_line(self, tmp_path: Path) -> None:
        gone = to_path(
            Path(
                "s3://things/x?endpoint_override=127.0.0.1%3A1&scheme=http&region=us-east-1&connect_timeout=1"
            )
        )
        with (
            pytest.raises(UserError, match="while writing to s3://things/x"),
            report_os_errors("writing to", gone),
        ):  # type: ignore[arg-type]
            gone.write_text("x")
        odd = to_path(Path("s3://things/x?endpiont_override=127.0.0.1%3A1"))
        with pytest.raises(UserError, match="endpiont_override"):
            odd.read_text()


def test_tensors_and_checkpoints_come_back_and_the_oldest_go(folder: RemotePath) -> None:
    save_tensors(folder / "x.safetensors", {"a": torch.arange(3)}, {"k": "v"})  # type: ignore[arg-type]
    tensors, metadata = load_tensors(folder / "x.safetensors")  # type: ignore[arg-type]
    assert torch.equal(tensors["a"], torch.arange(3)) and metadata == {"k": "v"}
    checkpoints = Checkpoints(folder / "run")  # type: ignore[arg-type]
    assert checkpoints.read() is None
    for epoch in (1, 2, 3):
        checkpoints.write(epoch, {"model": {"w": torch.full((2,), float(epoch))}}, {"epoch": epoch})
    assert [path.name for path in (folder / "run/checkpoints").iterdir()] == ["epoch_0002", "epoch_0003"]
    (folder / "run/checkpoints/epoch_0003/model.safetensors").write_bytes(b"cut off")
    groups, state = checkpoints.read()  # type: ignore[misc]
    assert state["epoch"] == 2 and torch.equal(groups["model"]["w"], torch.full((2,), 2.0))


def test_clips_are_listed_as_in_a_folder(folder: RemotePath, tones: Path, tmp_path: Path) -> None:
    upload(tones, folder / "data")
    (folder / "data/train/tone 0/.hidden/x.wav").write_bytes(b"")
    (folder / "data/train/loose.wav").write_bytes(b"x")
    here, there = read_manifest(tones), read_manifest(folder / "data")  # type: ignore[arg-type]
    columns = ["clip_id", "label", "fold", "group", "size"]
    assert there.clips[columns].equals(here.clips[columns])
    assert "1 audio files lie in" in there.warnings[0]
    assert (
        read_unlabelled(folder / "data/train")["clip_id"].tolist()[1:]
        == read_unlabelled(tones / "train")["clip_id"].tolist()
    )  # type: ignore[arg-type]
    csv = "path,label\n" + "".join(f"train/{clip},{clip.split('/')[0]}\n" for clip in here.clips["clip_id"])
    (folder / "data/list.csv").write_text(csv)
    assert read_manifest(folder / "data/list.csv").clips["size"].equals(here.clips["size"])  # type: ignore[arg-type]
    local = tmp_path / "list.csv"
    local.write_text(
        "path,label\n"
        + "".join(
            f"{place},{label}\n"
            for place, label in zip(there.clips["path"], there.clips["label"], strict=True)
        )
    )
    assert read_manifest(local).clips["size"].tolist() == here.clips["size"].tolist()


def test_shards_and_weights_are_those_of_this_machine_bit_for_bit(
    folder: RemotePath, tones: Path, tmp_path: Path
) -> None:
    upload(tones, folder / "data")
    (folder / "data/train/tone 0/broken.wav").write_bytes(b"RIFF")
    (tones / "train/tone 0/broken.wav").write_bytes(b"RIFF")
    made = {}
    for where, data, out in (
        ("here", tones, tmp_path / "shards"),
        ("there", folder / "data", folder / "shards"),
    ):
        made[where] = extract(
            extract_config(data, out, group_pattern=None, fold_pattern=None, max_rejected=0.1), run_in_process
        )  # type: ignore[arg-type]
        tables = [read_shard(out / part.name) for part in made[where].parts]  # type: ignore[operator]
        made[where + " mels"] = [mel for table in tables for mel in table["mel"].to_pylist()]
    (tones / "train/tone 0/broken.wav").unlink()
    assert made["here"].rows == made["there"].rows and made["there"].rejected == 1
    assert made["here mels"] == made["there mels"]
    assert "tone 0/broken.wav" in (folder / "shards/rejected.csv").read_text()
    torch.set_num_threads(1)
    there = train_config(folder / "shards", folder / "run", epochs=2)  # type: ignore[arg-type]
    here = train_config(tmp_path / "shards", tmp_path / "run", epochs=2)
    here.run.mkdir()
    for config in (here, there):
        train_loop(config, ALONE)
    assert same(weights(here.run), weights(there.run))
    assert np.allclose(
        [line["val_loss"] for line in RunFolder(there.run).read_history()],
        [line["val_loss"] for line in RunFolder(here.run).read_history()],
    )
    assert list((folder / "run/tensorboard").iterdir())
