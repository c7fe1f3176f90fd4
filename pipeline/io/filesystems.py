"""Connections to object stores through pyarrow filesystems, with their retry limits.

Credentials and endpoints come from the standard sources (environment, ~/.aws, ~/.config/gcloud, instance
role) or from options in the URI:
`s3://bucket/folder?endpoint_override=127.0.0.1%3A9000&scheme=http&region=us-east-1`.
"""

from __future__ import annotations

import os
from datetime import timedelta
from functools import cache
from typing import Any
from urllib.parse import parse_qsl

import pyarrow.fs as fs

from pipeline.io.errors import UserError

SCHEMES = ("s3", "gs")
# Attempts per S3 request when the server is throttling; they take a few seconds in total.
MAX_REQUEST_ATTEMPTS = 5
# Seconds for which requests to Google Cloud Storage are retried; the default of pyarrow is 15 minutes.
GCS_RETRY_TIME_S = 20


@cache
def open_filesystem(scheme: str, options: str) -> fs.FileSystem:
    """Return the filesystem of a scheme with options in URI query syntax; one per process.

    Raises:
        UserError: an unknown option, or an invalid value.
    """
    try:
        return _create_filesystem(scheme, {name: _option(name, value) for name, value in parse_qsl(options)})
    except (TypeError, ValueError) as error:
        raise UserError(f"{scheme}://…?{options}: {error}; see pyarrow.fs for valid options") from None


def _option(name: str, value: str) -> Any:
    """Convert the text of an option to its type."""
    if name.endswith("_timeout"):
        return float(value)
    return {"true": True, "false": False}.get(value, value)


def _create_filesystem(scheme: str, options: dict[str, Any]) -> fs.FileSystem:
    if scheme == "s3":
        endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
        if endpoint and "endpoint_override" not in options:
            options["scheme"], _, options["endpoint_override"] = endpoint.partition("://")
        return fs.S3FileSystem(
            **options, retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=MAX_REQUEST_ATTEMPTS)
        )
    return fs.GcsFileSystem(**{"retry_time_limit": timedelta(seconds=GCS_RETRY_TIME_S), **options})
