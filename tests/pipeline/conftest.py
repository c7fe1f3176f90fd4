"""Fixtures of the tests of pipeline: shards that tests only read, an S3 server, and a single thread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.helpers.s3_server import S3Server, s3_server
from tests.helpers.sounds import write_shards


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return shards of tones in three classes. Tests must not change them."""
    return write_shards(tmp_path_factory.mktemp("tones"))


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    """Start an S3 server without latency, with no bucket at first."""
    with s3_server() as server:
        yield server


@pytest.fixture
def single_thread() -> None:
    """Compute with one thread, as tests before may have used more."""
    torch.set_num_threads(1)
