"""Errors of a command line: one line with a hint, instead of tyro's boxes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

# tyro's hook is not part of its public interface, which can only print an error or drop it.
from tyro import _errors as events

from models.config import Config, ConfigError, InvalidValue, leaf_fields
from pipeline.io.errors import UserError

COMMON_FLAGS = ("--config", "--address", "--cpus", "--log-level", "--quiet", "--debug", "--help")
# What word processors make of `--`.
DASHES = "-\N{EN DASH}\N{EM DASH}"


@contextmanager
def one_line_errors(cls: type[Config], command: str) -> Iterator[None]:
    """Convert what tyro reports about the flags of a command inside the block into a `UserError`.

    Errors in values name the flag rather than the key.
    """

    def raise_error(event: events.ParseErrorEvent) -> None:
        raise UserError(describe(event, known_flags(cls), f"`melray {command} --help` lists the flags"))

    try:
        with events.on_parse_error(raise_error):
            yield
    except ConfigError as error:
        raise _with_flags(error, known_flags(cls)) from None


def known_flags(cls: type[Config]) -> list[str]:
    """Return the flags of a configuration, such as `--mixup.rate`, and the common flags."""
    names = []
    for key, field in leaf_fields(cls).items():
        renamed = next((name for item in field.metadata if (name := getattr(item, "name", None))), key)
        names.append(f"--{renamed.replace('_', '-')}")
    return [*names, *COMMON_FLAGS]


def _with_flags(error: ConfigError, known: Sequence[str]) -> ConfigError:
    """Return an error in values that names flags instead of keys, where a key is that of one flag only."""
    problems = [_with_flag(problem, known) for problem in error.problems]
    return ConfigError("; ".join(problems)) if problems else error


def _with_flag(problem: InvalidValue | str, known: Sequence[str]) -> str:
    if isinstance(problem, str):
        return problem
    name = ".".join(part for part in problem.key.split(".") if not part.isdecimal()).replace("_", "-")
    flags = [flag for flag in known if flag == f"--{name}" or flag.endswith(f".{name}")]
    if len(flags) != 1:
        return str(problem)
    values = problem.value if isinstance(problem.value, list | tuple) else [problem.value]
    return " ".join([*flags, *map(str, values)]) + f": {problem.reason}"


_WRONG_COUNT = re.compile(
    r"from \[(?P<values>.*?)\].* input length \d+ did not match expected argument count (?P<count>\d+)"
)
# Names of other libraries for flags and their values, which are not similar enough to be found.
_OTHER_NAMES = {
    "lr": "learning-rate",
    "wd": "weight-decay",
    "num-workers": "workers",
    "n-jobs": "workers",
    "jobs": "workers",
    "num-epochs": "epochs",
    "gpus": "gpus-per-worker",
    "num-gpus": "gpus-per-worker",
    "sr": "features.mel.sample-rate",
    "n-mels": "features.mel.n-mels",
    "duration": "features.seconds",
    "output": "out",
    "output-dir": "out",
    "out-dir": "out",
    "dataset": "shards",
    "checkpoint": "run",
    "model": "run",
    "num-trials": "trials",
    "n-trials": "trials",
    "gpu": "cuda",
}


def describe(event: events.ParseErrorEvent, known: Sequence[str], help_hint: str) -> str:
    """Return the error and a hint in one line."""
    tokens = getattr(event, "unrecognized_tokens", None) or getattr(event, "tokens", None)
    if tokens:
        return describe_unknown(tokens[0], known, help_hint)
    match event:
        case events.MissingArgs():
            names = ", ".join(item.arg.display_name() for item in event.missing_arguments)
            return f"{names}: required; {help_hint}"
        case events.BadValue():
            return f"{event.argument.display_name()}: value missing; {help_hint}"
        case events.InvalidChoice():
            value = _OTHER_NAMES.get(event.value, event.value)
            matches = difflib.get_close_matches(value, event.choices, n=1)
            hint = f"did you mean '{matches[0]}'?" if matches else f"choose {', '.join(event.choices)}"
            return f"{event.argument.display_name()} {event.value}: unknown value; {hint}"
        case events.InstantiationFailure():
            flag = f"{event.argument.display_name()}: " if event.argument else ""
            return flag + describe_value(" ".join(event.message.split()))
    return f"invalid command line; {help_hint}"


def describe_value(message: str) -> str:
    """Return why a value cannot be converted, in words for Python's messages.

    Of a value that may also be None, tyro's message has those of both types.
    """
    if wrong := _WRONG_COUNT.search(message):
        values = wrong["values"].replace("'", "").replace(",", "")
        return f"{values or 'nothing'} given, but {wrong['count']} values, separated by blanks, are expected"
    for start, problem in (
        ("invalid literal for int() with base 10: ", "not an integer"),
        ("could not convert string to float: ", "not a number"),
        ("Could not find valid parse for arguments: ", "not valid; separate several values by blanks"),
    ):
        before, found, value = message.partition(start)
        if found and (not before or before.startswith("no type matching")):
            return f"{value.partition(' - <class')[0]} is {problem}"
    return message


def describe_unknown(token: str, known: Sequence[str], help_hint: str) -> str:
    """Return the error for an argument that is no flag, with the closest flag as a hint."""
    name = token.partition("=")[0].lstrip(DASHES).replace("_", "-").lower()
    if not token.startswith(tuple(DASHES)):
        return f"unexpected argument '{token}'; quote values that contain blanks; {help_hint}"
    # `--sample-rate` stands for `--features.mel.sample-rate`, but not for several flags.
    other = f"--{_OTHER_NAMES.get(name)}"
    nested = [flag for flag in known if flag.endswith(f".{name}")]
    if other in known:
        matches = [other]
    else:
        matches = nested if len(nested) == 1 else difflib.get_close_matches(f"--{name}", known, n=1)
    return f"unknown flag '{token.partition('=')[0]}'; " + (
        f"did you mean '{matches[0]}'?" if matches else help_hint
    )
