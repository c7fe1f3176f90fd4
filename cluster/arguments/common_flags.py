"""Flags that every command accepts, separated from the flags of its configuration."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, get_args

from cluster.arguments.repeated_flags import REPEATABLE
from pipeline.io.console import LogLevel
from pipeline.io.errors import UserError


class CommonFlags(NamedTuple):
    """Values of the common flags; None where a flag is absent."""

    config: Path | None = None
    address: str | None = None
    cpus: int | None = None
    log_level: LogLevel = "info"
    """`warning` under `--quiet`."""
    debug: bool = False
    ray: bool | None = None
    """Whether to use Ray; None: if the work is worth it, or with `address`."""


def split_common_flags(arguments: list[str], command: str = "") -> tuple[CommonFlags, list[str]]:
    """Parse the common flags of a command line; return them and the remaining arguments in their order.

    Flags that `command` allows to be repeated may be.

    Raises:
        UserError: a flag given twice, a missing, empty or invalid value, or contradicting flags.
    """
    _check_duplicates(arguments, REPEATABLE.get(command, ()))
    _check_empty_values(arguments)
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--address")
    parser.add_argument("--cpus", type=int)
    parser.add_argument("--ray", action=argparse.BooleanOptionalAction)
    parser.add_argument("--log-level", choices=get_args(LogLevel))
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--debug", action="store_true")
    try:
        values, rest = parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise UserError(str(error).removeprefix("argument ")) from None
    if values.cpus is not None and values.cpus < 1:
        raise UserError(f"--cpus {values.cpus}: must be at least 1")
    if values.address is not None and values.ray is False:
        raise UserError(f"--address {values.address} and --no-ray: drop one of them")
    if values.address is not None and values.cpus is not None:
        raise UserError(
            f"--cpus {values.cpus}: CPUs of this host, which --address {values.address} does not use; "
            "drop one of them"
        )
    if values.quiet and values.log_level not in (None, "warning"):
        raise UserError(f"--quiet means --log-level warning; drop it or --log-level {values.log_level}")
    level: LogLevel = "warning" if values.quiet else values.log_level or "info"
    return CommonFlags(values.config, values.address, values.cpus, level, values.debug, values.ray), rest


def _check_duplicates(arguments: Sequence[str], repeatable: Sequence[str]) -> None:
    """Raise an error for a flag that is given twice and not repeatable: one of its values would be used.

    `--flag` and `--no-flag` are the same flag.

    Raises:
        UserError: names the flag.
    """
    seen: set[str] = set()
    for argument in arguments:
        if not argument.startswith("--") or not argument[2:3].isalpha():
            continue
        flag = argument.partition("=")[0]
        if flag in repeatable:
            continue
        name = flag.removeprefix("--").replace("_", "-").removeprefix("no-")
        if name in seen:
            raise UserError(f"{flag}: given twice; give one value, or several after one {flag}")
        seen.add(name)


def _check_empty_values(arguments: Sequence[str]) -> None:
    """Raise an error for an empty value: an empty path would be the current folder.

    Raises:
        UserError: names the flag.
    """
    for flag, value in zip(["", *arguments], arguments, strict=False):
        if not value or (value.startswith("--") and value.endswith("=")):
            raise UserError(f"{(value or flag).rstrip('=')}: empty value; is a variable of the shell unset?")


def job_flags(common: CommonFlags) -> list[str]:
    """Return the flags that give a job the log level, error output and use of Ray of its command."""
    level = [] if common.log_level == "info" else ["--log-level", common.log_level]
    debug = ["--debug"] if common.debug else []
    ray = [] if common.ray is None else ["--ray" if common.ray else "--no-ray"]
    cpus = [] if common.cpus is None else ["--cpus", str(common.cpus)]
    return [*level, *debug, *ray, *cpus]
