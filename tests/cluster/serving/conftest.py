"""Runs and a server of them without Ray, which tests only read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("python_multipart")

from tests.helpers.saved_classifier import save_classifier
from tests.helpers.serving import client_of, save_generator, serve_here
from tests.helpers.sounds import write_shards


@pytest.fixture(scope="session")
def classifier_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classifier(tmp_path_factory.mktemp("served") / "birds")


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("tones"))


@pytest.fixture(scope="session")
def generator_run(tmp_path_factory: pytest.TempPathFactory, shards: Path) -> Path:
    return save_generator(tmp_path_factory.mktemp("served") / "tones", shards)


@pytest.fixture(scope="session")
def client(classifier_run: Path, generator_run: Path) -> Iterator[httpx.Client]:
    """Yield a client of a server with a classifier and a generator."""
    with client_of(serve_here([classifier_run, generator_run])) as client:
        yield client
