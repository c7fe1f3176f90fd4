"""Fixture of a local Ray session per module, with two CPUs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.connection.session import session


@pytest.fixture(scope="module")
def ray_session() -> Iterator[None]:
    """Keep a session open for all tests of a module."""
    with session(cpus=2):
        yield
