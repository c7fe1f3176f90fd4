"""Values of `--log-to`."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.arguments.flags import parse
from models.config import ConfigError
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.io.errors import UserError
from pipeline.training.trackers import names
from pipeline.training.trackers.names import client_names


def log_to(*values: str) -> tuple[str, ...]:
    config = parse(TrainClassifierConfig, "train-classifier", ["--shards", "s", "--run", "r", *values])
    return config.log_to


def test_default_is_tensorboard_alone() -> None:
    assert log_to() == ("tensorboard",) and client_names(log_to()) == ()


@pytest.mark.parametrize(
    "flags",
    [
        ["--log-to", "tensorboard,mlflow"],
        ["--log-to=tensorboard, mlflow,"],
        ["--log-to", "tensorboard", "mlflow"],
    ],
)
def test_names_are_separated_by_commas_or_blanks(flags: list[str]) -> None:
    assert log_to(*flags) == ("tensorboard", "mlflow")


@pytest.mark.parametrize(
    ("name", "hint"), [("mlfow", "did you mean mlflow?"), ("x", "choose one of tensorboard, mlflow, wandb")]
)
def test_unknown_name_is_an_error_with_hint(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match="is no tracker") as error:
        TrainClassifierConfig(shards=Path("s"), run=Path("r"), log_to=name)
    assert str(error.value).endswith(f"{name} is no tracker; {hint}") and "\n" not in str(error.value)


def test_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "find_spec", lambda name: None)
    with pytest.raises(UserError) as error:
        client_names(("tensorboard", "mlflow"))
    assert str(error.value) == "--log-to mlflow needs mlflow: pip install 'melray[mlflow]'"


def test_trackers_may_change_when_a_run_resumes() -> None:
    configs = [TrainClassifierConfig(shards=Path("s"), run=Path("r"), log_to=name) for name in ("mlflow", ())]
    assert configs[0].identity() == configs[1].identity() and "log_to" not in configs[0].identity()
