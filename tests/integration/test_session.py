"""A session of its own is closed to others, can be had twice, and leaves no secret behind."""

from __future__ import annotations

import os
import subprocess
import sys

TWICE = """
import os, stat
from pathlib import Path
from cluster.session import session
for _ in range(2):
    with session(cpus=1):
        import ray
        assert ray.get(ray.remote(lambda: 1 + 1).remote()) == 2
token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
assert os.environ["RAY_AUTH_MODE"] == "token" and stat.S_IMODE(token.stat().st_mode) == 0o600
print(token)
"""


def test_two_sessions_with_a_token_of_their_own_that_goes_with_the_process() -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    ended = subprocess.run(
        [sys.executable, "-c", TWICE], env=plain, capture_output=True, text=True, timeout=90
    )
    assert ended.returncode == 0, ended.stderr
    assert not os.path.exists(ended.stdout.strip().splitlines()[-1])
