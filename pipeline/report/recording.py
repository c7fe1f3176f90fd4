"""Page of a recording: spectrogram, player, detected and annotated events, and scores of classes over time.

The page draws on canvases, from data in JSON: an hour has thousands of windows and events.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from librosa import hz_to_mel, mel_to_hz
from markupsafe import Markup

from pipeline.audio.mel import MelConfig
from pipeline.io.text import plural
from pipeline.report.audio_parts import AudioPart
from pipeline.report.clips import color_bar, frequency_ticks
from pipeline.report.ogg_audio import audio_uri
from pipeline.report.page import write_page
from pipeline.report.recording_media import RecordingMedia
from pipeline.report.tiles import LEVEL_FACTOR, TILE_COLUMNS, contrast_scale

# Classes with a color and a curve; more could not be distinguished.
MAX_CURVES = 8
# Rows of the table of events.
MAX_ROWS = 1000
# Steps of the scores in the page.
SCORE_STEPS = 1000
# Points of the frequency axis, between which the page interpolates.
FREQUENCY_POINTS = 33
SCRIPTS = (
    "timeline.js",
    "spectrogram_view.js",
    "recording_view.js",
    "timeline_controls.js",
    "recording_audio.js",
    "recording.js",
)


class Span(NamedTuple):
    """An event on the page, from `start` to `end` in seconds."""

    start: float
    end: float
    name: str
    """Class name."""
    probability: float | None = None
    """In [0, 1]; None of an annotation."""


@dataclass(frozen=True)
class Scores:
    """Probabilities of the windows of a recording."""

    window: float
    """Length of a window in seconds."""
    hop: float
    """Distance between the starts of windows in seconds; the first is at 0."""
    names: Sequence[str]
    """Class names."""
    probabilities: np.ndarray
    """`[shape=(N, C)]`; NaN for windows that cannot be read."""
    thresholds: np.ndarray
    """Probability from which on a class is an event `[shape=(C,)]`."""


@dataclass(frozen=True)
class RecordingPage:
    """Content of the page."""

    title: str
    seconds: float
    """Length of the recording."""
    media: RecordingMedia
    mel: MelConfig
    """Settings of the spectrogram."""
    scores: Scores
    events: Sequence[Span]
    """Detected events, sorted by start."""
    annotations: Sequence[Span] | None = None
    """True events, sorted by start; None if unknown."""
    audio_link: str | None = None
    """Relative URL of the audio file, used if not all of the audio is in the page."""
    audio_parts: Sequence[AudioPart] = ()
    """Audio in the page of parts of the recording, which plays where the file cannot be loaded."""
    audio_note: str = ""
    """What audio is not in the page, and how to change that."""
    summary: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


def write_recording_page(path: Path, page: RecordingPage) -> None:
    """Write the page atomically, as one file."""
    names = shown_classes(page)
    scale = contrast_scale(page.media.columns.columns)
    rows = event_rows(page, names)
    embedded = None if page.audio_link or page.media.audio is None else audio_uri(page.media.audio)
    write_page(
        path,
        "recording.html.j2",
        scripts=SCRIPTS,
        links_media=page.audio_link is not None,
        title=page.title,
        summary=page.summary,
        audio=embedded or page.audio_link,
        has_audio=bool(embedded or page.audio_link or page.audio_parts),
        audio_note=page.audio_note,
        data=Markup(script_json(page_data(page, names, scale))),
        color_bar=color_bar(scale),
        names=names,
        num_curves=min(len(names), MAX_CURVES),
        curve_note=curve_note(page, names),
        annotated=page.annotations is not None,
        num_gaps=len(page.media.gaps),
        events=rows,
        num_events=len(page.events),
        missed=missed_annotations(page)[:MAX_ROWS],
        num_missed=len(missed_annotations(page)),
        num_annotations=len(page.annotations or ()),
        clock=lambda seconds: clock_time(seconds, page.seconds),
        settings=page.settings,
    )


def shown_classes(page: RecordingPage) -> list[str]:
    """Return the classes on the page: first those with curves, then others that have events.

    Classes with events or annotations come first, each by its highest probability, then others up to
    `MAX_CURVES`.
    """
    highest = np.nan_to_num(page.scores.probabilities).max(axis=0, initial=0.0)
    by_name = dict(zip(page.scores.names, highest.tolist(), strict=True))
    spans = [*page.events, *(page.annotations or ())]
    with_events = sorted({span.name for span in spans}, key=lambda name: (-by_name.get(name, 0.0), name))
    others = sorted(by_name.keys() - set(with_events), key=lambda name: (-by_name[name], name))
    return with_events + others[: max(0, MAX_CURVES - len(with_events))]


def curve_note(page: RecordingPage, names: Sequence[str]) -> str:
    """Return which classes have a curve; empty if all have."""
    total, shown = len(page.scores.names), min(len(names), MAX_CURVES)
    if shown >= total:
        return ""
    return f"{shown} of {plural(total, 'class')}: those with events, then those with the highest probability."


def page_data(page: RecordingPage, names: Sequence[str], scale: tuple[float, float]) -> dict[str, Any]:
    """Return what the script of the page reads; times are in seconds."""
    columns, index = page.media.columns, {name: i for i, name in enumerate(names)}
    return {
        "seconds": round(page.seconds, 3),
        "origin": columns.origin,
        "columnSeconds": columns.column_seconds,
        "levelFactor": LEVEL_FACTOR,
        "tileColumns": TILE_COLUMNS,
        "levels": [{"columns": level.columns, "tiles": level.tiles} for level in columns.levels(scale)],
        "frequencies": frequency_ticks(page.mel, len(columns.columns)),
        "bands": [round(hertz, 1) for hertz in axis_frequencies(page.mel)],
        "gaps": page.media.gaps,
        "names": names,
        "window": page.scores.window,
        "hop": page.scores.hop,
        "curves": _curves(page.scores, names[:MAX_CURVES]),
        "events": [_packed(span, index) for span in page.events],
        "annotations": [_packed(span, index) for span in page.annotations or ()],
        "audio": page.audio_parts,
    }


def _curves(scores: Scores, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the scores of classes that the model knows, as integers up to `SCORE_STEPS`; null is NaN."""
    columns = {name: i for i, name in enumerate(scores.names)}
    curves: list[dict[str, Any]] = []
    for name in names:
        if name not in columns:
            curves.append({"threshold": None, "scores": []})
            continue
        steps = np.round(SCORE_STEPS * scores.probabilities[:, columns[name]].astype(np.float64))
        values = [None if np.isnan(step) else int(step) for step in steps]
        curves.append({"threshold": float(scores.thresholds[columns[name]]), "scores": values})
    return curves


