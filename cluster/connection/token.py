"""Authentication token of a cluster: in a file of its owner, never printed, logged or sent with a job."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.io.errors import UserError, report_os_errors

AUTH_ENV_VARS = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@dataclass(frozen=True)
class Token:
    """A token and its source; only the source may be shown."""

    value: str = field(repr=False)
    source: str

    @property
    def header(self) -> dict[str, str]:
        """HTTP header that authenticates a request to the cluster."""
        return {"Authorization": f"Bearer {self.value}"}


def write_token(path: Path) -> None:
    """Replace the token in a file by a new random one."""
    path.unlink(missing_ok=True)
    create_token(path)


def create_token(path: Path) -> None:
    """Create a random token; its file is never readable by other users, not even briefly.

    Raises:
        FileExistsError: there is one already, perhaps of a command that was started at the same time.
    """
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(secrets.token_hex(32))


def read_token(path: Path, source: str) -> Token:
    """Return the token in a file; `source` names the file in error messages.

    Raises:
        UserError: missing or empty file.
    """
    with report_os_errors(f"reading the token of {source}:", path):
        value = path.read_text(encoding="utf-8").strip()
    if not value:
        raise UserError(f"{source} {path}: the token file is empty")
    return Token(value, f"{source} {path}")


def default_token() -> Token | None:
    """Return the token that Ray itself would use, if any.

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
    """Make Ray use the token in a file, not the user's; Ray reads the environment once per process."""
    os.environ.pop("RAY_AUTH_TOKEN", None)
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(path))
