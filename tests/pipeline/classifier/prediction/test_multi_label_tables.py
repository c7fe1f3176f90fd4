"""Multi-label models: labels above thresholds in predictions and submissions, events of several classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

from pipeline.classifier.outputs import Outputs
from pipeline.classifier.predict import PredictConfig, predict
from pipeline.classifier.prediction import stages as predict_stages
from pipeline.classifier.prediction.tables import predicted_labels
from pipeline.distributed.batch_job import run_in_process
from pipeline.io.errors import UserError
from pipeline.training.model_file import ClassifierMetadata, load_classifier, save_model
from tests.helpers.saved_classifier import save_classifier
from tests.helpers.sounds import RATE, tone
from tests.pipeline.classifier.test_predict import run_never

NAMES = ("cat", "dog", "rain")
# Of the windows of `a.wav` and `b.wav`: sigmoids do not sum to 1.
PROBABILITIES = np.array(
    [[0.9, 0.7, 0.1], [0.9, 0.1, 0.1], [0.1, 0.2, 0.1], [0.1, 0.1, 0.1], [0.2, 0.1, 0.35]], np.float32
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Save a multi-label model whose probabilities of windows are constructed, and write recordings."""
    run = save_classifier(tmp_path / "run", NAMES)
    saved = load_classifier(run)
    metadata = saved.metadata.to_dict() | {"multi_label": True, "thresholds": (0.5, 0.6, 0.3)}
    save_model(run, saved.model, ClassifierMetadata.parse(metadata, "test"))
    (tmp_path / "audio").mkdir()
    soundfile.write(tmp_path / "audio" / "a.wav", tone(300, 3.0), RATE)
    soundfile.write(tmp_path / "audio" / "b.wav", tone(600, 2.0), RATE)
    monkeypatch.setattr(
        predict_stages, "predict_outputs", lambda model, mels, *_: Outputs(PROBABILITIES[: len(mels)])
    )
    return run


def config(run: Path, **settings: Any) -> PredictConfig:
    out = run.parent / "out"
    return PredictConfig(run=run, audio=run.parent / "audio", out=out, window=1.0, **settings)


def read(run: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(run.parent / "out" / name, keep_default_na=False)


def write_sample(run: Path, text: str) -> Path:
    path = run.parent / "sample.csv"
    path.write_text(text)
    return path


def test_labels_are_classes_above_thresholds() -> None:
    labels = predicted_labels(PROBABILITIES, NAMES, (0.5, 0.7, 0.3))
    assert labels == ["cat;dog", "cat", "", "", "rain"]
    assert predicted_labels(PROBABILITIES, NAMES) == ["cat", "cat", "dog", "cat", "rain"]


def test_recordings_have_maximum_and_labels(run: Path) -> None:
    table = predict(config(run), run_in_process).set_index("id")
    assert table["label"].to_dict() == {"a.wav": "cat;dog", "b.wav": "rain"}
    maximum = table.loc[["a.wav", "b.wav"], [f"p:{name}" for name in NAMES]].to_numpy(np.float32)
    assert (maximum == np.float32([[0.9, 0.7, 0.1], [0.2, 0.1, 0.35]])).all()
    assert read(run, "submission.csv")["label"].tolist() == ["cat;dog", "rain"]


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (None, [("a.wav", 0, 2, "cat"), ("a.wav", 0, 1, "dog"), ("b.wav", 1, 2, "rain")]),
        (0.8, [("a.wav", 0, 2, "cat")]),
    ],
)
def test_events_follow_thresholds(threshold: float | None, expected: list[tuple], run: Path) -> None:
    predict(config(run, threshold=threshold), run_in_process)
    events = read(run, "events.csv")
    found = list(events[["id", "start", "end", "label"]].itertuples(index=False, name=None))
    assert sorted(found) == sorted(expected)
    files = {path.name for path in (run.parent / "out" / "raven").iterdir()}
    assert files == {f"{name.removesuffix('.wav')}.selections.txt" for name, *_ in expected}


@pytest.mark.parametrize(
    ("column", "settings", "expected"),
    [
        ("dog rain", {}, ["cat dog", "cat", "", "", "rain"]),
        ("dog; cat", {}, ["cat; dog", "cat", "", "", "rain"]),
        ("?", {"submission_values": "labels"}, ["cat;dog", "cat", "", "", "rain"]),
        ("?", {}, ["cat;dog", "cat", "", "", "rain"]),
    ],
)
def test_submission_of_windows_has_several_labels(
    column: str, settings: dict[str, Any], expected: list[str], run: Path
) -> None:
    rows = [f"{name}_{end},{column}" for name, ends in (("a", (1, 2, 3)), ("b", (1, 2))) for end in ends]
    sample = write_sample(run, "\n".join(["row_id,birds", *rows]))
    predict(config(run, sample_submission=sample, **settings), run_in_process)
    assert read(run, "submission.csv")["birds"].tolist() == expected


def test_class_indices_are_refused(run: Path) -> None:
    with pytest.raises(UserError, match="--submission-values index: needs one class in each row"):
        predict(config(run, submission_values="index"), run_never)


def test_threshold_applies_to_clips_without_windows(run: Path) -> None:
    settings = PredictConfig(run=run, audio=run.parent / "audio", out=run.parent / "out", threshold=0.8)
    table = predict(settings, run_in_process)
    assert table["label"].tolist() == ["cat", "cat"]
