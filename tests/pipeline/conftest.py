"""Fixtures of the tests of pipeline: shards that tests only read, servers, and a single thread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipeline.io.store_connections import open_bucket
from tests.helpers.hub_server import HubServer, hub_server
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
def empty_hub(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[HubServer]:
    """Start a Hugging Face hub without datasets, which `hf://` stands for; no token is set."""
    constants = pytest.importorskip("huggingface_hub.constants")
    root = tmp_path_factory.mktemp("hub")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(root / "no token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    open_bucket.cache_clear()  # connections of tests before, to a hub at another port
    with hub_server(root) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server
    open_bucket.cache_clear()


@pytest.fixture
def single_thread() -> None:
    """Compute with one thread, as tests before may have used more."""
    torch.set_num_threads(1)
