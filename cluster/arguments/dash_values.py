"""Values that begin with a dash, such as the class `-Robin` or the file `-x.wav`, which look like flags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_origin

# Class of the values that tyro takes as they are, those after `=`; not part of its public interface.
from tyro._backends._tyro_backend import _LiteralValue as LiteralValue

from models.config import Config, leaf_fields


def mark_dash_values(cls: type[Config], arguments: Sequence[str]) -> list[str]:
    """Return the arguments of a configuration, with values that begin with one dash marked as values.

    A flag of melray has two dashes, except `-h`. So `-Robin` is a value directly after a flag that takes one,
    and anywhere after one that takes several; a value with two dashes needs `=`, as in `--label=--Robin`.
    """
    takes_several = _flags_with_values(cls)
    marked = []
    flag, is_first = "", False
    for argument in arguments:
        if argument.startswith("--"):
            flag, has_equals, _ = argument.partition("=")
            flag, is_first = flag.replace("_", "-"), not has_equals
            marked.append(argument)
            continue
        is_value = flag in takes_several and (is_first or takes_several[flag])
        is_first = False
        marked.append(LiteralValue(argument) if is_value and _begins_with_dash(argument) else argument)
    return marked


def _flags_with_values(cls: type[Config]) -> dict[str, bool]:
    """Return whether each flag that takes a value takes several."""
    return {
        f"--{name.replace('_', '-')}": get_origin(field.annotation) is tuple
        for name, field in leaf_fields(cls).items()
        if field.annotation is not bool
    }


def _begins_with_dash(argument: str) -> bool:
    return argument.startswith("-") and argument[1:2].isalpha() and argument != "-h"
