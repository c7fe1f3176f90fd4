"""Scores of detected events by annotated ones: `event_scores.json` and `event_scores.csv`."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from models.event_metrics import (
    COLLAR_SECONDS,
    LENGTH_FRACTION,
    SEGMENT_SECONDS,
    add_counts,
    count_events,
    count_segments,
    event_scores,
)
from pipeline.classifier.prediction.recording_list import RecordingList
from pipeline.classifier.windows.annotation_files import EVENTS_NAME
from pipeline.classifier.windows.config import WindowOutputConfig
from pipeline.data.annotations.annotation import Annotation, class_events, is_outside, outside_warning
from pipeline.data.annotations.read_annotations import FLAG, read_annotations
from pipeline.data.clips import shown
from pipeline.data.labels import split_labels
from pipeline.io.errors import UserError
from pipeline.io.files import csv_text, write_text_atomically
from pipeline.io.text import plural
from pipeline.report.page import number

SCORES_NAME, SCORES_CSV_NAME = "event_scores.json", "event_scores.csv"
CSV_COLUMNS = (
    "label", "annotated", "detected", "precision", "recall", "f1", "onset_f1",
    "segment_precision", "segment_recall", "segment_f1",
)  # fmt: skip


@dataclass(frozen=True)
class ReferenceEvents:
    """Annotated events of recordings, by the ids of these."""

    events: dict[str, np.ndarray]
    """Start and end in seconds, and class index, of each event `[shape=(N, 3)]`."""
    seconds: dict[str, float]
    """Length of each recording."""
    warnings: list[str] = field(default_factory=list)


def read_reference_events(
    config: WindowOutputConfig,
    audio: Sequence[Path],
    recordings: RecordingList,
    class_names: Sequence[str],
) -> ReferenceEvents:
    """Read the annotations that the settings name.

    Args:
        config: settings with annotations.
        audio: folder of the recordings, one of them, or a table of them.
        recordings: recordings that are predicted.
        class_names: classes of the model.

    Raises:
        UserError: unreadable annotations, or those of other recordings.
    """
    assert config.annotations is not None
    if len(audio) > 1:
        raise UserError(f"{FLAG}: needs one folder, file or table as --audio, not {len(audio)}")
    folder = audio[0] if audio[0].is_dir() else audio[0].parent
    read = read_annotations(
        folder, config.annotations, config.label_column, data_flag="--audio", wanted=recordings.clips
    )
    by_path = {
        path: read.events[clip_id]
        for path, clip_id in zip(read.clips["path"], read.clips["clip_id"], strict=True)
    }
    result = reference_events(by_path, recordings, class_names)
    result.warnings[:0] = read.warnings
    return result


def reference_events(
    annotated: Mapping[str, Sequence[Annotation]], recordings: RecordingList, class_names: Sequence[str]
) -> ReferenceEvents:
    """Return the annotated events of those recordings that have annotations.

    Args:
        annotated: annotations by the paths of recordings.
        recordings: recordings that are predicted.
        class_names: classes of the model; events of other ones are left out, with a warning.

    Raises:
        UserError: none of the recordings has annotations.
    """
    clips, index = recordings.clips, {name: number for number, name in enumerate(class_names)}
    unknown: Counter[str] = Counter()
    outside: Counter[str] = Counter()
    result = ReferenceEvents({}, {})
    for clip_id, path, length in zip(
        clips["clip_id"], clips["path"], recordings.seconds.tolist(), strict=True
    ):
        if path not in annotated:
            continue
        # One that cannot be read has no length, and its events are not detected.
        length = math.inf if math.isnan(length) else length
        outside[clip_id] = sum(is_outside(event, length) for event in annotated[path])
        names = (name for event in annotated[path] for name in split_labels(event.label))
        unknown.update(name for name in names if name not in index)
        rows = [
            (event.start, event.end, index[event.label])
            for event in class_events(annotated[path], length)
            if event.label in index
        ]
        events = np.array(rows, np.float64).reshape(-1, 3)
        if math.isinf(length):
            events = events[np.isfinite(events[:, 1])]
            length = float(events[:, 1].max(initial=0.0))
        result.events[clip_id], result.seconds[clip_id] = events, length
    if not result.events:
        raise UserError(f"{FLAG}: of none of the {plural(len(clips), 'recording')} of --audio")
    result.warnings.extend(_warnings(len(clips) - len(result.events), unknown))
    result.warnings.extend(outside_warning(outside))
    return result


def _warnings(without: int, unknown: Counter[str]) -> list[str]:
    warnings = []
    if without:
        warnings.append(f"event scores leave out {plural(without, 'recording')} without annotations")
    if unknown:
        example, count = unknown.most_common(1)[0]
        warnings.append(
            f"event scores leave out {plural(unknown.total(), 'annotated event')} of classes that the model "
            f"does not have, such as {count} of {shown(example)}"
        )
    return warnings


def event_metrics(
    true: Mapping[str, np.ndarray],
    found: Mapping[str, np.ndarray],
    seconds: Mapping[str, float],
    class_names: Sequence[str],
) -> dict[str, Any]:
    """Compute event-based and segment-based scores over recordings, as plain JSON values.

    Args:
        true: annotated events of each recording `[shape=(N, 3)]`.
        found: detected events; a recording may be missing.
        seconds: length of each recording.
        class_names: names of the C classes.

    Returns:
        Scores as of `models.event_metrics.event_scores`: `events`, whose starts and ends match; `onsets`, of
        which only starts are compared; and `segments` of a second. Also the tolerances.
    """
    events, onsets, segments = [], [], []
    for recording, reference in true.items():
        pair = reference, found.get(recording, np.empty((0, 3)))
        events.append(count_events(*pair, len(class_names)))
        onsets.append(count_events(*pair, len(class_names), length_fraction=np.inf))
        segments.append(count_segments(*pair, len(class_names), seconds[recording]))
    return {
        "recordings": len(true),
        "collar_seconds": COLLAR_SECONDS,
        "length_fraction": LENGTH_FRACTION,
        "segment_seconds": SEGMENT_SECONDS,
        "events": event_scores(add_counts(events), class_names),
        "onsets": event_scores(add_counts(onsets), class_names),
        "segments": event_scores(add_counts(segments), class_names),
    }


def read_events(path: Path, class_names: Sequence[str]) -> dict[str, np.ndarray]:
    """Read the detected events of each recording from `events.csv` `[shape=(N, 3)]`."""
    index = {name: number for number, name in enumerate(class_names)}
    found: dict[str, list[tuple[float, float, int]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            event = float(row["start"]), float(row["end"]), index[row["label"]]
            found.setdefault(row["id"], []).append(event)
    return {recording: np.array(rows) for recording, rows in found.items()}


def write_event_scores(out: Path, true: ReferenceEvents, class_names: Sequence[str]) -> str:
    """Score the `events.csv` of a folder, write both files there, and return the scores in one line."""
    found = read_events(out / EVENTS_NAME, class_names)
    metrics = event_metrics(true.events, found, true.seconds, class_names)
    write_text_atomically(out / SCORES_NAME, json.dumps(metrics, indent=1, ensure_ascii=False))
    write_text_atomically(out / SCORES_CSV_NAME, csv_text(CSV_COLUMNS, _csv_rows(metrics)))
    return describe_event_metrics(metrics)


def _csv_rows(metrics: Mapping[str, Any]) -> list[tuple]:
    parts = (metrics[name]["per_class"] for name in ("events", "onsets", "segments"))
    return [
        (
            event["name"],
            event["reference"],
            event["predicted"],
            *(round(event[name], 4) for name in ("precision", "recall", "f1")),
            round(onset["f1"], 4),
            *(round(segment[name], 4) for name in ("precision", "recall", "f1")),
        )
        for event, onset, segment in zip(*parts, strict=True)
    ]


def describe_event_metrics(metrics: Mapping[str, Any]) -> str:
    """Format the scores as one line of text."""
    events, onsets, segments = (metrics[name] for name in ("events", "onsets", "segments"))
    count = sum(entry["reference"] for entry in events["per_class"])
    if not count:
        return f"no annotated event in {plural(metrics['recordings'], 'recording')}"
    return (
        f"{plural(count, 'annotated event')} of {plural(metrics['recordings'], 'recording')}: "
        f"macro-F1 {number(events['macro_f1'])} (micro-averaged precision {events['precision']:.2f}, "
        f"recall {events['recall']:.2f}), by starts only {number(onsets['macro_f1'])}, "
        f"in segments of {metrics['segment_seconds']:g} s {number(segments['macro_f1'])}"
    )
