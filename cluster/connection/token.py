"""The token that opens a cluster: in a file that only its owner can read, and never in what is printed, logged or sent with a job."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.io.errors import UserError, report_os_errors

AUTH_ENV_VARS = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@dataclass(frozen=True)
class Token:
    """A token, and where it was found, which may be told."""

    value: str = field(repr=False)
    source: str

    @property
    def header(self) -> dict[str, str]:
        """What a request to the cluster carries."""
        return {"Authorization": f"Bearer {self.value}"}


def write_token(path: Path) -> None:
    """Makes a new token; its file is closed to others from its first moment."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))


def read_token(path: Path, source: str) -> Token:
    """The token in a file.

    Raises:
        UserError: no such file, or nothing in it.
    """
    with report_os_errors(f"reading the token that {source} names:", path):
        value = path.read_text().strip()
    if not value:
        raise UserError(f"{source} {path}: an empty file, not a token")
    return Token(value, f"{source} {path}")


def default_token() -> Token | None:
    """The token that Ray itself would use, if any.

    Raises:
        UserError: as `read_token`.
    """
    if value := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return Token(value, "RAY_AUTH_TOKEN")
    if path := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return read_token(Path(path), "RAY_AUTH_TOKEN_PATH")
    default = Path.home() / ".ray" / "auth_token"
    return read_token(default, "the file") if default.is_file() else None


def set_ray_token(path: Path) -> None:
    """Makes the Ray of this process, which looks once, use the token in a file whatever the user's environment says."""
    os.environ.pop("RAY_AUTH_TOKEN", None)
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(path))
