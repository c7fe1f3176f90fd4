"""The bearer token of a server: in a file of its owner, never printed or logged."""

from __future__ import annotations

import hmac
import stat
from contextlib import suppress
from pathlib import Path

from cluster.connection.loopback import is_loopback
from cluster.connection.token import create_token, read_token
from cluster.serving.config import ServeConfig
from pipeline.data.row_cache import cache_folder
from pipeline.io.errors import UserError, report_os_errors

DEFAULT_NAME = "serve_token"


def token_file(config: ServeConfig) -> Path | None:
    """Return the file with the token that clients must send; None if they need none.

    It is created if it does not exist, so that clients keep their token when the server is started again.

    Raises:
        UserError: it cannot be created or read, is empty, or other users may read it.
    """
    path = config.token_file
    if path is None:
        if is_loopback(config.host):
            return None
        path = cache_folder() / DEFAULT_NAME
    with report_os_errors("writing", path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            create_token(path)
        mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise UserError(f"--token-file {path}: other users may read it; run `chmod 600 {path}`")
    return path


def read_serve_token(path: Path) -> str:
    """Return the token in a file.

    Raises:
        UserError: as `read_token`, or a token that no header can have.
    """
    token = read_token(path, "--token-file").value
    if not token.isascii() or not token.isprintable() or " " in token:
        raise UserError(f"--token-file {path}: a token consists of ASCII characters without spaces")
    return token


def is_authorized(header: str, token: str) -> bool:
    """Return whether the value of an `Authorization` header has the token, in time independent of both."""
    scheme, _, given = header.partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())
