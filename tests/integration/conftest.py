"""Fixtures of local Ray sessions, each of which is kept until a test needs another one or none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.local_ray import SharedRay


@pytest.fixture(scope="package")
def shared_ray() -> Iterator[SharedRay]:
    shared = SharedRay()
    yield shared
    shared.close()


@pytest.fixture
def ray_session(shared_ray: SharedRay) -> None:
    """Provide a session with two CPUs."""
    shared_ray.use(gpus=0)


@pytest.fixture
def one_gpu(shared_ray: SharedRay) -> None:
    """Provide a session with two CPUs and a GPU that does not exist."""
    shared_ray.use(gpus=1)


@pytest.fixture
def no_ray_session(shared_ray: SharedRay) -> None:
    """End the session: the test starts another one, or forks this process."""
    shared_ray.close()
