"""Order and distribution of the tests: Ray is started once, and no CPU idles at the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

# One worker runs the tests in this folder, since they share a Ray session.
RAY_TESTS = "tests/integration/"
# Fixtures of `tests/integration/conftest.py`, in the order in which their sessions are started.
SESSIONS = ("ray_session", "one_gpu")


def sort_tests(items: list[pytest.Item]) -> None:
    """Sort by file, the longest first: those on Ray by their session, then others by their time limit."""
    sessions: dict[Path, int] = {}
    limits: dict[Path, float] = {}
    for item in items:
        names = getattr(item, "fixturenames", ())
        session = max((number for number, name in enumerate(SESSIONS, 1) if name in names), default=0)
        sessions[item.path] = max(session, sessions.get(item.path, 0))
        limit = item.get_closest_marker("timeout")
        limits[item.path] = max(limit.args[0] if limit else 0, limits.get(item.path, 0))

    def rank(item: pytest.Item) -> tuple[bool, float]:
        on_ray = item.nodeid.startswith(RAY_TESTS)
        return not on_ray, sessions[item.path] if on_ray else -limits[item.path]

    items.sort(key=rank)


def make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Return a scheduler that distributes by file, but all tests on Ray to one worker, in the given order."""
    from xdist.scheduler import LoadFileScheduling

    class OneRayScheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return RAY_TESTS if file.startswith(RAY_TESTS) else file

    config.option.loadscopereorder = False
    return OneRayScheduling(config, log)
