"""The filesystems of stores, as pyarrow has them: how each is reached, and how long it is asked again.

What a store needs to be reached comes from the usual places (environment, ~/.aws, ~/.config/gcloud, the machine's role), or
stands behind a place as options: `s3://bucket/folder?endpoint_override=127.0.0.1%3A9000&scheme=http&region=us-east-1`.
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
# Attempts at a request that a store refuses for the time being; they take some seconds in all.
MAX_REQUEST_ATTEMPTS = 5
# Seconds in which Google's may be asked again and again.
GCS_RETRY_SECONDS = 20


@cache
def open_filesystem(scheme: str, options: str) -> fs.FileSystem:
    """The filesystem of a store.

    Raises:
        UserError: an option that it doesn't know, or no number where one is needed.
    """
    try:
        return _store(scheme, {name: _option(name, value) for name, value in parse_qsl(options)})
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{scheme}://…?{options}: {error}; pyarrow's filesystems say what may stand there"
        ) from None


def _option(name: str, value: str) -> Any:
    if name.endswith("_timeout"):
        return float(value)
    return {"true": True, "false": False}.get(value, value)


def _store(scheme: str, given: dict[str, Any]) -> fs.FileSystem:
    if scheme == "s3":
        endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
        if endpoint and "endpoint_override" not in given:
            given["scheme"], _, given["endpoint_override"] = endpoint.partition("://")
        return fs.S3FileSystem(
            **given, retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=MAX_REQUEST_ATTEMPTS)
        )
    # Its own limit is a quarter of an hour.
    return fs.GcsFileSystem(**{"retry_time_limit": timedelta(seconds=GCS_RETRY_SECONDS), **given})
