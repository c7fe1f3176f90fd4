"""User-facing errors, reported in one line."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.io.store_errors import StoreAccessError, StoreError

_RESUME = "run the command again to resume"


class UserError(Exception):
    """Ends a command with exit code 2 and one line that names the setting, its value and the fix."""


def explain_os_error(error: OSError, action: str) -> str:
    """Format a failed read or write in one line: action (such as `writing x.csv`), reason and fix."""
    if isinstance(error, StoreError):
        text = f"{error} while {action}"
        if isinstance(error, StoreAccessError):
            text = f"permission denied while {action}: {error}; check credentials and rights"
        # Credentials may expire in the middle of a long run, and all commands that write can resume.
        return f"{text}; {_RESUME}" if action.startswith("writing") else text
    if error.errno == errno.ENOSPC:
        return f"disk full while {action}: free some space and {_RESUME}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"permission denied while {action}: {error.strerror}; choose a writable location"
    # Errors of object stores have no strerror, and span several lines.
    return f"{error.strerror or ' '.join(str(error).split())} while {action}"


def is_of_storage(error: BaseException) -> bool:
    """Return whether an error is one of the file system or object store, not of what a file contains.

    Libraries raise `OSError` without a number for damaged content too, and EINVAL for a position outside.
    """
    if isinstance(error, StoreError):
        return True
    return isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)


def check_not_storage(error: BaseException, path: Path | str) -> None:
    """Check, before a file is called damaged, that an error is not one of the storage that has it.

    Raises:
        UserError: it is one of the storage; the file may be intact.
    """
    if isinstance(error, OSError) and is_of_storage(error):
        raise UserError(explain_os_error(error, f"reading {path}")) from error


@contextmanager
def errors_without_flags() -> Iterator[None]:
    """Replace the flag at the start of a message by its path, or as an argument: a function has no flags.

    `--run x: …` becomes `x: …`, and `--fold 9: …` becomes `fold 9: …`.
    """
    try:
        yield
    except UserError as error:
        text = re.sub(r"^--(run|shards|audio) ", "", str(error))
        text = re.sub(r"^--([a-z-]+)", lambda flag: flag[1].replace("-", "_"), text)
        raise UserError(text) from error.__cause__


@contextmanager
def report_os_errors(
    action: str, path: Path | str, besides: tuple[type[OSError], ...] = ()
) -> Iterator[None]:
    """Convert an `OSError` inside the `with` block into a `UserError` that names the action and the path.

    Those of the classes `besides` are raised as they are.
    """
    try:
        yield
    except besides:
        raise
    except OSError as error:
        raise UserError(explain_os_error(error, f"{action} {path}")) from error
