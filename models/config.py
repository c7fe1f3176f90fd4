"""The base of every configuration: frozen, typed, and strict about unknown keys."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

C = TypeVar("C", bound="Config")


class ConfigError(Exception):
    """A configuration that cannot be used; the text says which key, which value and what would do."""


class Config(BaseModel):
    """Frozen settings whose fields are checked when made; an unknown key is an error.

    Each field's docstring becomes the help of its command-line flag, so it states meaning, unit and range.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True
    )

    @classmethod
    def parse(cls, values: dict[str, Any], source: str = "configuration") -> Self:
        """Builds the configuration from plain values.

        Raises:
            ConfigError: in one line, with `source`, the key, its value and the remedy.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(f"{source}: {format_validation_error(cls, error)}") from None

    def __init__(self, **values: Any):
        """Raises `ConfigError`, in one line, where a value is wrong."""
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(format_validation_error(type(self), error)) from None

    # Nested settings are then checked by the outermost, whose error names the whole key.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    def subset(self, cls: type[C]) -> C:
        """The settings that this configuration inherits from `cls`, alone."""
        return cls(**{name: getattr(self, name) for name in cls.model_fields})

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON values, for a file beside what they made."""
        return self.model_dump(mode="json")

    def with_overrides(self, changes: dict[str, Any]) -> Self:
        """The same settings with others at some dotted keys, such as `mixup.rate`, checked anew.

        Raises:
            ConfigError: an unknown key, or a value that its field refuses.
        """
        values = self.to_dict()
        for key, value in changes.items():
            *path, last = key.split(".")
            place = values
            for part in path:
                place = place.setdefault(part, {})
            place[last] = value
        return type(self)(**values)


def leaf_fields(cls: type[BaseModel], prefix: str = "") -> dict[str, FieldInfo]:
    """Every single setting of nested ones, by its dotted key."""
    leaves: dict[str, FieldInfo] = {}
    for name, field in cls.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            leaves |= leaf_fields(inner, f"{prefix}{name}.")
        else:
            leaves[prefix + name] = field
    return leaves


def flat_values(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by their dotted keys, in their order; an empty mapping is a value."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= (
            flat_values(value, f"{prefix}{key}.")
            if isinstance(value, Mapping) and value
            else {prefix + str(key): value}
        )
    return flat


def format_validation_error(cls: type[BaseModel], error: ValidationError) -> str:
    """One line that names each wrong key, its value and the nearest right one."""
    lines = []
    for item in error.errors():
        path = [str(part) for part in item["loc"]]
        key = ".".join(path)
        if item["type"] == "extra_forbidden":
            known = _fields_at(cls, path[:-1])
            near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(sorted(known))}"
            lines.append(f"unknown key '{key}'; {hint}")
        else:
            message = item["msg"].removeprefix("Value error, ")
            where = (
                f"'{key}' = {item['input']!r}: "
                if key and not isinstance(item["input"], dict)
                else f"'{key}': "
                if key
                else ""
            )
            lines.append(where + message[:1].lower() + message[1:])
    return "; ".join(lines)


def _fields_at(cls: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        field = cls.model_fields.get(part)
        if (
            field is None
            or not isinstance(field.annotation, type)
            or not issubclass(field.annotation, BaseModel)
        ):
            return []
        cls = field.annotation
    return list(cls.model_fields)


def diff_settings(old: dict[str, Any], new: dict[str, Any], prefix: str) -> list[str]:
    """`key = old (now new)` for each value that differs between two nested settings."""
    changes = []
    for key in new:
        if isinstance(new[key], dict) and isinstance(old.get(key), dict):
            changes += diff_settings(old[key], new[key], f"{prefix}.{key}" if prefix else key)
        elif old.get(key) != new[key]:
            changes.append(f"{prefix}.{key}".lstrip(".") + f" = {old.get(key)} (now {new[key]})")
    return changes
