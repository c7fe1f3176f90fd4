"""From annotated recordings to detected events: extract --window, train, evaluate and predict --window."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from models.event_metrics import count_events, event_scores
from pipeline.classifier.command_configs import EvaluateConfig
from pipeline.classifier.evaluate import evaluate
from pipeline.classifier.loop import train_loop
from pipeline.classifier.predict import PredictConfig, write_predictions
from pipeline.classifier.train import begin_run
from pipeline.data.rows import read_rows
from pipeline.data.shard_manifest import open_shards
from pipeline.data.windows import window_starts
from pipeline.distributed.batch_job import run_in_process
from pipeline.extract import ExtractConfig, extract
from pipeline.training.model_file import load_classifier
from tests.helpers.runs import SINGLE_WORKER
from tests.helpers.sounds import RATE, SMALL_FEATURES, tone, train_config
from tests.helpers.soundscapes import SoundscapeConfig, read_events, write_soundscapes
from tests.helpers.source_sounds import Sound

CLASS_NAMES = ("tone 0", "tone 1", "tone 2")
WINDOW, HOP, SECONDS = 1.0, 0.25, 40.0


@dataclass(frozen=True)
class Stages:
    """Results of all stages."""

    annotations: Path
    run: Path
    shards: Path
    metrics: dict[str, Any]
    predictions: Path


def tones() -> list[Sound]:
    """Return tones of three pitches and several lengths; fold 2 has other ones than fold 1."""
    return [
        Sound(name, fold, tone(300 * 2**number * (1 + 0.01 * fold), 0.5 + 0.4 * i, seed=10 * fold + i))
        for number, name in enumerate(CLASS_NAMES)
        for fold in (1, 2)
        for i in range(4)
    ]


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Stages:
    """Train on the soundscapes of fold 1; evaluate and predict that of fold 2."""
    folder = tmp_path_factory.mktemp("soundscapes")
    config = SoundscapeConfig(SECONDS, RATE, events_per_minute=25, snr_db=(10.0, 20.0), max_overlap=2)
    annotations = write_soundscapes(folder / "audio", tones(), {1: 3, 2: 1}, config, annotation_files=True)
    features = SMALL_FEATURES.model_copy(update={"seconds": None})
    shards = folder / "shards"
    settings = {"window": WINDOW, "hop": HOP, "copies": 0, "features": features.to_dict()}
    extract(ExtractConfig(data=annotations, out=shards, **settings), run_in_process)
    training = train_config(
        shards, folder / "run", fold=2, val_fraction=0.0, epochs=40, learning_rate=1e-2, keep="last"
    )
    begin_run(training)
    train_loop(training, SINGLE_WORKER)
    metrics = evaluate(EvaluateConfig(run=training.run, split="held-out"))
    prediction = PredictConfig(
        run=training.run,
        audio=annotations.parent / "fold_2",
        out=folder / "predictions",
        window=WINDOW,
        hop=HOP,
        row_id="{stem}_{end}",
    )
    write_predictions(prediction, run_in_process)
    return Stages(annotations, training.run, shards, metrics, prediction.out)


def events_by_class(rows: list[tuple[float, float, str]]) -> np.ndarray:
    return np.array([(start, end, CLASS_NAMES.index(label)) for start, end, label in rows]).reshape(-1, 3)


def test_model_of_windows_is_multi_label(stages: Stages) -> None:
    manifest, saved = open_shards(stages.shards), load_classifier(stages.run)
    assert manifest.multi_label and manifest.hop == HOP
    assert saved.metadata.multi_label and saved.metadata.class_names == CLASS_NAMES
    assert saved.metadata.features.seconds == WINDOW


def test_evaluation_ranks_windows_of_held_out_recording(stages: Stages) -> None:
    assert stages.metrics["map"] > 0.9  # each class is in less than half of the windows


def test_events_match_annotated_sounds(stages: Stages) -> None:
    truth = read_events(stages.annotations)["fold_2/0000.flac"]
    with (stages.predictions / "events.csv").open(newline="", encoding="utf-8") as file:
        found = [(float(row["start"]), float(row["end"]), row["label"]) for row in csv.DictReader(file)]
    counts = count_events(events_by_class([tuple(event) for event in truth]), events_by_class(found), 3)
    scores = event_scores(counts, CLASS_NAMES)
    # Between 0.67 and 0.85 with four seeds: overlapping sounds, and first and last windows, are hard.
    assert scores["micro_f1"] > 0.5, scores


def test_windows_and_submission_have_a_row_per_window(stages: Stages) -> None:
    starts = window_starts(SECONDS, WINDOW, HOP)
    windows = pd.read_parquet(stages.predictions / "windows.parquet")
    assert windows["start"].tolist() == starts
    assert set(windows["id"]) == {"0000.flac"}
    probabilities = windows[[f"p:{name}" for name in CLASS_NAMES]].to_numpy()
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert (np.abs(probabilities.sum(axis=1) - 1) > 0.1).any()  # of a sigmoid each
    submission = pd.read_csv(stages.predictions / "submission.csv")
    assert submission.iloc[:3, 0].tolist() == ["0000_1", "0000_1.25", "0000_1.5"]
    assert len(submission) == len(starts)


def test_annotation_files_give_same_windows_as_table(stages: Stages, tmp_path: Path) -> None:
    settings = {"window": WINDOW, "hop": HOP, "copies": 0, "features": SMALL_FEATURES.to_dict()}
    data = stages.annotations.parent
    extract(ExtractConfig(data=data, out=tmp_path, annotations="auto", **settings), run_in_process)
    columns = ["clip_id", "label", "start", "end"]
    files, table = (read_rows(shards).table[columns] for shards in (tmp_path, stages.shards))
    pd.testing.assert_frame_equal(files, table)
