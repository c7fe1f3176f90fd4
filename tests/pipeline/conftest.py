"""Fixtures of the tests of pipeline: shards that tests only read, and one thread for equal results."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.helpers.sounds import write_shards


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return shards of tones in three classes. Tests must not change them."""
    return write_shards(tmp_path_factory.mktemp("tones"))


@pytest.fixture
def single_thread() -> None:
    """Compute with one thread, as tests before may have used more."""
    torch.set_num_threads(1)
