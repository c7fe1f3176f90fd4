"""Settings of a command: its defaults, then a YAML file, then flags; each wins over the one before."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple, TypeVar

import tyro

from cluster.arguments.usage import COMMON
from models.config import Config
from pipeline.io.errors import UserError
from pipeline.io.files import read_yaml

C = TypeVar("C", bound=Config)


class Common(NamedTuple):
    """Flags that every command has."""

    config: Path | None
    address: str | None
    cpus: int | None


def split_common(arguments: list[str]) -> tuple[Common, list[str]]:
    """Takes the common flags out of a command line; returns the others as they stand."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--address")
    parser.add_argument("--cpus", type=int)
    try:
        found, rest = parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise UserError(str(error)) from None
    if found.cpus is not None and found.cpus < 1:
        raise UserError(f"--cpus {found.cpus}: needs at least 1")
    return Common(found.config, found.address, found.cpus), rest


def parse(cls: type[C], command: str, arguments: list[str], config: Path | None) -> C:
    """The resolved settings of a command.

    Raises:
        ConfigError, UserError: an unreadable file, an unknown key, a value out of range.
    """
    default = yaml_default(cls, config) if config is not None else tyro.MISSING_NONPROP
    description = f"{cls.__doc__}\n\n{COMMON}"
    return tyro.cli(cls, prog=f"melray {command}", args=arguments, default=default, description=description)


def yaml_default(cls: type[C], path: Path) -> C:
    """The settings with the values of a file in place; what neither has stays to be asked for by flags."""
    values = read_yaml(path, "--config")
    # Placeholders let the given values be checked while required ones are still missing; all of those are paths.
    required = {name: Path() for name, field in cls.model_fields.items() if field.is_required()}
    checked = cls.parse(required | values, str(path))
    fields = {name: getattr(checked, name) for name in cls.model_fields}
    return cls.model_construct(  # type: ignore[return-value]
        **fields | dict.fromkeys(required.keys() - values.keys(), tyro.MISSING)
    )
