"""Flags that may be given several times, as in other programs: `--env A --env B` is `--env A B`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_origin

from pydantic import BaseModel

REPEATABLE = ("env", "run")


def repeatable_flags(cls: type[BaseModel]) -> list[str]:
    """Return the flags of a configuration that take several values, and may be given several times."""
    fields = cls.model_fields
    return [
        f"--{name}" for name in REPEATABLE if name in fields and get_origin(fields[name].annotation) is tuple
    ]


def join_repeated_flags(arguments: Sequence[str], flags: Sequence[str]) -> list[str]:
    """Return the arguments with the values of each of some flags after one flag, at the end."""
    values: dict[str, list[str]] = {}
    others: list[str] = []
    current = others
    for argument in arguments:
        flag, has_equals, value = argument.partition("=")
        if flag in flags:
            current = values.setdefault(flag, [])
            current += [value] if has_equals else []
            continue
        current = others if argument.startswith("-") else current
        current.append(argument)
    return [*others, *(part for flag, texts in values.items() for part in (flag, *texts))]
