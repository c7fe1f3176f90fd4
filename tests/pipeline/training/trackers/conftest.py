"""A complete run, of which each test sends a copy to a tracker."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.classifier.train import begin_run, train_in_process
from tests.helpers.sounds import train_config


@pytest.fixture(scope="session")
def complete_run(tmp_path_factory: pytest.TempPathFactory, shards: Path) -> Path:
    """Train a classifier for four epochs. Tests must not change its run."""
    config = train_config(shards, tmp_path_factory.mktemp("runs") / "complete", epochs=4)
    begin_run(config)
    train_in_process(config)
    return config.run


@pytest.fixture
def run(complete_run: Path, tmp_path: Path) -> Path:
    """Return a copy of the run."""
    return Path(shutil.copytree(complete_run, tmp_path / "project" / "first"))
