"""What `--help` says about the value of a flag: its type and its default, each once.

tyro would add `(default: None)` to a flag whose help text states what happens without it, and show the type
of an optional value as `{None}|INT`.
"""

from __future__ import annotations

from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro
from pydantic import BaseModel

_NAMES = {int: "INT", float: "FLOAT", str: "STR", Path: "PATH"}


def add_help_hints(cls: type[BaseModel]) -> None:
    """Add hints to the annotations of a class of settings, in place, where tyro reads them."""
    hints = {}
    for name, annotation in get_type_hints(cls, include_extras=True).items():
        field = cls.model_fields.get(name)
        if field is None:
            continue
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            add_help_hints(field.annotation)
            continue
        is_unset = not field.is_required() and field.get_default() in (None, ())
        states_default = "(default" in (field.description or "")
        hint = "" if is_unset or states_default else None
        metavar = optional_metavar(field.annotation)
        if hint is not None or metavar is not None:
            hints[name] = Annotated[annotation, tyro.conf.arg(help_behavior_hint=hint, metavar=metavar)]
    cls.__annotations__ = dict(cls.__annotations__) | hints


def required_flags(cls: type[BaseModel]) -> str:
    """Return the line of a help text that names the required settings; empty without any."""
    names = [
        name.upper() if tyro.conf.Positional in field.metadata else f"--{name.replace('_', '-')}"
        for name, field in cls.model_fields.items()
        if field.is_required()
    ]
    return f"required: {', '.join(names)}\n\n" if names else ""


def optional_metavar(annotation: Any) -> str | None:
    """Return how the value of an optional setting is shown, without `None`; None for tyro's own form."""
    if get_origin(annotation) not in (Union, UnionType) or NoneType not in get_args(annotation):
        return None
    shown = [_metavar(option) for option in get_args(annotation) if option is not NoneType]
    return None if None in shown else "|".join(map(str, shown))


def _metavar(annotation: Any) -> str | None:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) is Literal:
        return "{" + ",".join(map(str, get_args(annotation))) + "}"
    if get_origin(annotation) is tuple and Ellipsis not in get_args(annotation):
        parts = [_NAMES.get(part, "") for part in get_args(annotation)]
        return " ".join(parts) if all(parts) else None
    return _NAMES.get(annotation)
