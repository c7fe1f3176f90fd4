"""Commands that have commands of their own, such as `melray jobs stop`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from cluster.arguments.flags import Common, parse
from models.config import Config
from pipeline.io.errors import UserError


class Action(NamedTuple):
    """What follows the command's name: its settings, and what they are given to; returns the exit code."""

    settings: type[Config]
    run: Callable[[Any, Common], int]


def run_action(command: str, actions: dict[str, Action], common: Common, arguments: list[str]) -> int:
    """Runs the action that the first word names; one of the name '' is meant where none is named.

    Raises:
        UserError: none is named or known.
    """
    named = bool(arguments) and not arguments[0].startswith("-")
    name = arguments[0] if named else ""
    if name not in actions and arguments in (["-h"], ["--help"]):
        print(
            "\n".join(
                [f"usage: melray {command} {'|'.join(actions)} [flags]", "", *_purposes(command, actions)]
            )
        )
        raise SystemExit(0)
    if name not in actions:
        said = f"'{name}' is none of its actions" if named else "which action?"
        raise UserError(f"melray {command}: {said}; choose {', '.join(filter(None, actions))}")
    action = actions[name]
    config = parse(
        action.settings, f"{command} {name}".rstrip(), arguments[1:] if named else arguments, common.config
    )
    return action.run(config, common)


def _purposes(command: str, actions: dict[str, Action]) -> list[str]:
    width = max(map(len, actions))
    return [
        f"  melray {command} {name:<{width}}  {(action.settings.__doc__ or '').splitlines()[0]}"
        for name, action in actions.items()
    ]
