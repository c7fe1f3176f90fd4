"""Switches without a value whose default depends on the data."""

from __future__ import annotations

import pytest

from cluster.arguments.flags import parse
from models.config import ConfigError
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.io.errors import UserError


def parse_switch(*flags: str) -> bool | None:
    arguments = ["--shards", "s", *flags, "--run", "r"]
    return parse(TrainClassifierConfig, "train-classifier", arguments).multi_label


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], None),
        (["--multi-label"], True),
        (["--multi_label"], True),
        (["--no-multi-label"], False),
        (["--multi-label", "False"], False),
        (["--multi-label", "None"], None),
        (["--multi-label", "--class-weights"], True),
    ],
    ids=str,
)
def test_switch_needs_no_value(flags: list[str], expected: bool | None) -> None:
    assert parse_switch(*flags) is expected


def test_other_value_of_switch_is_refused() -> None:
    with pytest.raises((ConfigError, UserError), match="maybe"):
        parse_switch("--multi-label", "maybe")
