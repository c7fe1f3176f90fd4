"""Switches whose default depends on the data: `--multi-label` and `--no-multi-label`, without a value."""

from __future__ import annotations

from collections.abc import Sequence

from models.config import Config

_VALUES = ("True", "False", "None")


def switch_values(cls: type[Config], arguments: Sequence[str]) -> list[str]:
    """Return the arguments with a value after each switch of `cls` that has none, as tyro needs it.

    Switches are the fields that are true, false or None; `--no-` before a name means false.
    """
    names = [name.replace("_", "-") for name, f in cls.model_fields.items() if f.annotation == bool | None]
    switches = {f"--{name}": [f"--{name}", "True"] for name in names}
    switches |= {f"--no-{name}": [f"--{name}", "False"] for name in names}
    values: list[str] = []
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=False):
        flag = argument.replace("_", "-")
        values += [argument] if flag not in switches or following in _VALUES else switches[flag]
    return values
