"""Errors of object stores: one line each, without secrets, and distinguished by whether they may pass."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from pipeline.data.shards import read_shard, read_shard_footer
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.storage import to_path
from pipeline.io.store_errors import StoreAccessError, StoreError, store_error, without_secrets
from pipeline.io.transient_errors import is_transient
from pipeline.training.model_file import model_kind
from pipeline.training.tensor_file import load_tensors
from tests.helpers.s3_server import S3Server, s3_server

SECRET = "FQoGZXIvYXdzSESSION"
READS = ("GET", "HEAD", "LIST")
ALL_KINDS = (*READS, "PUT", "DELETE", "DELETE many")


@pytest.fixture(scope="module")
def shared_server() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def server(shared_server: S3Server) -> Iterator[S3Server]:
    yield shared_server
    shared_server.configure(errors={})


def answer(status: int, code: str, more: str = "") -> tuple[int, str]:
    text = f"<Code>{code}</Code><Message>Reason of {code}.</Message>{more}"
    return status, f"<?xml version='1.0' encoding='UTF-8'?>\n<Error>{text}</Error>"


def refuse(
    server: S3Server, status: int, code: str, more: str = "", kinds: tuple[str, ...] = ALL_KINDS
) -> None:
    """Let requests fail; as on S3, answers to requests of kind HEAD have no text."""
    errors = {kind: answer(status, code, more) for kind in kinds}
    if "HEAD" in kinds:
        errors["HEAD"] = (status, "")
    server.configure(errors=errors)


def requests_of(path: Any) -> dict[str, Any]:
    """Return each kind of access to a path."""
    return {
        "read": path.read_bytes,
        "end": path.open_input,
        "status": path.info,
        "write": lambda: path.write_bytes(b"x"),
        "create": lambda: path.create(b"x"),
        "list": lambda: list(path.iterdir()),
        "walk": lambda: list(path.walk()),
        "delete": path.unlink,
    }


@pytest.mark.parametrize(
    ("status", "code"), [(400, "ExpiredToken"), (400, "InvalidToken"), (403, "InvalidAccessKeyId")]
)
def test_unusable_credentials_are_named_without_the_token(server: S3Server, status: int, code: str) -> None:
    path = server.bucket() / "x"
    refuse(server, status, code, f"<Token-0>{SECRET}</Token-0><AWSAccessKeyId>{SECRET}</AWSAccessKeyId>")
    for name, access in requests_of(path).items():
        with pytest.raises(StoreAccessError) as error:
            access()
        assert str(error.value) == f"s3://sounds denies access ({code}: Reason of {code}.)", name
        assert not is_transient(error.value)
        assert error.value.uri == "s3://sounds/x"


def test_failed_writes_say_that_the_command_can_resume(server: S3Server) -> None:
    """Temporary credentials may expire during training."""
    path = server.bucket() / "x"
    for status, code, hint in (
        (400, "ExpiredToken", "; check credentials and rights; run the command again to resume"),
        (501, "NotImplemented", "; run the command again to resume"),
    ):
        refuse(server, status, code)
        for action, is_write in (("writing to", True), ("reading", False)):
            access = requests_of(path)["write" if is_write else "read"]
            with pytest.raises(UserError) as error, report_os_errors(action, path):
                access()
            assert str(error.value).endswith(hint) == is_write, error.value


def test_bucket_in_another_region_is_named(server: S3Server) -> None:
    path = server.bucket() / "x"
    for status, code in ((301, "PermanentRedirect"), (400, "AuthorizationHeaderMalformed")):
        refuse(server, status, code)
        for name, access in requests_of(path).items():
            with pytest.raises(StoreError, match=r"^s3://sounds is in another region .*AWS_REGION") as error:
                access()
            assert not is_transient(error.value), name


def test_missing_bucket_is_named_by_every_access(server: S3Server) -> None:
    path = to_path(f"s3://no-bucket/x?endpoint={server.endpoint}&region=us-east-1")
    accesses = requests_of(path)
    assert accesses.pop("status")() is None
    for name, access in accesses.items():
        with pytest.raises(StoreError, match=r"^no such bucket: s3://no-bucket$") as error:
            access()
        assert not is_transient(error.value), name


@pytest.mark.parametrize(
    ("status", "code", "transient"),
    [
        (500, "InternalError", True),
        (429, "TooManyRequests", True),
        (400, "RequestTimeout", True),
        (400, "KeyTooLongError", False),
        (405, "MethodNotAllowed", False),
    ],
)
def test_errors_may_pass_by_status(status: int, code: str, transient: bool) -> None:
    text = f"Server returned non-2xx status code: {status} Reason: {answer(status, code)[1]}"
    error = store_error(text, "s3://sounds", "x")
    assert str(error) == f"s3://sounds: {code}: Reason of {code}."
    assert is_transient(error) == transient


def test_errors_of_other_processes_are_equal() -> None:
    error = store_error("status code: 400 Bad: <Code>ExpiredToken</Code>", "s3://sounds", "x")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is StoreAccessError and str(copy) == str(error) and vars(copy) == vars(error)


def test_unreachable_endpoint_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://user:{SECRET}@127.0.0.1:1")
    with pytest.raises(StoreError) as error:
        to_path("s3://password/x?connect_timeout=1&region=us-east-1").read_bytes()
    assert "127.0.0.1:1" in str(error.value) and SECRET not in str(error.value)


def test_signatures_in_urls_are_left_out() -> None:
    text = f"Error performing GET https://a.blob.core.windows.net/c?comp=list&sig={SECRET} in 1 ms: <Error>"
    assert without_secrets(text) == "Error performing GET https://a.blob.core.windows.net/c in 1 ms"


def test_refused_deletion_is_an_error(server: S3Server) -> None:
    bucket = server.bucket("kept")
    (bucket / "d/a").write_bytes(b"1")
    error_text = "<Error><Key>d/a</Key><Code>AccessDenied</Code><Message>No.</Message></Error>"
    server.configure(errors={"DELETE many": (200, f"<DeleteResult>{error_text}</DeleteResult>")})
    with pytest.raises(StoreAccessError, match=r"^s3://kept denies access \(AccessDenied"):
        (bucket / "d").remove_tree()


def test_object_that_cannot_be_deleted_is_an_error_of_one_line(server: S3Server) -> None:
    bucket = server.bucket("unusual")
    requests.put(f"{server.endpoint}/unusual/d/a//b", b"x", timeout=10).raise_for_status()
    with pytest.raises(OSError, match=r"^s3://unusual: one of d/a//b .* cannot be deleted here"):
        (bucket / "d").remove_tree()


@pytest.mark.parametrize("read", [read_shard, read_shard_footer, load_tensors, model_kind])
def test_refused_reads_are_no_damage(server: S3Server, read: Any) -> None:
    path = server.bucket("intact") / "part-00000-0123456789ab.parquet"
    path.write_bytes(b"content")
    refuse(server, 400, "ExpiredToken", kinds=READS)
    with pytest.raises(
        UserError, match=r"^permission denied while reading s3://intact/.*ExpiredToken"
    ) as error:
        read(path)
    assert "damaged" not in str(error.value) and "delete" not in str(error.value)
