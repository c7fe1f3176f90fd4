"""The command of a job, checked where it is submitted: its flags, and what its paths will mean where it runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, get_args

from cluster.arguments.flags import parse, split_common
from cluster.arguments.registry import config_class
from models.config import Config
from pipeline.io.errors import UserError
from pipeline.io.files import read_yaml

NOT_SUBMITTABLE = ("submit", "jobs", "cluster")


class JobCommand(NamedTuple):
    """A command that may be sent."""

    words: list[str]
    files: dict[str, bytes]
    """Files that travel with it beside melray's own, by name."""


def validate_command(words: list[str], root: Path, packed: set[Path], here: bool) -> JobCommand:
    """Reads a command as its job will, and makes its paths fit the place where that runs.

    A relative path to a file that is packed anyway stands for that. Any other becomes absolute where the cluster is on this
    machine (`here`), and is refused where it isn't. The file of --config goes along.

    Raises:
        UserError, ConfigError: an unknown command, a wrong flag, a path that would be another one there.
    """
    name, *rest = words
    if name in NOT_SUBMITTABLE:
        raise UserError(
            f"`melray {name}` does not run as a job: submit a command that works on sounds or models, or doctor"
        )
    common, flags = split_common(rest)
    if common.address is not None:
        raise UserError(
            f"--address {common.address} after the --: a job joins the cluster it runs on; to choose one, give it before the --"
        )
    settings, alone = config_class(name, [flag for flag in flags if flag != "--debug"])
    parse(settings, name, alone, common.config)

    def fit(flag: str, text: str) -> str:
        return resolve_path(flag, text, root, packed, here)

    keys = path_keys(settings)
    given = {} if common.config is None else read_yaml(common.config, "--config")
    flags = resolve_flags(flags, keys, fit) + resolve_values(settings, given, keys - given_keys(flags), fit)
    if common.config is None:
        return JobCommand([name, *flags], {})
    travelling = f"submitted/{common.config.name}"
    return JobCommand([name, "--config", travelling, *flags], {travelling: common.config.read_bytes()})


def path_keys(settings: type[Config]) -> set[str]:
    """The settings that are paths, or lists of such."""

    def is_path(annotation: Any) -> bool:
        return annotation is Path or any(map(is_path, get_args(annotation)))

    return {name for name, field in settings.model_fields.items() if is_path(field.annotation)}


def key_of(flag: str) -> str:
    """The setting of `--extra-shards` or `--extra_shards=…`."""
    return flag.partition("=")[0].removeprefix("--").replace("-", "_")


def given_keys(flags: list[str]) -> set[str]:
    """The settings that a command line gives."""
    return {key_of(word) for word in flags if word.startswith("--")}


def resolve_flags(flags: list[str], keys: set[str], fit: Callable[[str, str], str]) -> list[str]:
    """The same command line with each path in it made to fit."""
    words, flag = [], ""
    for word in flags:
        if word.startswith("--"):
            flag, equals, value = word.partition("=")
            words.append(f"{flag}={fit(flag, value)}" if equals and key_of(flag) in keys else word)
        else:
            words.append(fit(flag, word) if key_of(flag) in keys else word)
    return words


def resolve_values(
    settings: type[Config], given: dict[str, Any], keys: set[str], fit: Callable[[str, str], str]
) -> list[str]:
    """Flags for paths that a file of settings gives, or that are the default, where they must change to fit."""
    flags: list[str] = []
    for key in sorted(keys):
        value = given.get(key, settings.model_fields[key].get_default())
        texts = [
            str(text)
            for text in (value if isinstance(value, list | tuple) else [value])
            if isinstance(text, str | Path)
        ]
        flag = f"--{key.replace('_', '-')}"
        fitted = [fit(flag, text) for text in texts]
        if fitted != texts:
            flags += [flag, *fitted]
    return flags


def resolve_path(flag: str, text: str, root: Path, packed: set[Path], here: bool) -> str:
    """What to write for a path so that the job finds what is meant.

    Raises:
        UserError: it can't.
    """
    if "://" in text or Path(text).is_absolute():
        return text
    absolute = Path(os.path.abspath(text))
    if absolute.is_relative_to(root) and absolute.relative_to(root) in packed:
        return absolute.relative_to(root).as_posix()
    if here:
        return str(absolute)
    raise UserError(
        f"{flag} {text}: on the cluster, a relative path is a folder of the job's own, gone with it; "
        "give a URI, or an absolute path to a folder that all its machines share"
    )
