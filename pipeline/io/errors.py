"""What can go wrong by the user's doing, and is told in one line."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """Ends a command with one line, which names the thing, its value and the remedy, and exit code 2."""


def explain_os_error(error: OSError, doing: str) -> str:
    """One line for a failed read or write: what was being done, why it failed, and what to do."""
    if error.errno == errno.ENOSPC:
        return f"disk full while {doing}: free some space, then run the same command again; it goes on where it stopped"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"not allowed while {doing}: {error.strerror}; choose a place that you may write to"
    # Stores say a great deal, on several lines.
    return f"{error.strerror or ' '.join(str(error).split())} while {doing}"


@contextmanager
def report_os_errors(doing: str, path: Path | str) -> Iterator[None]:
    """Turns an operating system's error into a `UserError` that says what was being done to which path."""
    try:
        yield
    except OSError as error:
        raise UserError(explain_os_error(error, f"{doing} {path}")) from error
