"""Scores of detected events and of windows of soundscapes, from what `melray predict --window` writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from models.event_metrics import add_counts, count_events, event_scores
from models.multi_label_metrics import average_precisions, mean_of_defined, rank_classes
from pipeline.audio.recordings import read_recording
from pipeline.classifier.windows.annotation_files import EVENTS_NAME
from pipeline.classifier.windows.event_scores import event_metrics
from pipeline.classifier.windows.event_scores import read_events as read_found_events
from pipeline.classifier.windows.events import merge_events
from pipeline.data.annotations.annotation import Annotation
from pipeline.data.annotations.window_labels import label_windows
from pipeline.data.labels import target_matrix
from pipeline.data.windows import WindowConfig, parse_overlap
from tests.helpers.soundscapes import SoundEvent, read_events

THRESHOLDS = (*np.arange(0.1, 0.9, 0.05).round(2).tolist(), 0.9, 0.95)


class Scored(NamedTuple):
    """Windows of a recording with their probabilities, and its true events."""

    recording: str
    starts: list[float]
    probabilities: np.ndarray
    """`[shape=(N, C)]`."""
    class_names: tuple[str, ...]
    events: list[SoundEvent]
    seconds: float
    """Length of the recording."""


def read_windows_table(predictions: Path, annotations: Path, prefix: str) -> list[Scored]:
    """Read the predicted windows and the true events of recordings.

    Args:
        predictions: output of `melray predict --window`.
        annotations: CSV of the true events.
        prefix: what paths in it have in front of the ids of the predictions.
    """
    table = pd.read_parquet(predictions / "windows.parquet")
    columns = [name for name in table.columns if name.startswith("p:")]
    truth = read_events(annotations)
    scored = []
    for recording, windows in table.groupby("id"):
        path = f"{prefix}{recording}"
        scored.append(
            Scored(
                str(recording),
                windows["start"].tolist(),
                windows[columns].to_numpy(),
                tuple(name[2:] for name in columns),
                truth[path],
                read_recording(annotations.parent / path).seconds,
            )
        )
    return scored


def best_threshold(tables: Sequence[Scored], window: float, hop: float) -> tuple[float, float]:
    """Return the threshold, equal for all classes, with the best macro event-based F1, and this F1."""
    scores = []
    for threshold in THRESHOLDS:
        counts = []
        for table in tables:
            thresholds = np.full(len(table.class_names), threshold)
            events = merge_events(table.starts, window, table.probabilities, thresholds, hop, table.seconds)
            found = np.array([event[:3] for event in events]).reshape(-1, 3)
            counts.append(count_events(_true_events(table), found, len(table.class_names)))
        scores.append(event_scores(add_counts(counts), tables[0].class_names)["macro_f1"])
    best = int(np.argmax(scores))
    return THRESHOLDS[best], scores[best]


def _true_events(table: Scored) -> np.ndarray:
    rows = [(event.start, event.end, table.class_names.index(event.label)) for event in table.events]
    return np.array(rows).reshape(-1, 3)


def score_events(predictions: Path, tables: Sequence[Scored]) -> dict[str, Any]:
    """Return the event-based and segment-based scores of `events.csv`."""
    class_names = tables[0].class_names
    metrics = event_metrics(
        {table.recording: _true_events(table) for table in tables},
        read_found_events(predictions / EVENTS_NAME, class_names),
        {table.recording: table.seconds for table in tables},
        class_names,
    )
    return {
        "event_macro_f1": metrics["events"]["macro_f1"],
        "event_micro_f1": metrics["events"]["micro_f1"],
        "onset_macro_f1": metrics["onsets"]["macro_f1"],
        "segment_macro_f1": metrics["segments"]["macro_f1"],
        "per_class": metrics["events"]["per_class"],
    }


def window_map(tables: Sequence[Scored], window: float) -> float | None:
    """Return the macro average precision of all windows, labeled as `melray extract` labels them.

    Windows that an event touches only briefly are left out, as there.
    """
    overlap = parse_overlap(WindowConfig().min_overlap)
    assert overlap is not None
    targets, probabilities = [], []
    for table in tables:
        events = [Annotation(event.start, event.end, event.label) for event in table.events]
        found = label_windows(table.starts, window, table.seconds, events, overlap)
        labels = found.labels | dict.fromkeys(found.background.tolist(), "")
        rows = sorted(labels)
        targets.append(target_matrix([labels[row] for row in rows], table.class_names))
        probabilities.append(table.probabilities[rows])
    rankings = rank_classes(np.concatenate(targets), np.concatenate(probabilities))
    return mean_of_defined(average_precisions(rankings))
