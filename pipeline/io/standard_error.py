"""Lines that libraries write directly to file descriptor 2, kept out of the user's terminal."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

_lock = threading.Lock()


@contextmanager
def hide_lines(pattern: re.Pattern[bytes]) -> Iterator[None]:
    """Collect what is written to file descriptor 2; afterwards write the lines whose start does not match.

    The descriptor belongs to the process: only one thread at a time is in this context, and what other
    threads write meanwhile appears afterwards.
    """
    with _lock:
        try:
            stderr = os.dup(2)
        except OSError:  # closed, as in some services
            yield
            return
        if sys.stderr is not None:
            sys.stderr.flush()
        file = os.memfd_create("stderr") if hasattr(os, "memfd_create") else os.open(os.devnull, os.O_RDWR)
        os.dup2(file, 2)
        try:
            yield
        finally:
            if sys.stderr is not None:
                sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            with os.fdopen(file, "rb") as lines:
                _forward_other_lines(lines, pattern)


def _forward_other_lines(lines: BinaryIO, pattern: re.Pattern[bytes]) -> None:
    lines.seek(0)
    for line in lines:
        if not pattern.match(line):
            os.write(2, line)
