"""Fixtures of tests about data."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def tmp_path(tmp_path: Path) -> Path:
    """Return a folder without neighbors: audio files of tables are searched next to their folder too, which
    would be in the folders of thousands of other tests."""
    folder = tmp_path / "data"
    folder.mkdir()
    return folder
