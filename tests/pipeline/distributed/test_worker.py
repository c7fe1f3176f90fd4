"""The watchdog ends a process that hangs and no other; training reuses its memory."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import textwrap
import time
from pathlib import Path

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


# Feature maps of a network of four blocks, forward and backward, and small things that stay in between.
STEPS = """
import ctypes, random
import torch
from pipeline.distributed.worker import set_up_training

class MallInfo(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

libc = ctypes.CDLL("libc.so.6")
libc.mallinfo2.restype = MallInfo
set_up_training(1)
rng, kept, used = random.Random(0), [], 0

def empty(size):
    return torch.empty(size, dtype=torch.uint8)

for step in range(100):
    maps = []
    for block in range(4):
        for _ in range(4):
            maps.append(empty((56 << 20) >> block))
            kept += [bytearray(rng.randrange(600, 3000))] if rng.random() < 0.3 else []
            empty(rng.randrange(1 << 20, 30 << 20))
    used = max(used, libc.mallinfo2().uordblks)
    while maps:
        empty(maps.pop().numel())
info = libc.mallinfo2()
print(used, info.arena + info.hblkhd)
"""


def glibc_output(program: str) -> list[int]:
    """Return the numbers that a program in its own process prints."""
    if not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("needs malloc of glibc 2.33")
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return [int(value) for value in output.stdout.split()]


def test_memory_of_training_does_not_grow_from_step_to_step() -> None:
    """With PyTorch's variable for large pages it grew to 5 GB in these steps."""
    used, reserved = glibc_output(STEPS)
    assert 500 << 20 < used < 600 << 20
    assert reserved < 2 * used + (1 << 30)  # and the part of the heap that is advised, whether used or not


@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage").exists(),
    reason="the kernel has no transparent huge pages",
)
def test_heap_of_training_has_large_pages() -> None:
    program = """
        import re
        from pathlib import Path
        from pipeline.distributed.worker import set_up_training
        set_up_training(1)
        areas = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) .*?VmFlags: (.*?)$",
            Path("/proc/self/smaps").read_text(), re.M | re.S)
        print(sum(int(end, 16) - int(start, 16) for start, end, flags in areas if "hg" in flags.split()))
    """
    (advised,) = glibc_output(textwrap.dedent(program))
    assert advised > 900 << 20
