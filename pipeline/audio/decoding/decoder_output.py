"""Keep libmpg123's messages, which it writes directly to file descriptor 2, out of the user's terminal."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

# "[src/libmpg123/layer3.c:do_layer3():1774] error: …", "Warning: Xing stream size off by more than 1% …"
_MESSAGE = re.compile(rb"\[[^\]\n]*libmpg123|(Warning|Note|NOTE|Info): |\n")
_lock = threading.Lock()


@contextmanager
def hide_mpg123_messages() -> Iterator[None]:
    """Collect what is written to file descriptor 2, and write all but libmpg123's messages afterwards.

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
            os.dup2(stderr, 2)
            os.close(stderr)
            with os.fdopen(file, "rb") as messages:
                _forward_other_lines(messages)


def _forward_other_lines(messages: BinaryIO) -> None:
    messages.seek(0)
    for line in messages:
        if not _MESSAGE.match(line):
            os.write(2, line)
