"""The watchdog ends a process that hangs and no other."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time

import pytest


def run(body: str) -> tuple[int, str, float]:
    """Run a program with a watchdog; return exit status, stderr and seconds."""
    imports = "import ctypes, time\nfrom pipeline.distributed.worker import heartbeat, watchdog\n"
    program = imports + textwrap.dedent(body)
    start = time.monotonic()
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    return result.returncode, result.stderr, time.monotonic() - start


@pytest.mark.parametrize(
    "hang", ["time.sleep(30)", "ctypes.PyDLL(None).sleep(30)"], ids=["waiting", "blocking the interpreter"]
)
def test_hanging_process_exits_with_stack_trace(hang: str):
    status, stderr, seconds = run(f"""
        def read_a_clip():
            {hang}
        with watchdog(1.0) as heartbeat:
            heartbeat()
            read_a_clip()
    """)
    assert status == 1 and "read_a_clip" in stderr and seconds < 20


def test_hanging_mp3_decoder_exits_with_stack_trace():
    status, stderr, seconds = run("""
        from pipeline.audio.decoding.decoder_output import hide_mpg123_messages
        def read_a_clip():
            with hide_mpg123_messages():
                time.sleep(30)
        with watchdog(1.0) as heartbeat:
            read_a_clip()
    """)
    assert status == 1 and "read_a_clip" in stderr and seconds < 20


def test_process_with_heartbeat_keeps_running():
    status, stderr, _ = run("""
        with watchdog(0.5) as heartbeat:
            for _ in range(10):
                time.sleep(0.1)
                heartbeat()
        time.sleep(1)
        with watchdog(0) as heartbeat:
            heartbeat()
            time.sleep(0.1)
    """)
    assert (status, stderr) == (0, "")


def test_heartbeat_inside_of_functions_keeps_process_running():
    status, stderr, _ = run("""
        heartbeat()  # without a watchdog: nothing happens
        def generate_samples():
            for _ in range(10):
                time.sleep(0.1)
                heartbeat()
        with watchdog(0.5):
            generate_samples()
    """)
    assert (status, stderr) == (0, "")


def test_outer_watchdog_continues_after_inner_one():
    status, stderr, seconds = run("""
        with watchdog(1.0):
            with watchdog(0.5) as heartbeat:
                heartbeat()
            def hang():
                time.sleep(30)
            hang()
    """)
    assert status == 1 and "in hang" in stderr and seconds < 20
