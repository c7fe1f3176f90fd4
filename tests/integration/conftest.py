"""One Ray session a module, on loopback, with as many CPUs as this machine is sure to have."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.connection.session import session


@pytest.fixture(scope="module")
def ray_session() -> Iterator[None]:
    with session(cpus=2):
        yield
