"""Requirements of workers beyond CPUs and GPUs: memory, custom resources, accelerator type, node labels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from pydantic import Field, model_validator

from models.config import Config

GIB = 2**30
# Ray gives a node with an H100 an amount of 1 of this resource; a worker that needs the type takes little.
ACCELERATOR_PREFIX, ACCELERATOR_AMOUNT = "accelerator_type:", 0.001
_SEVERAL_VALUES = re.compile(r"in\((.*)\)")


@dataclass(frozen=True)
class WorkerOptions:
    """What a worker needs of its node beyond CPUs and GPUs."""

    memory: int = 0
    """Bytes; Ray counts what workers request and does not limit what they use."""
    resources: Mapping[str, float] = field(default_factory=dict)
    """Amounts of custom resources by name."""
    accelerator_type: str | None = None
    """Such as `H100`."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Ray's label selector: values of labels; `!a`, `in(a,b)` and `!in(a,b)` are possible too."""

    @property
    def amounts(self) -> dict[str, float]:
        """Resources of a worker as amounts in a bundle of a Ray placement group."""
        accelerator = self.accelerator_type and {
            ACCELERATOR_PREFIX + self.accelerator_type: ACCELERATOR_AMOUNT
        }
        memory = {"memory": float(self.memory)} if self.memory else {}
        return memory | dict(self.resources) | (accelerator or {})

    @property
    def remote_options(self) -> dict[str, Any]:
        """Options of a Ray task or actor; only those that are set."""
        options = {
            "memory": self.memory,
            "resources": dict(self.resources),
            "accelerator_type": self.accelerator_type,
            "label_selector": dict(self.labels),
        }
        return {name: value for name, value in options.items() if value}

    def suits(self, labels: Mapping[str, str]) -> bool:
        """Return whether a node with these labels matches the label selector."""
        return all(_matches(selector, labels.get(name)) for name, selector in self.labels.items())

    def __str__(self) -> str:
        parts = [f"{self.memory / GIB:g} GiB of memory"] if self.memory else []
        parts += [f"{amount:g} {name}" for name, amount in self.resources.items()]
        parts += [f"accelerator {self.accelerator_type}"] if self.accelerator_type else []
        return " and ".join([*parts, *(f"label {name}={value}" for name, value in self.labels.items())])


def _matches(selector: str, value: str | None) -> bool:
    """Return whether a label's value, None if the node lacks the label, is selected, as Ray decides."""
    is_negated, selector = selector.startswith("!"), selector.removeprefix("!")
    several = _SEVERAL_VALUES.fullmatch(selector)
    values = [text.strip() for text in several[1].split(",")] if several else [selector]
    return (value in values) != is_negated


class WorkerOptionsConfig(Config):
    """Requirements of each worker beyond CPUs and GPUs."""

    memory_per_worker: float | None = Field(None, gt=0)
    """GiB of memory that Ray reserves per worker, so that fewer run on a node (default: none)."""
    resources: tuple[str, ...] = ()
    """Custom Ray resources per worker, each as NAME=AMOUNT."""
    accelerator_type: str | None = None
    """Type of the nodes' GPUs, by Ray's name such as A100 or H100."""
    label_selector: tuple[str, ...] = ()
    """Labels of the nodes, each as KEY=VALUE or with another form of value: !a, in(a,b), !in(a,b)."""

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        parse_amounts("--resources", self.resources)
        parse_labels("--label-selector", self.label_selector)
        return self

    @property
    def worker_options(self) -> WorkerOptions:
        """The settings in Ray's form."""
        return WorkerOptions(
            int((self.memory_per_worker or 0) * GIB),
            parse_amounts("--resources", self.resources),
            self.accelerator_type,
            parse_labels("--label-selector", self.label_selector),
        )


def parse_amounts(flag: str, texts: tuple[str, ...]) -> dict[str, float]:
    """Return the amounts of custom resources, given as `NAME=AMOUNT`.

    Raises:
        ValueError: another form, or a resource that has a flag of its own.
    """
    amounts = {}
    for name, text in _parse_pairs(flag, texts, "NAME=AMOUNT").items():
        if name in ("CPU", "GPU", "memory"):
            raise ValueError(f"{flag} {name}={text}: not a custom resource; use the flag for it")
        try:
            amounts[name] = float(text)
        except ValueError:
            raise ValueError(f"{flag} {name}={text}: {text} is not a number") from None
        if not 0 < amounts[name] < float("inf") or (amounts[name] > 1 and amounts[name] % 1):
            raise ValueError(f"{flag} {name}={text}: must be a fraction of 1 or a whole number")
    return amounts


def parse_labels(flag: str, texts: tuple[str, ...]) -> dict[str, str]:
    """Return a label selector, given as `KEY=VALUE`.

    Raises:
        ValueError: another form.
    """
    return _parse_pairs(flag, texts, "KEY=VALUE")


def _parse_pairs(flag: str, texts: tuple[str, ...], form: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not name or not value:
            raise ValueError(f"{flag} {text}: expected {form}")
        if name in pairs:
            raise ValueError(f"{flag} {text}: {name} is given twice")
        pairs[name] = value
    return pairs
