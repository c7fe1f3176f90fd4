"""`melray evaluate`: flags that do not fit the kind of model are refused, not ignored."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.arguments.common_flags import CommonFlags
from cluster.model_commands import evaluate
from models.config import ConfigError
from pipeline.classifier.command_configs import EvaluateConfig
from pipeline.io.errors import UserError


def test_tensorboard_gets_no_evaluation(tmp_path: Path) -> None:
    message = (
        "^--log-to tensorboard: TensorBoard shows the epochs of a training run; .* or choose mlflow, wandb$"
    )
    with pytest.raises(ConfigError, match=message):
        EvaluateConfig(run=tmp_path, log_to=("tensorboard", "mlflow"))


@pytest.mark.parametrize(
    ("settings", "flag"),
    [
        ({"split": "all"}, "--split all"),
        ({"tta_shifts": 4}, "--tta-shifts 4"),
    ],
)
def test_flag_of_classifiers_is_refused_for_generator(tmp_path: Path, settings: dict, flag: str) -> None:
    (tmp_path / "model.json").write_text('{"kind": "generator"}')
    with pytest.raises(
        UserError, match=f"^{flag}: .* holds a generator, which is evaluated without; drop it$"
    ):
        evaluate(EvaluateConfig(run=tmp_path, **settings), CommonFlags())


@pytest.mark.parametrize(
    ("settings", "flag"),
    [({"clips_per_class": 4}, "--clips-per-class 4"), ({"reference_run": "/r"}, "--reference-run /r")],
)
def test_flag_of_generators_is_refused_for_classifier(tmp_path: Path, settings: dict, flag: str) -> None:
    (tmp_path / "model.json").write_text('{"kind": "classifier"}')
    with pytest.raises(UserError, match=f"^{flag}: .* holds no generator; drop it$"):
        evaluate(EvaluateConfig(run=tmp_path, **settings), CommonFlags())
