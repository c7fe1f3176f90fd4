"""Requests to object stores: how many an operation needs, what stores return, and how errors read."""

from __future__ import annotations

import pickle
import urllib.parse
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as fs
import pyarrow.parquet as pq
import pytest
import requests

from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.files import write_atomically
from pipeline.io.folder_tree import open_tree
from pipeline.io.ray_filesystem import ray_filesystem
from pipeline.io.storage import pyarrow_source, remove_files, to_path
from pipeline.io.transient_errors import is_transient
from tests.helpers.s3_server import S3Server, s3_server


@pytest.fixture
def folder(server: S3Server, request: pytest.FixtureRequest) -> Any:
    folder = server.bucket() / request.node.name
    for name in ("a.wav", "b.wav", "sub/c.wav"):
        (folder / name).write_bytes(name.encode() * 100)
    server.reset()
    return folder


class TestRequestCounts:
    def test_each_read_and_write_is_one_request(self, server: S3Server, folder: Any) -> None:
        assert (folder / "a.wav").read_bytes() == b"a.wav" * 100
        assert (folder / "a.wav").read_start(7) == b"a.wava.wav"[:7]
        (folder / "d.wav").write_bytes(b"d")
        assert (folder / "d.wav").is_file() and not (folder / "none.wav").is_file()
        assert server.requests() == {"GET": 2, "PUT": 1, "HEAD": 2}

    def test_listing_of_any_kind_is_one_request(self, server: S3Server, folder: Any) -> None:
        assert [path.name for path in folder.iterdir()] == ["a.wav", "b.wav", "sub"]
        assert [path.name for path, _ in folder.walk()] == ["a.wav", "b.wav", "c.wav"]
        assert [path.name for path in folder.glob("*/c.*")] == ["c.wav"] and folder.is_dir()
        assert server.requests() == {"LIST": 4}

    def test_listing_of_many_objects_is_paged(self, server: S3Server, tmp_path: Path) -> None:
        for number in range(2300):
            (tmp_path / f"{number:04d}.wav").touch()
        bucket = server.bucket("many", tmp_path)
        server.reset()
        assert [path.name for path, _ in bucket.walk()] == [f"{number:04d}.wav" for number in range(2300)]
        assert server.requests() == {"LIST": 3}

    def test_folder_is_deleted_by_two_requests(self, server: S3Server, folder: Any) -> None:
        folder.remove_tree()
        assert server.requests() == {"LIST": 1, "DELETE many": 1} and not folder.exists()

    def test_footer_and_table_are_one_request_each(self, server: S3Server, folder: Any) -> None:
        table = pa.table({"x": range(200)})
        write_atomically(folder / "x.parquet", lambda file: pq.write_table(table, file))
        server.reset()
        assert pq.read_metadata(pyarrow_source(folder / "x.parquet", partial=True)).num_rows == 200
        assert server.requests() == {"GET": 1}
        assert pq.read_table(pyarrow_source(folder / "x.parquet"), partitioning=None).equals(table)
        assert server.requests() == {"GET": 2}


class TestRangeReader:
    @pytest.mark.parametrize("size", [0, 1, 1000, 70_000, 3_000_000])
    def test_any_part_equals_that_of_object(self, server: S3Server, folder: Any, size: int) -> None:
        content = bytes(number % 251 for number in range(size))
        (folder / "x").write_bytes(content)
        with (folder / "x").open_input() as file:
            assert file.read() == content and file.read(5) == b""
            for start in (0, size // 3, max(0, size - 100), size + 5):
                for length in (0, 1, 300, size):
                    file.seek(start)
                    assert file.read(length) == content[start : start + length], (start, length)
            assert file.seek(-min(10, size), 2) == max(0, size - 10)


class TestErrors:
    def test_missing_object_and_bucket_are_named(self, server: S3Server, folder: Any) -> None:
        with pytest.raises(FileNotFoundError, match=r"^s3://sounds/.*/none: no such object$"):
            (folder / "none").read_bytes()
        missing = to_path(f"s3://no-bucket/x?endpoint={server.endpoint}")
        with pytest.raises(OSError, match=r"^no such bucket: s3://no-bucket$") as error:
            missing.read_bytes()
        assert not isinstance(error.value, FileNotFoundError) and not is_transient(error.value)

    def test_throttled_requests_are_repeated(self, server: S3Server, folder: Any) -> None:
        server.configure(fail_every=2)
        try:
            for _ in range(5):
                assert (folder / "a.wav").read_start(3) == b"a.w"
                (folder / "b.wav").write_bytes(b"new")
        finally:
            server.configure(fail_every=0)
        assert server.requests()["rejected"] >= 5

    @pytest.mark.parametrize("name", ["secret_key", "access_key", "session_token", "sas_key"])
    def test_credentials_in_uri_are_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match=r"credentials in a URI .* end up in logs") as error:
            to_path(f"s3://bucket/x?{name}=hidden")
        assert "hidden" not in str(error.value)

    def test_denied_access_is_one_line(self) -> None:
        with s3_server() as server:
            path = server.bucket() / "x"
            server.configure(deny=True)
            with pytest.raises(UserError) as error, report_os_errors("reading", path):
                path.read_bytes()
        assert str(error.value).startswith("permission denied while reading s3://sounds/x")
        assert "AccessDenied" in str(error.value) and "\n" not in str(error.value)


