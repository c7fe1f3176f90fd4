"""`melray evaluate`: flags that do not fit the kind of model are refused, not ignored."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.arguments.common_flags import CommonFlags
from cluster.model_commands import evaluate
from pipeline.classifier.evaluation_rows import EvaluateConfig
from pipeline.io.errors import UserError


@pytest.mark.parametrize(
    ("settings", "flag"),
    [
        ({"shards": "/s"}, "--shards /s"),
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
