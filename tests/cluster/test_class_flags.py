"""Classes with names that look like other values keep them on the command line."""

from __future__ import annotations

import pytest

from cluster.arguments.flags import parse
from pipeline.classifier.predict import PredictConfig


@pytest.mark.parametrize("name", ["None", "none", "null", "007", "True", "-1", "1e5"])
def test_positive_class_is_text_of_any_kind(name: str) -> None:
    flags = ["--run", "r", "--audio", "a", "--out", "o", "--positive-class", name]
    assert parse(PredictConfig, "predict", flags).positive_class == name
