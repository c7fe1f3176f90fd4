"""A process that is stuck ends itself, and no other does."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time

import pytest


def run(body: str) -> tuple[int, str, float]:
    """Exit status, errors and seconds of a program that watches itself with a patience of 1 s."""
    program = "import ctypes, time\nfrom pipeline.distributed.worker import watchdog\n" + textwrap.dedent(
        body
    )
    start = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    return ended.returncode, ended.stderr, time.monotonic() - start


@pytest.mark.parametrize(
    "stuck", ["time.sleep(30)", "ctypes.PyDLL(None).sleep(30)"], ids=["waits", "holds the interpreter"]
)
def test_a_stuck_process_ends_and_tells_where_it_was(stuck: str) -> None:
    status, errors, seconds = run(f"""
        def read_a_clip():
            {stuck}
        with watchdog(1.0) as alive:
            alive()
            read_a_clip()
    """)
    assert status == 1 and "read_a_clip" in errors and seconds < 20


def test_one_that_says_that_it_gets_on_lives_and_so_does_one_that_is_done() -> None:
    status, errors, _ = run("""
        with watchdog(0.5) as alive:
            for _ in range(10):
                time.sleep(0.1)
                alive()
        time.sleep(1)
        with watchdog(0) as alive:
            alive()
            time.sleep(0.1)
    """)
    assert (status, errors) == (0, "")
