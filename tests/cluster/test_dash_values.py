"""Values that begin with a dash: classes, files and folders of any name, without hiding mistyped flags."""

from __future__ import annotations

import pytest

from cluster.arguments.flags import parse
from models.config import ConfigError
from pipeline.gan.config import GenerateConfig, TrainGanConfig
from pipeline.io.errors import UserError


def parse_labels(*flags: str) -> tuple[str, ...]:
    return parse(GenerateConfig, "generate", ["--run", "r", "--out", "o", *flags]).label


@pytest.mark.parametrize(
    ("flags", "labels"),
    [
        (["--label=-Robin"], ("-Robin",)),
        (["--label", "-Robin"], ("-Robin",)),
        (["--label", "-Robin", "dog", "-Wren", "--count", "2"], ("-Robin", "dog", "-Wren")),
        (["--label=dog", "-Wren"], ("dog", "-Wren")),
        (["--label=--Robin", "-x"], ("--Robin", "-x")),
        (["--label", "-Élan", "-", "-1", "-.5"], ("-Élan", "-", "-1", "-.5")),
    ],
    ids=str,
)
def test_labels_with_a_dash_are_values(flags: list[str], labels: tuple[str, ...]) -> None:
    parsed = parse_labels(*flags)
    assert parsed == labels and all(type(label) is str for label in parsed)


def test_paths_with_a_dash_are_values() -> None:
    config = parse(GenerateConfig, "generate", ["--run", "-run", "--out", "-x.wav", "--as-shards"])
    assert (config.run.name, config.out.name, config.as_shards) == ("-run", "-x.wav", True)


@pytest.mark.parametrize(
    "flags",
    [
        ["--count", "2", "-x"],
        ["--as-shards", "-x"],
        ["--cuont", "2"],
        ["-count", "2"],
        ["--label", "a", "--x"],
    ],
    ids=str,
)
def test_other_arguments_with_a_dash_are_errors(flags: list[str]) -> None:
    with pytest.raises(UserError, match="unknown flag"):
        parse_labels(*flags)


def test_flag_is_not_taken_for_a_label() -> None:
    config = parse(GenerateConfig, "generate", ["--run", "r", "--out", "o", "--label", "a", "--count", "3"])
    assert config.label == ("a",) and config.count == 3
    with pytest.raises(SystemExit):
        parse_labels("--label", "a", "-h")


def test_negative_number_out_of_range_is_named() -> None:
    with pytest.raises(ConfigError, match="seed"):
        parse_labels("--seed", "-1")
    with pytest.raises(ConfigError, match="channels"):
        parse(TrainGanConfig, "train-gan", ["--shards", "s", "--run", "r", "--gan.channels", "-8", "16"])
