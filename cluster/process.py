"""Preparation of a process for its libraries: UTF-8, standard streams, user name, home, writable caches.

Services and detached jobs close the standard streams. Containers under an arbitrary user id have no entry in
the password file and no home folder, or `/`.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from pathlib import Path

# Variables of cache folders that are below the home folder by default.
CACHES = ("NUMBA_CACHE_DIR", "MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "XDG_CACHE_HOME")


def prepare_process() -> None:
    """Provide what this process lacks, for itself and its children; call it before libraries are imported."""
    restart_in_utf8_mode()
    open_standard_streams()
    provide_user_name()
    provide_home()


def restart_in_utf8_mode() -> None:
    """Start Python again in UTF-8 mode if the locale has another encoding, as `LC_ALL=C` or Latin-1 have.

    Names of files and classes would be decoded differently, and by processes on other nodes differently
    again. Children, such as Ray's processes, inherit the mode.
    """
    if sys.getfilesystemencoding() == "utf-8" or os.environ.get("PYTHONUTF8") == "1" or not sys.executable:
        return
    os.environ["PYTHONUTF8"] = "1"
    os.execv(sys.executable, sys.orig_argv)


def open_standard_streams() -> None:
    """Open closed standard streams as /dev/null: files opened later would get their descriptors."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free descriptor
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115


def current_folder_exists() -> bool:
    """Return whether the current folder still exists: without it, relative paths and some libraries fail."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def provide_user_name() -> None:
    """Set USER if the system has no name for this user: `getpass.getuser` would fail."""
    import getpass

    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = f"user-{os.getuid()}"


def provide_home() -> None:
    """Use a private folder for caches if the home folder is not writable, and as home if there is none.

    An existing home folder is kept: it may hold credentials that are mounted read-only.
    """
    home = Path(os.path.expanduser("~"))
    exists = home.is_absolute() and home.is_dir()
    cache = home / ".cache"
    if exists and os.access(cache if cache.exists() else home, os.W_OK | os.X_OK):
        return
    folder = private_folder()
    if not exists:
        os.environ["HOME"] = str(folder)
    for name in CACHES:
        os.environ.setdefault(name, str(folder / name.lower()))


def private_folder() -> Path:
    """Return a folder in the temporary folder to which only this user can write, if possible always the same.

    It will hold compiled code.
    """
    import tempfile

    folder = Path(tempfile.gettempdir()) / f"melray-home-{os.getuid()}"
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022:
            return folder
    return Path(tempfile.mkdtemp(prefix="melray-home-"))
