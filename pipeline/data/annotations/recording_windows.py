"""Manifest of the windows of recordings: lengths are read from the headers of their files, concurrently."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from pipeline.audio.feature_defaults import ClipFormat
from pipeline.data.annotations.annotation import Annotation, outside_warning
from pipeline.data.annotations.window_labels import WindowLabels, choose_background, label_windows
from pipeline.data.clips import shown_list
from pipeline.data.recording_headers import MapBatches, map_batches_here, read_headers
from pipeline.data.windows import WindowConfig, parse_overlap, window_id, window_starts
from pipeline.io.errors import UserError
from pipeline.io.text import plural


@dataclass(frozen=True)
class RecordingWindows:
    """Windows of recordings."""

    clips: pd.DataFrame
    """Manifest of the windows, with the columns `start` and `end` in seconds."""
    formats: list[ClipFormat]
    """Formats of the readable recordings."""
    warnings: list[str] = field(default_factory=list)
    summary: str = ""
    """Numbers of windows, in one line."""


def cut_recordings(
    recordings: pd.DataFrame,
    events: Mapping[str, Sequence[Annotation]] | None,
    config: WindowConfig,
    seed: int,
    map_batches: MapBatches = map_batches_here,
) -> RecordingWindows:
    """Cut recordings into windows.

    A recording that cannot be read gets one window, which the extraction rejects with the reason.

    Args:
        recordings: manifest with a row for each recording.
        events: events of each recording, by its id; None if its label is that of all of its windows.
        config: settings, among them the length of a window.
        seed: seed for the choice of background windows.
        map_batches: as for `read_headers`.

    Raises:
        UserError: no window has an event, or an object store cannot be reached.
    """
    assert config.window is not None
    window, hop = config.window, config.hop or config.window
    seconds, formats = _read_lengths(recordings["path"], map_batches)
    starts = [np.array(window_starts(length, window, hop)) for length in seconds]
    if events is None:
        labels = [[label] * len(times) for label, times in zip(recordings["label"], starts, strict=True)]
        warnings, details = [], ""
    else:
        _check_classes(events)
        found = _label_all(recordings["clip_id"], starts, seconds, events, config)
        counts = zip(recordings["clip_id"], (windows.outside for windows in found), strict=True)
        warnings = outside_warning(dict(counts))
        warnings += _unused_warning(recordings["clip_id"], found, hop, config)
        kept, details = _keep_windows(recordings["clip_id"], found, seconds, config, seed)
        labels = [
            [labeled.labels.get(int(index), "") for index in indices]
            for labeled, indices in zip(found, kept, strict=True)
        ]
        starts = [times[indices] for times, indices in zip(starts, kept, strict=True)]
    warnings += _short_warning(formats, window)
    clips = _window_table(recordings, starts, labels, window)
    summary = f"{plural(len(clips), 'window')} of {plural(len(recordings), 'recording')}{details}"
    return RecordingWindows(clips, formats, warnings, summary)


def _read_lengths(paths: pd.Series, map_batches: MapBatches) -> tuple[list[float], list[ClipFormat]]:
    """Return the length of each recording in seconds, 0 if it cannot be read, and the formats of the others.

    Raises:
        UserError: an object store cannot be reached.
    """
    recordings = list(read_headers(paths, map_batches))
    seconds = [0.0 if recording is None else recording.seconds for recording in recordings]
    return seconds, [
        ClipFormat(recording.sample_rate, recording.seconds)
        for recording in recordings
        if recording is not None
    ]


def _check_classes(events: Mapping[str, Sequence[Annotation]]) -> None:
    """Check that any event has a class.

    Raises:
        UserError: there are events, and none has one, such as in the column of a review that was not begun.
    """
    labels = [event.label for found in events.values() for event in found]
    if labels and not any(labels):
        raise UserError(
            f"none of {plural(len(labels), 'annotated event')} has a class; name the column that has them by "
            "--label-column"
        )


def _label_all(
    names: pd.Series,
    starts: Sequence[np.ndarray],
    seconds: Sequence[float],
    events: Mapping[str, Sequence[Annotation]],
    config: WindowConfig,
) -> list[WindowLabels]:
    """Label the windows of each recording; those that cannot be read have no labels."""
    overlap = parse_overlap(config.min_overlap)
    assert config.window is not None and overlap is not None
    return [
        label_windows(times, config.window, length, events.get(name, ()) if length else (), overlap)
        for name, times, length in zip(names, starts, seconds, strict=True)
    ]


def _keep_windows(
    names: pd.Series,
    found: Sequence[WindowLabels],
    seconds: Sequence[float],
    config: WindowConfig,
    seed: int,
) -> tuple[list[np.ndarray], str]:
    """Return the indices of the windows of each recording that become clips, and their numbers as text.

    Raises:
        UserError: no window has an event.
    """
    labeled = sum(len(windows.labels) for windows in found)
    if not labeled:
        raise UserError(
            "no window of a readable recording has an annotated event; check the times of the annotations, "
            f"or lower --min-overlap {config.min_overlap} or --hop"
        )
    available = {
        name: windows.background
        for name, windows, length in zip(names, found, seconds, strict=True)
        if length
    }
    total = sum(map(len, available.values()))
    count = int(min(total, config.background_ratio * labeled))
    background = choose_background(available, count, seed)
    kept = [
        np.sort([*windows.labels, *background[name]]).astype(np.int64) if length else np.zeros(1, np.int64)
        for name, windows, length in zip(names, found, seconds, strict=True)
    ]
    return kept, f": {labeled} with events, {count} of {total} without"


def _unused_warning(
    names: pd.Series, found: Sequence[WindowLabels], hop: float, config: WindowConfig
) -> list[str]:
    """Return a warning about events that label no window."""
    unused = [name for name, windows in zip(names, found, strict=True) if windows.unused]
    if not unused:
        return []
    count = plural(sum(windows.unused for windows in found), "event")
    return [
        f"{count} in no window with --min-overlap {config.min_overlap}, left out, in {shown_list(unused)}; "
        f"a --hop of less than {hop:g} has more windows"
    ]


def _short_warning(formats: Sequence[ClipFormat], window: float) -> list[str]:
    """Return a warning if windows are mostly padding."""
    median = float(np.median([recording.seconds for recording in formats])) if formats else window
    if median >= window / 2:
        return []
    return [
        f"most recordings are shorter than half of --window {window:g} (median {median:.3g} s); "
        "their windows are padded with silence"
    ]


def _window_table(
    recordings: pd.DataFrame, starts: Sequence[np.ndarray], labels: Sequence[Sequence[str]], window: float
) -> pd.DataFrame:
    """Return the manifest of windows, sorted by id.

    Args:
        recordings: manifest of the recordings.
        starts: first second of each window, for each recording.
        labels: label of each window, for each recording.
        window: length of a window in seconds.
    """
    index = np.repeat(np.arange(len(recordings)), [len(times) for times in starts])
    clips = recordings.iloc[index].reset_index(drop=True)
    clips["start"] = np.concatenate([np.zeros(0), *starts])
    clips["end"] = (clips["start"] + window).round(3)
    clips["label"] = list(itertools.chain.from_iterable(labels))
    clips["clip_id"] = [window_id(*pair) for pair in zip(clips["clip_id"], clips["start"], strict=True)]
    return clips.sort_values("clip_id", ignore_index=True)