def test_unusual_keys_do_not_end_listing(server: S3Server) -> None:
    bucket = server.bucket("unusual")
    names = ["a.wav", "b//x.wav", "c.wav", "d/tab\t.wav", "e/f.wav"]
    for name in names:
        requests.put(f"{server.endpoint}/unusual/{urllib.parse.quote(name)}", b"x", timeout=10)
    assert [path.key.partition("/")[2] for path, _ in bucket.walk()] == names
    assert [path.name for path in bucket.iterdir()] == ["a.wav", "b", "c.wav", "d", "e"]
    assert [path.name for path in (bucket / "d").iterdir()] == ["tab\t.wav"]
    with pytest.raises(ValueError, match="illegal character"):
        (bucket / "d/tab\t.wav").read_bytes()


def test_markers_of_empty_folders_are_no_files(server: S3Server) -> None:
    bucket = server.bucket("markers")
    for name in ("dog/", "rain/"):
        requests.put(f"{server.endpoint}/markers/{name}", b"", timeout=10)
    (bucket / "dog/1.wav").write_bytes(b"x")
    assert [path.name for path, _ in bucket.walk()] == ["1.wav"]
    assert [path.name for path in (bucket / "dog").iterdir()] == ["1.wav"]
    assert list((bucket / "rain").iterdir()) == [] and list((bucket / "rain").glob("*")) == []


def test_marker_of_folder_with_a_dot_is_no_file(server: S3Server) -> None:
    bucket = server.bucket("dotted")
    for name in ("a/v1.0/", "a/x.wav/"):
        requests.put(f"{server.endpoint}/dotted/{name}", b"", timeout=10)
    for name in ("a/v1.0/1.wav", "a/x.wav/2.wav"):
        (bucket / name).write_bytes(b"x")
    names = ["v1.0/1.wav", "x.wav/2.wav"]
    assert [str(path.relative_to(bucket / "a")) for path, _ in (bucket / "a").walk()] == names
    assert [path.name for path in (bucket / "a/v1.0").iterdir()] == ["1.wav"]
    assert [(path.name, info.is_folder) for path, info in (bucket / "a").children()] == [
        ("v1.0", True),
        ("x.wav", True),
    ]
    tree = open_tree(bucket / "a")
    assert tree.list("").files == [] and tree.list("").folders == ["v1.0", "x.wav"]
    assert tree.list("x.wav").files == ["2.wav"]


def test_files_are_deleted_by_one_request_whether_they_exist_or_not(server: S3Server) -> None:
    bucket = server.bucket("deleted")
    paths = [bucket / f"{number}.wav" for number in range(5)]
    for path in paths[:3]:
        path.write_bytes(b"x")
    server.reset()
    remove_files(paths)
    assert server.requests() == {"DELETE many": 1}
    assert list(bucket.iterdir()) == []
    remove_files([])


class TestRayFilesystem:
    def test_copy_on_other_node_reads_same_objects(self, folder: Any) -> None:
        filesystem = pickle.loads(pickle.dumps(ray_filesystem(folder)))
        key = folder.key
        filesystem.create_dir(f"{key}/new")
        with filesystem.open_output_stream(f"{key}/new/file") as file:
            file.write(b"12")
            file.write(b"3")
        assert (folder / "new/file").read_bytes() == b"123"
        assert filesystem.open_input_stream(f"{key}/new/file").read() == b"123"
        assert filesystem.open_input_file(f"{key}/new/file").read(2) == b"12"
        types = [
            info.type for info in filesystem.get_file_info([f"{key}/new/file", f"{key}/new", f"{key}/no"])
        ]
        assert types == [fs.FileType.File, fs.FileType.Directory, fs.FileType.NotFound]
        infos = filesystem.get_file_info(fs.FileSelector(key, recursive=True))
        files = sorted(info.path for info in infos if info.type == fs.FileType.File)
        assert files == [f"{key}/{name}" for name in ("a.wav", "b.wav", "new/file", "sub/c.wav")]
        filesystem.delete_dir(f"{key}/new")
        assert not (folder / "new").exists()
