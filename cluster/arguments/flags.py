"""Configuration of a command: defaults, overridden by a YAML file, overridden by flags; and help texts."""

from __future__ import annotations

import inspect
import os
import shutil
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import TypeVar

import tyro
from pydantic import BaseModel

from cluster.arguments.dash_values import mark_dash_values
from cluster.arguments.errors import one_line_errors
from cluster.arguments.help_hints import add_help_hints, required_flags
from cluster.arguments.optional_switches import switch_values
from cluster.arguments.registry import actions, command_specs, load_config_class
from cluster.arguments.repeated_flags import join_repeated_flags
from cluster.arguments.usage import COMMON_FLAGS
from models.config import Config
from pipeline.io.yaml_files import read_yaml

C = TypeVar("C", bound=Config)
# In narrower terminals tyro would never finish to break the lines of a help text.
MIN_HELP_WIDTH, MAX_HELP_WIDTH = 40, 100


def parse(cls: type[C], command: str, arguments: list[str], config: Path | None = None) -> C:
    """Return the configuration of a command line.

    Args:
        cls: class of the configuration.
        command: name of the command, for its help text.
        arguments: flags of the configuration.
        config: YAML file with values that take precedence over the defaults.

    Raises:
        ConfigError, UserError: unreadable file, unknown key, unknown or missing flag, or invalid value.
        SystemExit: after `--help`.
    """
    default = yaml_default(cls, config) if config is not None else tyro.MISSING_NONPROP
    _join_help_lines(cls)
    add_help_hints(cls)
    width = max(MIN_HELP_WIDTH, shutil.get_terminal_size().columns)
    with one_line_errors(cls, command), _terminal_width(width):
        return tyro.cli(
            cls,
            prog=f"melray {command}",
            args=mark_dash_values(cls, switch_values(cls, join_repeated_flags(command, arguments))),
            default=default,
            description=f"{_wrap_description(cls)}\n\n{required_flags(cls)}{COMMON_FLAGS}",
        )


def yaml_default(cls: type[C], path: Path) -> C:
    """Return the values of a YAML file as a configuration; required values it lacks are left to the flags."""
    values = read_yaml(path, "--config")
    # Placeholders validate the given values while required ones are missing; all required fields are paths.
    required = {name: Path() for name, field in cls.model_fields.items() if field.is_required()}
    checked = cls.parse(required | values, str(path))
    fields = {name: getattr(checked, name) for name in cls.model_fields}
    return cls.model_construct(  # type: ignore[return-value]
        **fields | dict.fromkeys(required.keys() - values.keys(), tyro.MISSING)
    )


def _join_help_lines(cls: type[BaseModel]) -> None:
    """Join the lines of field docstrings, in place: tyro would keep their line breaks and add its own."""
    for field in cls.model_fields.values():
        if field.description:
            field.description = " ".join(field.description.split())
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            _join_help_lines(field.annotation)


def _wrap_description(cls: type[BaseModel]) -> str:
    """Return the docstring of a class, wrapped to the terminal's width, which tyro does for flags only.

    Lines are indented because tyro joins those that begin with a letter.
    """
    paragraphs = inspect.cleandoc(cls.__doc__ or "").split("\n\n")
    width = _help_width()
    return "\n".join(
        textwrap.fill(paragraph, width, initial_indent="  ", subsequent_indent="  ")
        for paragraph in paragraphs
    )


def _help_width() -> int:
    return max(MIN_HELP_WIDTH, min(shutil.get_terminal_size().columns, MAX_HELP_WIDTH))


def actions_help(command: str) -> str:
    """Return the help text of a command that is followed by an action, such as `melray cluster`."""
    keys = [key for key in command_specs(command) if " " in key]
    width = max(map(len, keys))
    lines = []
    for key in keys:
        summary = inspect.cleandoc(load_config_class(key).__doc__ or "").partition("\n\n")[0]
        start = f"  melray {key:<{width}}  "
        lines.append(textwrap.fill(start + summary, _help_width(), subsequent_indent=" " * len(start)))
    usage = f"usage: melray {command} {'|'.join(actions(command))} [flags]"
    return "\n".join([usage, "", *lines, ""])


def help_text(command: str, width: int = 100) -> str:
    """Return what `--help` prints for a command and each of its actions, as plain text `width` columns wide.

    `command` is a command such as `extract` or a command with its action such as `jobs logs`.
    """
    keys = command_specs(command)
    with _terminal_width(width):
        texts = [] if command in keys else [actions_help(command)]
        for key in keys:
            output = StringIO()
            with redirect_stdout(output), suppress(SystemExit):
                parse(load_config_class(key), key, ["--help"])
            texts.append(output.getvalue())
    return "\n".join("\n".join(line.rstrip() for line in text.splitlines()) + "\n" for text in texts)


@contextmanager
def _terminal_width(width: int) -> Iterator[None]:
    previous = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(width)
    try:
        yield
    finally:
        if previous is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = previous
