"""Where connections to object stores take endpoints, regions and credentials from."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.io.errors import UserError
from pipeline.io.storage import to_path
from pipeline.io.store_connections import bucket_region, endpoint_url, open_bucket
from tests.helpers.s3_server import S3Server, s3_server


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as server:
        (server.bucket() / "x").write_bytes(b"found")
        yield server


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in (
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_PROFILE",
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    open_bucket.cache_clear()
    yield
    open_bucket.cache_clear()


def use_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_endpoint_of_environment_is_used(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    use_keys(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv(variable, server.endpoint)
    assert to_path("s3://sounds/x").read_bytes() == b"found"
    assert to_path("s3a://sounds/x") == to_path("s3://sounds/x")


def test_google_emulator_of_environment_is_used(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.endpoint)
    assert to_path("gs://sounds/x").read_bytes() == b"found"


def test_profile_gives_endpoint_region_and_keys(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text(
        f"[profile lab]\nregion = eu-north-1\nendpoint_url = {server.endpoint}\n"
    )
    (tmp_path / "credentials").write_text("[lab]\naws_access_key_id = id\naws_secret_access_key = secret\n")
    monkeypatch.setenv("AWS_PROFILE", "lab")
    assert to_path("s3://sounds/x").read_bytes() == b"found"
    assert server.last_authorization().startswith("AWS4-HMAC-SHA256 Credential=id/")
    assert "/eu-north-1/s3/" in server.last_authorization()
    monkeypatch.delenv("AWS_PROFILE")
    open_bucket.cache_clear()
    assert to_path("s3://sounds/x?profile=lab").read_bytes() == b"found"


def test_public_data_needs_no_credentials(server: S3Server) -> None:
    for options in (f"endpoint={server.endpoint}", f"endpoint={server.endpoint}&anonymous=true"):
        assert to_path(f"s3://sounds/x?{options}").read_bytes() == b"found"
        assert server.last_authorization() == ""


def test_region_of_bucket_is_requested(server: S3Server) -> None:
    server.configure(region="ap-south-1")
    assert bucket_region("sounds", "eu-west-1", server.endpoint) == "ap-south-1"
    assert bucket_region("sounds", "eu-west-1", "http://127.0.0.1:1") == "eu-west-1"
    assert bucket_region("sounds", "eu-west-1", "http://{region}.invalid") == "eu-west-1"


def test_denied_access_without_credentials_says_so(server: S3Server) -> None:
    server.configure(deny=True)
    try:
        with pytest.raises(
            PermissionError, match=r"AccessDenied.*found no AWS credentials: set AWS_ACCESS_KEY_ID"
        ):
            to_path(f"s3://sounds/x?endpoint={server.endpoint}").read_bytes()
    finally:
        server.configure(deny=False)


def test_ended_sso_session_is_named(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    start = "sso_start_url = https://lab.invalid/start\nsso_region = us-east-1\n"
    role = "sso_account_id = 123456789012\nsso_role_name = reader\n"
    (tmp_path / "config").write_text(f"[profile lab]\n{start}{role}", encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(
        PermissionError, match=r"^s3://sounds denies access \(SSOTokenLoadError: .*lab.invalid"
    ):
        to_path(f"s3://sounds/x?endpoint={server.endpoint}&profile=lab").read_bytes()


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("127.0.0.1:9000", "https://127.0.0.1:9000"),
        ("http://store:9000", "http://store:9000"),
        ("https://store", "https://store"),
    ],
)
def test_endpoint_without_scheme_is_https(text: str, url: str) -> None:
    assert endpoint_url(text) == url


def test_scheme_option_applies_to_endpoint_without_scheme(server: S3Server) -> None:
    host = server.endpoint.removeprefix("http://")
    path = to_path(f"s3://sounds/x?endpoint_override={host}&scheme=http&anonymous=true")
    assert path.read_bytes() == b"found"


def test_missing_package_is_named_with_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"^hf://datasets/user/none needs .*: pip install 'melray\[hf\]'$"):
        to_path("hf://datasets/user/none/x").read_bytes()


def test_unknown_profile_is_reported_in_one_line() -> None:
    with pytest.raises(UserError, match=r"^s3://sounds: .*profile.*lab.*could not be found$"):
        to_path("s3://sounds/x?profile=lab").read_bytes()


@pytest.mark.parametrize("option", ["endpoint", "endpoint_override"])
@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_endpoint_of_a_uri_is_used_before_that_of_the_environment(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, variable: str, option: str
) -> None:
    use_keys(monkeypatch)
    with s3_server() as other:
        other.bucket()
        monkeypatch.setenv(variable, other.endpoint)
        path = to_path(f"s3://sounds/x?{option}={server.endpoint}")
        assert path.read_bytes() == b"found"
        assert [child.name for child in path.parent.iterdir()] == ["x"]
