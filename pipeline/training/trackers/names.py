"""Names of trackers as values of `--log-to`, and the packages that they need."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from pipeline.io.errors import UserError

TENSORBOARD = "tensorboard"
# Trackers with a client library of their own, which is also the name of its extra.
CLIENTS = ("mlflow", "wandb")
NAMES = (TENSORBOARD, *CLIENTS)


def _split(values: Any) -> Any:
    """Split texts at commas: `mlflow,wandb` is the same as two values."""
    if isinstance(values, str):
        values = (values,)
    if not isinstance(values, Iterable):
        return values
    texts = [text.strip() for value in values for text in str(value).split(",")]
    return tuple(dict.fromkeys(text for text in texts if text))


def _check(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name not in NAMES:
            matches = difflib.get_close_matches(name.lower(), NAMES, n=1)
            hint = f"did you mean {matches[0]}?" if matches else f"choose one of {', '.join(NAMES)}"
            raise ValueError(f"{name} is no tracker; {hint}")
    return names


TrackerNames = Annotated[tuple[str, ...], BeforeValidator(_split), AfterValidator(_check)]


def client_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the trackers among `names` that have a client library.

    Raises:
        UserError: its package is not installed.
    """
    clients = tuple(name for name in names if name in CLIENTS)
    for name in clients:
        if find_spec(name) is None:
            raise UserError(f"--log-to {name} needs {name}: pip install 'melray[{name}]'")
    return clients
