"""Pages of recordings with chosen events and scores."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.report.ogg_audio import OggEncoder
from pipeline.report.recording import RecordingPage, Scores, Span, write_recording_page
from pipeline.report.recording_media import RecordingMedia
from tests.helpers.sounds import RATE, tone
from tests.pipeline.report.test_tiles import CONFIG, fill

SECONDS, WINDOW, HOP = 30.0, 2.0, 1.0
NAMES = ("cat", "dog", "owl")
EVENTS = (Span(3.0, 6.0, "dog", 0.9), Span(12.0, 15.0, "cat", 0.7), Span(13.0, 20.0, "dog", 0.8))


def make_scores(names: tuple[str, ...] = NAMES, windows: int = 29) -> Scores:
    """Return random probabilities; those of a window that cannot be read are NaN."""
    probabilities = np.random.default_rng(0).uniform(0, 0.5, (windows, len(names))).astype(np.float32)
    probabilities[7] = np.nan
    return Scores(WINDOW, HOP, names, probabilities, np.full(len(names), 0.5))


def make_page(**changes: Any) -> RecordingPage:
    """Return a page of a tone of 30 s; `changes` are fields of it."""
    samples = tone(800, SECONDS)
    encoder = OggEncoder(RATE, 10**7)
    encoder.write(samples)
    values: dict[str, Any] = {
        "title": "field <1>.wav",
        "seconds": SECONDS,
        "media": RecordingMedia(fill(samples), encoder.content(), []),
        "mel": CONFIG,
        "scores": make_scores(),
        "events": EVENTS,
        "summary": {"model": "a & b"},
        "settings": {"run": "<run>"},
    }
    return RecordingPage(**values | changes)


def write(folder: Path, **changes: Any) -> str:
    """Write the page and return its text."""
    write_recording_page(folder / "show.html", make_page(**changes))
    return (folder / "show.html").read_text(encoding="utf-8")


def read_data(text: str) -> dict[str, Any]:
    """Return what the script of a page reads."""
    match = re.search(r'<script type="text/json" class="recording-data">(.*?)</script>', text, re.DOTALL)
    assert match is not None
    return json.loads(match[1])
