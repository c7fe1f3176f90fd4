"""What a look at one thing found."""

from __future__ import annotations

from typing import Literal, NamedTuple

Level = Literal["ok", "warn", "fail"]


class Check(NamedTuple):
    """One line of `melray doctor`."""

    level: Level
    what: str
    found: str
    remedy: str = ""
    """What to do about it."""


def ok(what: str, found: str) -> Check:
    """As it should be."""
    return Check("ok", what, found)


def warn(what: str, found: str, remedy: str) -> Check:
    """Works, but not as well or as safely as it could."""
    return Check("warn", what, found, remedy)


def fail(what: str, found: str, remedy: str) -> Check:
    """Will keep some command from working."""
    return Check("fail", what, found, remedy)


def report(checks: list[Check]) -> str:
    """A line for each, and one more for each remedy."""
    width = max(len(check.what) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{check.level:<4}  {check.what:<{width}}  {check.found}")
        if check.remedy:
            lines.append(f"{'':<{width + 8}}-> {check.remedy}")
    return "\n".join(lines)
