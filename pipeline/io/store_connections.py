"""Connections to object stores, with the credentials and endpoints that their own tools use.

- S3: environment variables (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL_S3`, …), else the profile of
  `AWS_PROFILE` in `~/.aws`, with SSO, roles and instance credentials, as resolved by boto3. The region of a
  bucket of AWS is requested, from that of `AWS_REGION` or the profile, which may be another one.
- Google Cloud Storage: `GOOGLE_APPLICATION_CREDENTIALS`, `gcloud auth application-default login`, or the
  instance's account; `STORAGE_EMULATOR_HOST`.
- Azure: `AZURE_STORAGE_ACCOUNT_NAME` with `AZURE_STORAGE_ACCOUNT_KEY`, a SAS, a service principal, a managed
  identity, or `az login` with `AZURE_USE_AZURE_CLI=true`.
- Hugging Face hub: `HF_TOKEN` or `hf auth login`, `HF_ENDPOINT`; needs the package `huggingface_hub`.

A URI can have settings of its own, but no credentials:
`s3://bucket/folder?endpoint=http://127.0.0.1:9000&region=us-east-1`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from datetime import timedelta
from functools import cache, lru_cache
from typing import Any
from urllib.parse import parse_qsl

from pipeline.io.boto3_listing import Boto3Listing
from pipeline.io.errors import UserError
from pipeline.io.hub_bucket import HubBucket
from pipeline.io.object_store import ObjectStore
from pipeline.io.obstore_bucket import ObstoreBucket
from pipeline.io.store_errors import without_secrets

# Schemes, and their other names.
SCHEMES = ("s3", "gs", "az", "hf")
ALIASES = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "abfs": "az", "azure": "az"}
# A request is repeated for that long, such as while a server is throttling, or restarts.
RETRY_TIME_S, MAX_RETRIES = 60, 8
# Seconds to connect, without any data, and for a whole request.
_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S, _TIMEOUT_S = 10.0, 20.0, 600.0
# Seconds to find the region of a bucket; without an answer it is that of the settings.
_REGION_TIMEOUT_S = 5.0
_NO_AWS_CREDENTIALS = (
    "this process found no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or "
    "give the host a role"
)
# obstore has a thread for each CPU by default; a worker has one CPU, and a thread serves many requests.
_CLIENT_THREADS = 1
_OPTIONS = {
    "anonymous",
    "connect_timeout",
    "endpoint",
    "endpoint_override",
    "profile",
    "region",
    "scheme",
    "account_name",
}
_SECRET_OPTION = re.compile(r"key|secret|token|password|credential|sas", re.IGNORECASE)


@lru_cache  # millions of URIs have the same options
def check_options(options: str) -> None:
    """Check the options of a URI, in query syntax.

    Raises:
        ValueError: credentials, which would be written to logs, settings and tables, an unknown option, or an
            unusable value.
    """
    for name, value in parse_qsl(options, keep_blank_values=True):
        if _SECRET_OPTION.search(name):
            raise ValueError(
                f"credentials in a URI ({name}) end up in logs; set environment variables instead"
            )
        if name not in _OPTIONS:
            raise ValueError(
                f"unknown option {name} of a storage URI; expected {', '.join(sorted(_OPTIONS))}"
            )
        _check_value(name, value)


def _check_value(name: str, value: str) -> None:
    if name in ("endpoint", "endpoint_override") and "@" in value:
        raise ValueError(
            f"a password in a URI ({name}) ends up in logs; set environment variables for credentials"
        )
    if name == "connect_timeout" and not re.fullmatch(r"\d*[1-9]\d*(\.\d*)?|\d*\.\d*[1-9]\d*", value):
        raise ValueError(f"connect_timeout={value} in a storage URI: expected seconds, such as 10")
    if name == "anonymous" and value.lower() not in ("true", "false"):
        raise ValueError(f"anonymous={value} in a storage URI: expected true or false")


@cache
def open_bucket(scheme: str, bucket: str, options: str) -> ObjectStore:
    """Return the bucket of a URI, one per process; for `hf`, a dataset.

    Raises:
        UserError: a setting that the store does not accept, or a package that is missing.
    """
    name, settings = f"{scheme}://{bucket}", dict(parse_qsl(options))
    os.environ.setdefault("TOKIO_WORKER_THREADS", str(_CLIENT_THREADS))
    try:
        openers: dict[str, Callable[[str, dict[str, str]], ObjectStore]] = {
            "s3": _open_s3,
            "gs": _open_gcs,
            "az": _open_azure,
            "hf": _open_hub,
        }
        return openers[scheme](bucket, settings)
    except ImportError as error:
        if scheme == "hf":
            raise UserError(f"{name} needs huggingface_hub ({error}): pip install 'melray[hf]'") from None
        raise UserError(f"{name}: {error}; install it with `pip install {error.name}`") from None
    except UserError:
        raise
    except Exception as error:  # obstore has an error class of its own for each kind of setting
        text = " ".join(str(error).partition("\n\nDebug source")[0].split())
        raise UserError(f"{name}: {without_secrets(text)[:300].rstrip(':')}") from None


def _client_options(settings: dict[str, str]) -> dict[str, Any]:
    connect_timeout = float(settings.get("connect_timeout", _CONNECT_TIMEOUT_S))
    return {
        "allow_http": True,
        "connect_timeout": timedelta(seconds=connect_timeout),
        "read_timeout": timedelta(seconds=_READ_TIMEOUT_S),
        "timeout": timedelta(seconds=_TIMEOUT_S),
    }


def _retry_config(settings: dict[str, str]) -> dict[str, Any]:
    retry_time = RETRY_TIME_S if "connect_timeout" not in settings else float(settings["connect_timeout"])
    return {"max_retries": MAX_RETRIES, "retry_timeout": timedelta(seconds=retry_time)}


def _common(settings: dict[str, str]) -> dict[str, Any]:
    return {"client_options": _client_options(settings), "retry_config": _retry_config(settings)}


def _is_anonymous(settings: dict[str, str]) -> bool:
    return settings.get("anonymous", "false").lower() == "true"


def endpoint_url(text: str, scheme: str = "https") -> str:
    """Return the URL of an endpoint, which may be given as `host:port`."""
    return text if "://" in text else f"{scheme}://{text}"


def _endpoint(settings: dict[str, str], *variables: str) -> str:
    """Return the endpoint in the settings or the environment; empty for the default."""
    text = settings.get("endpoint") or settings.get("endpoint_override") or ""
    if text:
        return endpoint_url(text, settings.get("scheme", "https"))
    text = next((os.environ[name] for name in variables if os.environ.get(name)), "")
    return endpoint_url(text) if text else ""


def _open_s3(bucket: str, settings: dict[str, str]) -> ObstoreBucket:
    from obstore.store import S3Store

    config: dict[str, Any] = {}
    session = None
    endpoint = _endpoint(settings, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    region = settings.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if _is_anonymous(settings):
        config["skip_signature"] = True
    elif "profile" in settings or not os.environ.get("AWS_ACCESS_KEY_ID"):
        profile = _AwsProfile(settings.get("profile"))
        config |= profile.credentials()
        session = profile.session
        endpoint = endpoint or profile.endpoint
        region = region or profile.region
    if endpoint:
        # By this name: obstore reads AWS_ENDPOINT_URL_S3 itself, and prefers it to `endpoint`.
        config["aws_endpoint_url_s3"] = endpoint
    region = region or "us-east-1"
    config["region"] = region if endpoint or "region" in settings else bucket_region(bucket, region)
    is_anonymous = bool(config.get("skip_signature"))
    hint = _NO_AWS_CREDENTIALS if is_anonymous and not _is_anonymous(settings) else ""
    listing = Boto3Listing(bucket, endpoint, config["region"], is_anonymous, session)
    return ObstoreBucket(S3Store(bucket, **config, **_common(settings)), f"s3://{bucket}", listing.walk, hint)


class _AwsProfile:
    """A profile of the AWS command line, or instance credentials, as boto3 finds them."""

    def __init__(self, name: str | None):
        import boto3

        self.session = boto3.session.Session(profile_name=name)
        self.region: str = self.session.region_name or ""

    @property
    def endpoint(self) -> str:
        """Endpoint in the configuration files; empty for that of AWS."""
        url = self.session.client("s3", region_name=self.region or "us-east-1").meta.endpoint_url
        return "" if ".amazonaws.com" in url else url

    def credentials(self) -> dict[str, Any]:
        """Return the settings by which obstore refreshes credentials; without any, for public data."""
        from obstore.auth.boto3 import Boto3CredentialProvider

        if self.session.get_credentials() is None:
            return {"skip_signature": True}
        return {"credential_provider": Boto3CredentialProvider(self.session)}


def bucket_region(bucket: str, region: str, url: str = "https://s3.{region}.amazonaws.com") -> str:
    """Return the AWS region of a bucket by a request without credentials.

    Args:
        bucket: name of the bucket.
        region: region to request it from, which is returned if that fails.
        url: URL of S3 in that region. Hosts in a network of AWS may reach S3 of their own region only.
    """
    import requests

    try:
        response = requests.head(
            f"{url.format(region=region)}/{bucket}", timeout=_REGION_TIMEOUT_S, allow_redirects=False
        )
    except requests.RequestException:
        return region
    return response.headers.get("x-amz-bucket-region", region)


def _open_gcs(bucket: str, settings: dict[str, str]) -> ObstoreBucket:
    from obstore.store import GCSStore

    config: dict[str, Any] = {}
    if endpoint := _endpoint(settings, "STORAGE_EMULATOR_HOST"):
        # The form of emulators; with `skip_signature`, obstore requests credentials for writes all the same.
        names = ("client_email", "private_key", "private_key_id")
        account = {"gcs_base_url": endpoint, "disable_oauth": True, **dict.fromkeys(names, "")}
        config["service_account_key"] = json.dumps(account)
    elif _is_anonymous(settings):
        config["skip_signature"] = True
    return ObstoreBucket(GCSStore(bucket, **config, **_common(settings)), f"gs://{bucket}")


def _open_azure(container: str, settings: dict[str, str]) -> ObstoreBucket:
    from obstore.store import AzureStore

    config: dict[str, Any] = {}
    if endpoint := _endpoint(settings, "AZURE_STORAGE_ENDPOINT"):
        config["endpoint"] = endpoint
    if "account_name" in settings:
        config["account_name"] = settings["account_name"]
    if _is_anonymous(settings):
        config["skip_signature"] = True
    return ObstoreBucket(AzureStore(container, **config, **_common(settings)), f"az://{container}")


def _open_hub(dataset: str, settings: dict[str, str]) -> HubBucket:
    return HubBucket(dataset, _endpoint(settings, "HF_ENDPOINT"), _is_anonymous(settings))
