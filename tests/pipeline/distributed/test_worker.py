"""The watchdog ends a process that hangs and no other; lost workers are distinguished from bugs."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time

import pytest

from pipeline.distributed.worker import describe_bug, is_worker_lost, worker_lost_error
from pipeline.io.errors import UserError


def run(body: str) -> tuple[int, str, float]:
    """Run a program with a watchdog; return exit status, stderr and seconds."""
    imports = "import ctypes, time\nfrom pipeline.distributed.worker import watchdog\n"
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


def test_lost_worker_is_a_user_error():
    error = worker_lost_error(RuntimeError("trace\nConnection closed by peer"), 3)
    assert isinstance(error, UserError)
    assert str(error) == (
        "workers were lost more than --max-failures 3 times (last error: Connection closed by peer); "
        "rerun to resume from the last epoch"
    )


def test_bug_is_not_a_lost_worker():
    bug = ZeroDivisionError("division by zero")
    assert not is_worker_lost(bug) and worker_lost_error(bug, 3) is bug


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("wrong shape\nat layer 3"), "ValueError: wrong shape; --log-level debug shows where"),
        (KeyError(), "KeyError; --log-level debug shows where"),
        (
            RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
            "out of GPU memory: raise --gpus-per-worker, or use a GPU with more memory "
            "(RuntimeError: CUDA out of memory. Tried to allocate 2 GiB)",
        ),
        (
            MemoryError("Unable to allocate 2 GiB"),
            "out of memory: run fewer workers per node, or use nodes with more memory "
            "(MemoryError: Unable to allocate 2 GiB)",
        ),
    ],
)
def test_bug_is_described_in_one_line(error: Exception, message: str):
    assert describe_bug(error) == message
