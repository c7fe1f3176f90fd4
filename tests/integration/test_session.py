"""Sessions of a local Ray: protected by a token that is deleted with the process; quiet unless debugging."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

TWO_SESSIONS = """
import os, stat
from pathlib import Path
from cluster.connection.session import session
for _ in range(2):
    with session(cpus=1):
        import ray
        assert ray.get(ray.remote(lambda: 1 + 1).remote()) == 2
token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
assert os.environ["RAY_AUTH_MODE"] == "token" and stat.S_IMODE(token.stat().st_mode) == 0o600
print(token)
"""
# An actor of Ray Data, for which Ray's C++ part logs an error.
RAY_DATA = """
import sys
from cluster.connection.session import session
from pipeline.io.console import setup_logging
setup_logging(sys.argv[1])
class Identity:
    def __call__(self, batch):
        print("printed by an actor")
        return batch
with session(cpus=2):
    import ray
    ray.data.range(10).map_batches(Identity, concurrency=1).materialize()
"""


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python code without the tests' own settings of Ray's authentication."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, timeout=90
    )


@pytest.mark.slow
def test_two_sessions_share_a_temporary_token() -> None:
    completed = run_python(TWO_SESSIONS)
    assert completed.returncode == 0, completed.stderr
    assert not os.path.exists(completed.stdout.strip().splitlines()[-1])


@pytest.mark.slow
def test_ray_prints_nothing_at_level_info() -> None:
    completed = run_python(RAY_DATA, "info")
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout + completed.stderr == ""


@pytest.mark.slow
def test_ray_messages_are_shown_at_level_debug() -> None:
    completed = run_python(RAY_DATA, "debug")
    assert completed.returncode == 0, completed.stderr
    assert "Started a local Ray instance" in completed.stderr
    assert "printed by an actor" in completed.stdout + completed.stderr
