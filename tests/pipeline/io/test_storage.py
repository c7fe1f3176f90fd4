"""Tests of object store paths: they behave like local folders in everything that melray does with them."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.config import ConfigError
from pipeline.classifier.command_configs import EvaluateConfig
from pipeline.classifier.loop import train_loop
from pipeline.data.manifest import read_manifest
from pipeline.data.shard_manifest import ShardManifest, open_shards
from pipeline.data.shards import read_shard
from pipeline.data.unlabeled import read_unlabeled
from pipeline.distributed.batch_job import run_in_process
from pipeline.extract import extract
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.files import write_atomically, write_text_atomically
from pipeline.io.remote_path import RemotePath
from pipeline.io.storage import copy_tree, has_files_of, local_file, remove_tree, to_path
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.run_folder import RunFolder
from pipeline.training.tensor_file import load_tensors, save_tensors
from tests.helpers.object_store import gcs_bucket, s3_bucket, upload_folder
from tests.helpers.runs import SINGLE_WORKER, load_weights, tensors_equal
from tests.helpers.sounds import extract_config, train_config, write_tones


@pytest.fixture(scope="module", params=["s3", "gs"])
def object_store(request: pytest.FixtureRequest) -> Iterator[RemotePath]:
    if request.param == "gs":
        with gcs_bucket("things") as path:
            yield path
    else:
        with s3_bucket("things") as (path, _):
            yield path


@pytest.fixture
def folder(object_store: RemotePath, request: pytest.FixtureRequest) -> RemotePath:
    return object_store / request.node.name.replace("[", "_").replace("]", "")


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tones(tmp_path_factory.mktemp("tones"))


class TestNames:
    def test_home_folder_is_expanded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", "/home/user")
        assert to_path("~/runs") == Path("/home/user/runs")
        assert to_path("/data/~/runs") == Path("/data/~/runs")

    @pytest.mark.parametrize("name", ["$HOME", "${SCRATCH}"])
    def test_variable_of_the_shell_is_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match=r"is not replaced here; write its value"):
            to_path(f"{name}/runs")

    def test_uri_round_trip_preserves_text(self) -> None:
        for text in (
            "s3://bucket/a/b.txt",
            "gs://bucket/a",
            "s3://bucket/a?endpoint=http://127.0.0.1:9&region=x",
            "az://container/a",
            "hf://datasets/user/name/data",
        ):
            path = to_path(text)
            assert isinstance(path, RemotePath) and str(path) == text
            assert EvaluateConfig(run=text).run == path  # type: ignore[arg-type, comparison-overlap]
            assert EvaluateConfig(run=text).to_dict()["run"] == text  # type: ignore[arg-type]
            copy = EvaluateConfig(**EvaluateConfig(run=text).model_dump())  # type: ignore[arg-type]
            assert copy.run == path and pickle.loads(pickle.dumps(path)) == path

    def test_child_path_keeps_uri_options(self) -> None:
        path: RemotePath = to_path(Path("s3://bucket/a?scheme=http")) / "b" / "c.txt"
        assert str(path) == "s3://bucket/a/b/c.txt?scheme=http" and path.key == "bucket/a/b/c.txt"
        assert (path.name, path.stem, str(path.parent)) == ("c.txt", "c", "s3://bucket/a/b?scheme=http")
        assert path.with_suffix(".png").name == "c.png" and path.with_name("d").name == "d"
        assert path.relative_to(path.parent.parent).as_posix() == "b/c.txt"
        assert path.is_relative_to(path.parent.parent) and path.is_relative_to(path)
        assert not path.is_relative_to(to_path("s3://bucket/a/b/c"))
        assert not path.is_relative_to(to_path("gs://bucket/a"))
        assert sorted([path, path.parent]) == [path.parent, path]

    def test_scheme_may_have_capital_letters(self) -> None:
        assert to_path("S3://bucket/A") == to_path("s3://bucket/A")

    @pytest.mark.parametrize(
        ("uri", "reason"),
        [
            ("s3://bucket/a?endpoint=http://user:word@host", r"password in a URI \(endpoint\)"),
            ("s3://user:word@bucket/a", "bucket has an @"),
            ("abfs://container@account.dfs.core.windows.net/a", "AZURE_STORAGE_ACCOUNT_NAME"),
            ("s3://bucket/a?connect_timeout=0", "connect_timeout=0 .* expected seconds"),
            ("s3://bucket/a?anonymous=yes", "anonymous=yes .* expected true or false"),
        ],
    )
    def test_unusable_option_is_named(self, uri: str, reason: str) -> None:
        with pytest.raises(ValueError, match=reason):
            to_path(uri)

    @pytest.mark.parametrize("text", ["ftp://host/file", "FTP://host/file", "s3://", "http://bucket/a"])
    def test_unsupported_uri_raises_config_error(self, text: str) -> None:
        with pytest.raises(
            ConfigError,
            match="unsupported storage URI; use a local path, s3://bucket/…, gs://bucket/…, az://bucket/… or",
        ):
            EvaluateConfig(run=text)  # type: ignore[arg-type]

    def test_local_path_becomes_absolute(self) -> None:
        assert to_path(Path("a/b")) == Path.cwd() / "a/b"
        assert to_path(Path("odd:name")) == Path.cwd() / "odd:name"


class TestFiles:
    def test_written_objects_can_be_read(self, folder: RemotePath) -> None:
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
        with pytest.raises(ValueError, match="use write_bytes"):
            (folder / "c.bin").open("ab")
        with local_file(folder / "c.bin") as copy:  # type: ignore[arg-type]
            assert copy.read_bytes() == b"\0\1"
        assert not copy.exists()

    def test_interrupted_write_keeps_old_object(self, folder: RemotePath) -> None:
        write_text_atomically(folder / "a", "old")  # type: ignore[arg-type]

        def write_and_interrupt(file: object) -> None:
            file.write(b"ne")  # type: ignore[attr-defined]
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_atomically(folder / "a", write_and_interrupt)  # type: ignore[arg-type]
        assert (folder / "a").read_text() == "old"

    def test_missing_object_raises_not_found(self, folder: RemotePath) -> None:
        with pytest.raises(FileNotFoundError, match="no such object"):
            (folder / "none").read_text()
        (folder / "none").unlink(missing_ok=True)
        with pytest.raises(UserError, match="no such file"):
            load_tensors(folder / "none")  # type: ignore[arg-type]
        with pytest.raises(UserError, match=r"--shards (s3|gs)://things/.*: no such folder"):
            open_shards(folder)  # type: ignore[arg-type]

    def test_glob_matches_pathlib(self, folder: RemotePath, tmp_path: Path) -> None:
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
            expected = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob(pattern))
            assert [path.relative_to(folder).as_posix() for path in folder.glob(pattern)] == expected, pattern
        copy_tree(folder, folder.parent / "copy", exclude=("checkpoints",))  # type: ignore[arg-type]
        copied = {
            path.relative_to(folder.parent / "copy").as_posix(): path.read_text()
            for path, _ in (folder.parent / "copy").walk()
        }
        assert copied == {name: name for name in names if "checkpoints" not in name}
        assert has_files_of(folder.parent / "copy", folder, ("checkpoints",))  # type: ignore[arg-type]
        (folder.parent / "copy" / "epoch_2/x").unlink()
        assert not has_files_of(folder.parent / "copy", folder, ("checkpoints",))  # type: ignore[arg-type]
        remove_tree(folder)  # type: ignore[arg-type]
        assert list(folder.walk()) == []

    def test_unreachable_server_raises_user_error(self) -> None:
        unreachable = to_path("s3://things/x?endpoint=http://127.0.0.1:1&region=us-east-1&connect_timeout=1")
        with (
            pytest.raises(UserError, match="while writing to s3://things/x"),
            report_os_errors("writing to", unreachable),
        ):  # type: ignore[arg-type]
            unreachable.write_text("x")
        with pytest.raises(ValueError, match=r"unknown option endpiont .*expected .*endpoint"):
            to_path("s3://things/x?endpiont=127.0.0.1:1")


def test_checkpoints_round_trip_and_delete_the_oldest(folder: RemotePath) -> None:
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


def test_manifest_of_bucket_equals_local_folder(folder: RemotePath, tones: Path, tmp_path: Path) -> None:
    upload_folder(tones, folder / "data")
    (folder / "data/train/tone 0/.hidden/x.wav").write_bytes(b"")
    (folder / "data/train/loose.wav").write_bytes(b"x")
    local_manifest, remote_manifest = read_manifest(tones), read_manifest(folder / "data")  # type: ignore[arg-type]
    columns = ["clip_id", "label", "fold", "group", "size"]
    assert remote_manifest.clips[columns].equals(local_manifest.clips[columns])
    assert "ignoring 1 audio file outside class folders" in remote_manifest.warnings[0]
    assert (
        read_unlabeled(folder / "data/train").clips["clip_id"].tolist()[1:]
        == read_unlabeled(tones / "train").clips["clip_id"].tolist()
    )  # type: ignore[arg-type]
    csv = "path,label\n" + "".join(
        f"train/{clip},{clip.split('/')[0]}\n" for clip in local_manifest.clips["clip_id"]
    )
    (folder / "data/list.csv").write_text(csv)
    assert read_manifest(folder / "data/list.csv").clips["size"].equals(local_manifest.clips["size"])  # type: ignore[arg-type]
    local_list = tmp_path / "list.csv"
    local_list.write_text(
        "path,label\n"
        + "".join(
            f"{path},{label}\n"
            for path, label in zip(remote_manifest.clips["path"], remote_manifest.clips["label"], strict=True)
        )
    )
    assert read_manifest(local_list).clips["size"].tolist() == local_manifest.clips["size"].tolist()


def test_shards_and_weights_equal_local_bit_for_bit(folder: RemotePath, tones: Path, tmp_path: Path) -> None:
    upload_folder(tones, folder / "data")
    (folder / "data/train/tone 0/broken.wav").write_bytes(b"RIFF")
    (tones / "train/tone 0/broken.wav").write_bytes(b"RIFF")

    def extract_mels(data: Path, out: Path) -> tuple[ShardManifest, list[bytes]]:
        config = extract_config(data, out, group_pattern=None, fold_pattern=None, max_rejected=0.1)
        manifest = extract(config, run_in_process)
        tables = [read_shard(out / shard.name) for shard in manifest.shards]
        return manifest, [mel for table in tables for mel in table["mel"].to_pylist()]

    local_manifest, local_mels = extract_mels(tones, tmp_path / "shards")
    (tones / "train/tone 0/broken.wav").unlink()
    remote_manifest, remote_mels = extract_mels(folder / "data", folder / "shards")  # type: ignore[arg-type]
    assert local_manifest.rows == remote_manifest.rows and remote_manifest.rejected == 1
    assert local_mels == remote_mels
    assert "tone 0/broken.wav" in (folder / "shards/rejected.csv").read_text()
    torch.set_num_threads(1)
    remote = train_config(folder / "shards", folder / "run", epochs=2)  # type: ignore[arg-type]
    local = train_config(tmp_path / "shards", tmp_path / "run", epochs=2)
    local.run.mkdir()
    for config in (local, remote):
        train_loop(config, SINGLE_WORKER)
    assert tensors_equal(load_weights(local.run), load_weights(remote.run))
    local_losses, remote_losses = (
        [epoch["val_loss"] for epoch in RunFolder(config.run).read_history()] for config in (local, remote)
    )
    assert np.allclose(local_losses, remote_losses)
    assert list((folder / "run/tensorboard").iterdir())


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a/../b", "/b"),
        ("/../b", "/b"),
        ("a/../../b", "../b"),
        ("LINK/../file", "elsewhere/file"),
        ("LINK/file", "LINK/file"),
        ("none/../file", "file"),
    ],
)
def test_parent_steps_are_resolved_as_by_system(
    path: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "elsewhere" / "target").mkdir(parents=True)
    (folder / "LINK").symlink_to(folder / "elsewhere" / "target")
    (folder / "elsewhere" / "file").touch()
    result = to_path(Path(path))
    assert ".." not in result.parts
    expected_path = tmp_path / expected[3:] if expected.startswith("../") else folder / expected
    assert result == expected_path
    if Path(path).exists():
        assert result.exists()


class TestCopyTree:
    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        for name in ("a.bin", "b/c.bin", "b/d/e.bin", "skipped/f.bin", "b/skipped/g.bin"):
            (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "source" / name).write_text(name)
        return tmp_path / "source"

    @pytest.mark.parametrize("number", [None, errno.EPERM, errno.EXDEV, errno.ENOTSUP, errno.EMLINK])
    def test_copy_without_hard_links_has_same_content(
        self, source: Path, monkeypatch: pytest.MonkeyPatch, number: int | None
    ) -> None:
        def link(*_: object) -> None:
            raise OSError(number, "no hard links")

        def forbidden(*_: object, **__: object) -> None:
            raise PermissionError(errno.EPERM, "no modes and times")

        if number is not None:
            monkeypatch.setattr("os.link", link)
            monkeypatch.setattr("os.chmod", forbidden)
            monkeypatch.setattr("os.utime", forbidden)
        target = source.with_name("target")
        (target / "old").mkdir(parents=True)
        copy_tree(source, target, exclude=("skipped",))
        files = {path.relative_to(target).as_posix(): path for path in target.rglob("*") if path.is_file()}
        assert sorted(files) == ["a.bin", "b/c.bin", "b/d/e.bin"]
        assert all(path.read_text() == name for name, path in files.items())
        assert (files["a.bin"].stat().st_nlink == 2) == (number is None)

    def test_copy_across_file_systems_has_same_content(self, source: Path, full_disk: Path) -> None:
        copy_tree(source, full_disk / "target")
        assert (full_disk / "target/b/d/e.bin").read_text() == "b/d/e.bin"

    def test_replaced_folder_is_never_half_deleted(
        self, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A process that is killed, or reads at the same time, finds the old copy, the new one or none."""
        target, seen = source.with_name("target"), list[bool]()
        copy_tree(source, target)
        unlink, rmdir = os.unlink, os.rmdir

        def see(remove: Callable[..., None]) -> Callable[..., None]:
            def removed(*arguments: Any, **options: Any) -> None:
                remove(*arguments, **options)
                seen.append(not target.exists() or has_files_of(target, source))

            return removed

        monkeypatch.setattr(os, "unlink", see(unlink))
        monkeypatch.setattr(os, "rmdir", see(rmdir))
        copy_tree(source, target)
        assert seen and all(seen)
        assert {path.name for path in source.parent.iterdir()} == {"source", "target"}

    def test_copy_that_was_interrupted_lacks_files(self, source: Path) -> None:
        target = source.with_name("target")
        assert not has_files_of(target, source)
        copy_tree(source, target, exclude=("skipped",))
        (target / "other.bin").touch()
        assert has_files_of(target, source, exclude=("skipped",)) and not has_files_of(target, source)
        (target / "b/d/e.bin").unlink()
        assert not has_files_of(target, source, exclude=("skipped",))

    def test_copy_of_missing_folder_is_empty(self, tmp_path: Path) -> None:
        copy_tree(tmp_path / "none", tmp_path / "target")
        assert list((tmp_path / "target").iterdir()) == []
