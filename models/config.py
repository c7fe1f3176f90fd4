"""Base class of all configurations: frozen, typed, strict about unknown keys, with one-line errors."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from types import NoneType
from typing import Annotated, Any, NamedTuple, Self, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

C = TypeVar("C", bound="Config")
# A random seed. It and those that follow it are integers of 64 bits, as torch takes.
Seed = Annotated[int, Field(ge=0, le=2**62)]


def as_tuple(value: Any) -> Any:
    """Return a single value of a setting that takes several as a tuple of one."""
    return value if isinstance(value, tuple | list) else (value,)


class InvalidValue(NamedTuple):
    """A value that a setting cannot have."""

    key: str
    """Dotted key of the setting; of settings that were built on their own, without those around them."""
    value: Any
    reason: str

    def __str__(self) -> str:
        """Return key, value and reason, as for a file of settings."""
        return f"'{self.key}' = {self.value!r}: {self.reason}"


class ConfigError(Exception):
    """Invalid configuration; the message names the key, its value and the values allowed."""

    def __init__(self, message: str, problems: Sequence[InvalidValue | str] = ()):
        """Set the message, and of an error in values those of which it consists."""
        super().__init__(message)
        self.problems = problems


class Config(BaseModel):
    """Base class of frozen settings that are validated on construction; unknown keys are errors.

    The docstring of a field is the help text of its command-line flag: it gives meaning, unit and range.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        coerce_numbers_to_str=True,  # a class named 1 is a number in YAML
    )

    @model_validator(mode="before")
    @classmethod
    def _read_none(cls, values: Any) -> Any:
        """Accept the texts `none`, `null` and `~` for None where a number may be None."""
        if not isinstance(values, dict):
            return values
        none = {
            name: None
            for name, value in values.items()
            if isinstance(value, str)
            and value.strip().lower() in ("none", "null", "~")
            and name in cls.model_fields
            and _is_optional_number(cls.model_fields[name].annotation)
        }
        return values | none

    @classmethod
    def parse(cls, values: dict[str, Any], source: str = "configuration") -> Self:
        """Build the configuration from plain values.

        Raises:
            ConfigError: in one line, with `source`, the key, its value and a hint.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(f"{source}: {_join(_problems(cls, error))}") from None

    def __init__(self, **values: Any):
        """Validate the values; raise a one-line `ConfigError` if one is invalid."""
        try:
            super().__init__(**values)
        except ValidationError as error:
            problems = _problems(type(self), error)
            raise ConfigError(_join(problems), problems) from None

    # Pydantic then validates nested settings as part of the outermost, whose error has the full dotted key.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    def subset(self, cls: type[C]) -> C:
        """Return only the settings that this configuration inherits from `cls`."""
        return cls(**{name: getattr(self, name) for name in cls.model_fields})

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON values, to save them with the results they produced."""
        return self.model_dump(mode="json")

    @classmethod
    def default_settings(cls) -> dict[str, Any]:
        """Return the settings that have a default, as plain JSON values."""
        return cls.model_construct().model_dump(mode="json")

    def with_overrides(self, overrides: dict[str, Any]) -> Self:
        """Return a validated copy with other values at dotted keys such as `mixup.rate`.

        Raises:
            ConfigError: unknown key or invalid value.
        """
        values = self.to_dict()
        for key, value in overrides.items():
            *parents, name = key.split(".")
            section = values
            for parent in parents:
                section = section.setdefault(parent, {})
            section[name] = value
        return type(self)(**values)


def _is_optional_number(annotation: Any) -> bool:
    """Return whether a field may be None, and is otherwise a number, a boolean or a tuple."""
    types = get_args(annotation)
    return NoneType in types and all(
        part in (int, float, bool, NoneType) or get_origin(part) is tuple for part in types
    )


def leaf_fields(cls: type[BaseModel], prefix: str = "") -> dict[str, FieldInfo]:
    """Return all fields of nested settings by their dotted keys."""
    leaves: dict[str, FieldInfo] = {}
    for name, field in cls.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            leaves |= leaf_fields(annotation, f"{prefix}{name}.")
        else:
            leaves[prefix + name] = field
    return leaves


def flat_values(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings to dotted keys, in order; an empty mapping is a value."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= (
            flat_values(value, f"{prefix}{key}.")
            if isinstance(value, Mapping) and value
            else {prefix + str(key): value}
        )
    return flat


def _problems(cls: type[BaseModel], error: ValidationError) -> list[InvalidValue | str]:
    """Return the parts of a validation error: each invalid key, its value and the closest valid key."""
    return [_problem(cls, item) for item in error.errors()]


def _join(problems: Sequence[InvalidValue | str]) -> str:
    return "; ".join(map(str, problems))


def _problem(cls: type[BaseModel], item: ErrorDetails) -> InvalidValue | str:
    path = [str(part) for part in item["loc"]]
    key = ".".join(path)
    if item["type"] == "extra_forbidden":
        known = _field_names(cls, path[:-1])
        matches = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean '{matches[0]}'?" if matches else f"known keys: {', '.join(sorted(known))}"
        if "." in path[-1] and path[-1] in leaf_fields(cls):
            section, _, name = path[-1].rpartition(".")
            hint = f"nest it: {section.replace('.', ': {')}: {{{name}: …}}" + "}" * section.count(".")
        return f"unknown key '{key}'; {hint}"
    message = item["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if not key:
        return message
    value = item["input"]
    return f"'{key}': {message}" if isinstance(value, dict) else InvalidValue(key, _shown(value), message)


def _shown(value: Any) -> Any:
    """Return a value for a message, without the query of a URI, which may contain credentials."""
    text = value
    if isinstance(value, PurePath):  # which has one slash only after the scheme
        text = re.sub(r"\A([a-z][a-z0-9]+):/+", r"\1://", str(value))
    return re.sub(r"(?s)\A(\w+:/.*?\?).*", r"\1…", text) if isinstance(text, str) else text


def _field_names(cls: type[BaseModel], path: list[str]) -> list[str]:
    """Return the field names of the settings nested at `path`; empty if there are none."""
    for name in path:
        field = cls.model_fields.get(name)
        if (
            field is None
            or not isinstance(field.annotation, type)
            or not issubclass(field.annotation, BaseModel)
        ):
            return []
        cls = field.annotation
    return list(cls.model_fields)


def with_missing(settings: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Return settings with those of `defaults` that they lack, also in sections."""
    completed = defaults | settings
    for key, value in settings.items():
        if isinstance(value, dict) and isinstance(defaults.get(key), dict):
            completed[key] = with_missing(value, defaults[key])
    return completed


def diff_settings(old: dict[str, Any], new: dict[str, Any], prefix: str) -> list[str]:
    """Return `key = old (requested new)` for each value of `new` that differs from `old`; keys are dotted."""
    changes = []
    for key in new:
        if isinstance(new[key], dict) and isinstance(old.get(key), dict):
            changes += diff_settings(old[key], new[key], f"{prefix}.{key}" if prefix else key)
        elif old.get(key) != new[key]:
            changes.append(f"{prefix}.{key}".lstrip(".") + f" = {old.get(key)} (requested {new[key]})")
    return changes