def _packed(span: Span, index: Mapping[str, int]) -> list[Any]:
    values = [round(span.start, 3), round(span.end, 3), index[span.name]]
    return values if span.probability is None else [*values, round(span.probability, 3)]


def axis_frequencies(config: MelConfig) -> list[float]:
    """Return the frequencies in Hz of evenly spaced points of the mel axis, bottom to top."""
    fmax = config.sample_rate / 2 if config.fmax is None else config.fmax
    mels = np.linspace(hz_to_mel(config.fmin), hz_to_mel(fmax), FREQUENCY_POINTS)
    return [float(hertz) for hertz in mel_to_hz(mels)]


@dataclass(frozen=True)
class EventRow:
    """A row of the table of events."""

    index: int
    """Position among all events."""
    span: Span
    color: int
    """Index of the color of its class."""
    is_annotated: bool
    """Whether an annotation of the same class overlaps."""


def event_rows(page: RecordingPage, names: Sequence[str]) -> list[EventRow]:
    """Return up to `MAX_ROWS` events, those with the highest probability, sorted by start."""
    ranked = sorted(range(len(page.events)), key=lambda i: -(page.events[i].probability or 0.0))
    index = {name: i for i, name in enumerate(names)}
    annotations = _by_class(page.annotations or ())
    rows = []
    for i in sorted(ranked[:MAX_ROWS]):
        span = page.events[i]
        found = any(overlap(span, other) for other in annotations.get(span.name, ()))
        rows.append(EventRow(i, span, index[span.name], found))
    return rows


def missed_annotations(page: RecordingPage) -> list[Span]:
    """Return the annotations that no event of the same class overlaps."""
    events = _by_class(page.events)
    return [
        span
        for span in page.annotations or ()
        if not any(overlap(span, event) for event in events.get(span.name, ()))
    ]


def overlap(first: Span, second: Span) -> bool:
    """Return whether two spans have some time in common; a point in time is in spans that begin with it."""
    ends = (max(span.end, math.nextafter(span.start, math.inf)) for span in (first, second))
    return max(first.start, second.start) < min(ends)


def _by_class(spans: Sequence[Span]) -> dict[str, list[Span]]:
    groups: dict[str, list[Span]] = {}
    for span in spans:
        groups.setdefault(span.name, []).append(span)
    return groups


def script_json(data: Any) -> str:
    """Return data as JSON that can be put into a script element."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def clock_time(seconds: float, total: float = 0.0, digits: int = 1) -> str:
    """Format a time as `m:ss.s`, or `h:mm:ss.s` in a recording of `total` seconds that has an hour."""
    ticks = round(seconds * 10**digits)
    whole, rest = divmod(ticks, 10**digits)
    fraction = f".{rest:0{digits}d}" if digits else ""
    minutes, second = divmod(whole, 60)
    if max(total, seconds) < 3600:
        return f"{minutes}:{second:02d}{fraction}"
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}{fraction}"
