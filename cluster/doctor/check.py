"""Result of a check, and the report of several."""

from __future__ import annotations

from typing import Literal, NamedTuple

Level = Literal["ok", "warn", "fail"]


class Check(NamedTuple):
    """One line of `melray doctor`."""

    level: Level
    name: str
    message: str
    hint: str = ""
    """How to fix it."""


def ok(name: str, message: str) -> Check:
    """Return a passed check."""
    return Check("ok", name, message)


def warn(name: str, message: str, hint: str) -> Check:
    """Return a check of something that works, but slowly or not safely."""
    return Check("warn", name, message, hint)


def fail(name: str, message: str, hint: str) -> Check:
    """Return a check of something that prevents a command from working."""
    return Check("fail", name, message, hint)


def report(checks: list[Check]) -> str:
    """Format checks as aligned lines, each followed by a line with its hint if it has one."""
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{check.level:<4}  {check.name:<{width}}  {check.message}")
        if check.hint:
            lines.append(f"{'':<{width + 8}}-> {check.hint}")
    return "\n".join(lines)
