"""Command of a job: validate its flags before it is submitted, and resolve its paths for the cluster."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

from tyro.conf import Positional

from cluster.arguments.common_flags import CommonFlags, job_flags, split_common_flags
from cluster.arguments.flags import parse
from cluster.arguments.registry import load_config_class, resolve_command
from models.config import Config
from pipeline.io.errors import UserError
from pipeline.io.storage import to_path
from pipeline.io.yaml_files import read_yaml

NOT_SUBMITTABLE = ("submit", "jobs", "cluster")


class JobCommand(NamedTuple):
    """A validated command."""

    arguments: list[str]
    """Command name and flags."""
    files: dict[str, bytes]
    """Contents of further files that it needs in the package, by path in the package."""
    key: str
    """Its key in the registry of commands."""
    config: Config
    """Its settings, with paths as they were given."""
    local_paths: dict[str, str]
    """Paths on the nodes' file systems by flag, such as `--out`; several of one flag are joined by blanks."""


def validate_command(arguments: list[str], root: Path, packed: set[Path], is_local: bool) -> JobCommand:
    """Parse a command as its job will, and resolve its relative paths.

    A path of a packed file becomes its path in the package. Any other relative path becomes absolute if the
    cluster is on this host (`is_local`), and is an error if it is not. The file of `--config` is added to the
    package.

    Args:
        arguments: command name and flags.
        root: checkout whose files are packed.
        packed: packed files relative to `root`.
        is_local: whether the cluster is on this host.

    Raises:
        UserError, ConfigError: unknown command, invalid flag, or a path that would not exist on the cluster.
    """
    name, *rest = arguments
    if name in NOT_SUBMITTABLE:
        raise UserError(
            f"`melray {name}` cannot be submitted as a job; "
            "submit a pipeline command such as extract, or doctor"
        )
    common, flags = split_common_flags(rest, name)
    _check_common_flags(common)
    key, config_flags = resolve_command(name, flags)
    config_class = load_config_class(key)
    config = parse(config_class, key, config_flags, common.config)
    local_paths: dict[str, str] = {}
    words = path_words(config_class)

    def resolve(flag: str, text: str) -> str:
        if text in words.get(flag_key(flag), ()):
            return text
        path = resolve_path(flag, text, root, packed, is_local)
        if Path(path).is_absolute():
            local_paths[flag] = f"{local_paths[flag]} {path}" if flag in local_paths else path
        return path

    keys, positional = path_keys(config_class), positional_field(config_class)
    text = ""
    if positional is not None:
        keys.remove(positional)
        text = given_path(flags, getattr(config, positional))
        flags = [argument for argument in flags if argument != text]
    values = {} if common.config is None else read_yaml(common.config, "--config")
    flags = resolve_flags(flags, keys, resolve) + resolve_values(
        config_class, values, keys - given_keys(flags), resolve
    )
    if positional is not None and text:
        flags.insert(0, resolve(positional.upper(), text))
    flags += job_flags(common)
    if common.config is None:
        return JobCommand([name, *flags], {}, key, config, local_paths)
    packed_config = f"submitted/{common.config.name}"
    files = {packed_config: common.config.read_bytes()}
    return JobCommand([name, "--config", packed_config, *flags], files, key, config, local_paths)


def _check_common_flags(common: CommonFlags) -> None:
    """Check the flags that all commands have.

    Raises:
        UserError: one that a job cannot have.
    """
    if common.address is not None:
        raise UserError(
            f"--address {common.address} must come before `--`: the job itself joins the cluster it runs on"
        )
    if common.cpus is not None and common.ray is not False:
        raise UserError(
            f"--cpus {common.cpus}: a job uses the CPUs of its cluster; drop it, or add --no-ray to compute "
            "in the job's own process"
        )


def path_keys(config_class: type[Config]) -> set[str]:
    """Return the fields that hold paths or lists of paths."""

    def is_path(annotation: Any) -> bool:
        return annotation is Path or any(map(is_path, get_args(annotation)))

    return {name for name, field in config_class.model_fields.items() if is_path(field.annotation)}


def path_words(config_class: type[Config]) -> dict[str, set[str]]:
    """Return the words that fields may have instead of paths, such as `auto`; only of fields with any."""

    def words(annotation: Any) -> set[str]:
        arguments = get_args(annotation)
        if get_origin(annotation) is Literal:
            return set(arguments)
        return set[str]().union(*map(words, arguments))

    found = {name: words(config_class.model_fields[name].annotation) for name in path_keys(config_class)}
    return {name: values for name, values in found.items() if values}


def positional_field(config_class: type[Config]) -> str | None:
    """Return the field of the path that is given without a flag; None without one."""
    fields = config_class.model_fields.items()
    return next((name for name, field in fields if Positional in field.metadata), None)


def given_path(arguments: list[str], path: Path) -> str:
    """Return the argument that stands for a parsed path; empty if it is from a file of settings."""

    def is_path(argument: str) -> bool:
        with suppress(ValueError):
            return to_path(argument) == path
        return False

    return next((text for text in arguments if not text.startswith("--") and is_path(text)), "")


def flag_key(flag: str) -> str:
    """Return the field of a flag such as `--extra-shards` or `--extra_shards=…`."""
    return flag.partition("=")[0].removeprefix("--").replace("-", "_")


def given_keys(flags: list[str]) -> set[str]:
    """Return the fields that flags set."""
    return {flag_key(argument) for argument in flags if argument.startswith("--")}


def resolve_flags(flags: list[str], keys: set[str], resolve: Callable[[str, str], str]) -> list[str]:
    """Return the flags with every path among their values resolved; `keys` are the fields that hold paths."""
    resolved, flag = [], ""
    for argument in flags:
        if argument.startswith("--"):
            flag, equals, value = argument.partition("=")
            is_path = equals and flag_key(flag) in keys
            resolved.append(f"{flag}={resolve(flag, value)}" if is_path else argument)
        else:
            resolved.append(resolve(flag, argument) if flag_key(flag) in keys else argument)
    return resolved


def resolve_values(
    config_class: type[Config], values: dict[str, Any], keys: set[str], resolve: Callable[[str, str], str]
) -> list[str]:
    """Return flags for those paths of a YAML file, or defaults, that change when resolved."""
    flags: list[str] = []
    for key in sorted(keys):
        value = values.get(key, config_class.model_fields[key].get_default())
        paths = [
            str(item)
            for item in (value if isinstance(value, list | tuple) else [value])
            if isinstance(item, str | Path)
        ]
        flag = f"--{key.replace('_', '-')}"
        resolved = [resolve(flag, path) for path in paths]
        if resolved != paths:
            flags += [flag, *resolved]
    return flags


def resolve_path(flag: str, text: str, root: Path, packed: set[Path], is_local: bool) -> str:
    """Return the path or URI under which a job finds the same file or folder; see `validate_command`.

    Raises:
        UserError: it would not exist on the cluster.
    """
    if "://" in text or Path(text).is_absolute():
        return text
    absolute = Path(os.path.abspath(text))
    if absolute.is_relative_to(root) and absolute.relative_to(root) in packed:
        return absolute.relative_to(root).as_posix()
    if is_local:
        return str(absolute)
    raise UserError(
        f"{flag} {text}: relative paths do not persist on the cluster; use a URI, "
        "or the absolute path of a folder shared by all nodes"
    )
