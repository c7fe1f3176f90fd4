"""Listings of S3 with keys that obstore cannot address: complete, with the credentials of a profile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from pipeline.io.boto3_listing import Boto3Listing
from pipeline.io.object_store import ObjectInfo
from pipeline.io.storage import to_path
from pipeline.io.store_connections import open_bucket
from pipeline.io.store_errors import StoreAccessError, StoreError
from tests.helpers.s3_server import S3Server, s3_server

# A page of a listing has a thousand keys; the unusual ones are on the second.
KEYS = [*(f"data/{number:04d}.wav" for number in range(1200)), "data/rain/.", "data/wind//1.wav"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    folder = tmp_path_factory.mktemp("bucket")
    (folder / "data").mkdir()
    for key in KEYS[:1200]:
        (folder / key).write_bytes(b"RIFF")
    with s3_server() as server:
        server.bucket("odd", folder)
        for key in KEYS[1200:]:
            # As it is: an HTTP client would remove the dot.
            put = requests.Request("PUT", server.endpoint, data=b"RIFF").prepare()
            put.url = f"{server.endpoint}/odd/{key}"
            requests.Session().send(put, timeout=10).raise_for_status()
        yield server


@pytest.fixture
def folder(server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "config").write_text(
        f"[profile lab]\nregion = eu-north-1\nendpoint_url = {server.endpoint}\n"
    )
    (tmp_path / "credentials").write_text("[lab]\naws_access_key_id = id\naws_secret_access_key = secret\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    open_bucket.cache_clear()
    yield to_path("s3://odd/data?profile=lab")
    server.configure(errors={})
    open_bucket.cache_clear()


def test_each_key_is_listed_once(server: S3Server, folder: Any) -> None:
    server.reset()
    assert [info.key for _, info in folder.scan()] == KEYS
    assert server.requests()["LIST"] <= 4
    assert all(info.size == 4 and info.mtime_ns > 0 for _, info in folder.scan())


def test_requests_have_the_credentials_of_the_profile(server: S3Server, folder: Any) -> None:
    list(folder.scan())
    assert server.last_authorization().startswith("AWS4-HMAC-SHA256 Credential=id/")
    assert "/eu-north-1/s3/" in server.last_authorization()


def test_errors_are_those_of_the_store(server: S3Server, folder: Any) -> None:
    def walk(endpoint: str) -> list[ObjectInfo]:
        return list(Boto3Listing("odd", endpoint, "us-east-1", True, None).walk("data", "data/1198.wav"))

    assert [info.key for info in walk(server.endpoint)] == KEYS[1199:]
    text = "<Error><Code>AccessDenied</Code><Message>no lists</Message></Error>"
    server.configure(errors={"LIST": (403, text)})
    with pytest.raises(
        StoreAccessError, match=r"^s3://odd denies access \(AccessDenied: no lists\)"
    ) as denied:
        walk(server.endpoint)
    assert denied.value.uri == "s3://odd/data" and not denied.value.transient
    with pytest.raises(StoreError, match="Could not connect to the endpoint") as unreachable:
        walk("http://127.0.0.1:9")
    assert unreachable.value.transient
