"""Keeps glibc from handing large arrays back to the kernel after each use."""

from __future__ import annotations

import ctypes
from functools import cache

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


@cache
def keep_freed_memory() -> bool:
    """Asks the C library to reuse freed arrays; whether it could.

    By default every array above 128 KiB or so is mapped afresh and its pages zeroed by the kernel: half the time of a
    phase vocoder. Only glibc knows the setting; elsewhere nothing changes but the speed.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, 1 << 30) and mallopt(_M_TRIM_THRESHOLD, 1 << 30))
