"""Flags that may be given several times, as in other programs: `--env A --env B` is `--env A B`."""

from __future__ import annotations

from collections.abc import Sequence

# By command.
REPEATABLE = {"submit": ("--env",), "serve": ("--run",)}


def join_repeated_flags(command: str, arguments: Sequence[str]) -> list[str]:
    """Return the arguments with the values of each repeatable flag after one flag, at the end."""
    repeatable = REPEATABLE.get(command, ())
    values: dict[str, list[str]] = {}
    others: list[str] = []
    current = others
    for argument in arguments:
        flag, has_equals, value = argument.partition("=")
        if flag in repeatable:
            current = values.setdefault(flag, [])
            current += [value] if has_equals else []
            continue
        current = others if argument.startswith("-") else current
        current.append(argument)
    return [*others, *(part for flag, texts in values.items() for part in (flag, *texts))]
