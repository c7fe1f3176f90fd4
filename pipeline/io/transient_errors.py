"""Repetition of reads that failed for a reason that passes: a network, a busy device, an object store."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from pipeline.io.store_errors import StoreError

T = TypeVar("T")
# Seconds to wait before each repetition. Clients of object stores have repeated each request before.
DELAYS_S = (0.5, 1.0, 2.0, 4.0)
_TRANSIENT = {
    getattr(errno, name)
    for name in (
        "EIO EREMOTEIO ESTALE EAGAIN EINTR EBUSY ETIMEDOUT ECONNABORTED ECONNREFUSED ECONNRESET EHOSTDOWN "
        "EHOSTUNREACH ENETDOWN ENETRESET ENETUNREACH ENOTCONN EPIPE ENOLINK ECOMM ENOMEM EMFILE ENFILE"
    ).split()
    if hasattr(errno, name)
}


def is_transient(error: OSError) -> bool:
    """Return whether the same read may succeed later: the error is not about the file itself."""
    if isinstance(error, StoreError):
        return error.transient
    if error.errno is not None:
        return error.errno in _TRANSIENT
    return not isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError | NotADirectoryError)


def repeat_transient(
    read: Callable[[], T],
    delays_s: Sequence[float] | None = None,
    may_pass: Callable[[OSError], bool] = is_transient,
) -> T:
    """Return the result of `read`, repeated after transient errors.

    Args:
        read: reads files, without side effects.
        delays_s: seconds to wait before each repetition (default: `DELAYS_S`).
        may_pass: whether an error is transient.

    Raises:
        OSError: an error that is not transient, or that of the last attempt.
    """
    for delay in DELAYS_S if delays_s is None else delays_s:
        try:
            return read()
        except OSError as error:
            if not may_pass(error):
                raise
            time.sleep(delay)
    return read()
