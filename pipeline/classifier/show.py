"""`melray show`: a page of one recording, with its spectrogram, audio, detected events and class scores."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import numpy as np
from pydantic import Field
from tyro.conf import Positional

from models.config import Config
from pipeline.audio.clip_files import is_row
from pipeline.audio.decode import AudioDecodeError
from pipeline.audio.recordings import Recording, read_recording
from pipeline.classifier.sound_classifier import SoundClassifier, WindowProbabilities
from pipeline.classifier.true_events import read_true_events
from pipeline.data.windows import MIN_HOP
from pipeline.distributed.devices import Device
from pipeline.io.console import duration
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.storage import PathOrURI, is_remote
from pipeline.io.text import plural
from pipeline.report.recording import RecordingPage, Scores, Span, write_recording_page
from pipeline.report.recording_media import RecordingMedia, read_media

# Endings of files that browsers play; others cannot be linked.
PLAYABLE = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".mp4", ".webm")


class ShowConfig(Config):
    """Write a page to look at and listen to a recording: spectrogram, player, detected events and class
    probabilities over time."""

    recording: Annotated[PathOrURI, Positional]
    """Audio file, of any length; or the path of one inside a Parquet file, as in the tables of `predict`."""
    run: PathOrURI
    """Folder of a trained classifier, or of a cross-validation, whose models then predict together."""
    out: PathOrURI = Path("show.html")
    """HTML file to write."""
    hop: float | None = Field(None, ge=MIN_HOP)
    """Seconds between the starts of windows, which are as long as the model's clips (default: half)."""
    threshold: float | None = Field(None, ge=0, le=1)
    """Probability from which on a class is an event (default: those of the model, or 0.5)."""
    annotations: PathOrURI | None = None
    """True events, shown for comparison: a Raven selection table, an Audacity label file, or a CSV with the
    columns path,label,start,end."""
    max_audio_mb: float = Field(20.0, ge=0, le=500)
    """Put the compressed audio into the page up to this size in MB (an hour takes about 14); of a longer
    recording the page plays the file itself, as long as that is at the same path. 0 never puts it in."""
    device: Device = "auto"
    """Device of the computation: auto is a GPU if there is one; cpu; or cuda, a GPU."""


def show(config: ShowConfig) -> None:
    """Write the page of a recording.

    Raises:
        UserError: an unusable run or recording, unreadable annotations, or a full disk.
    """
    classifier = SoundClassifier(config.run, config.device)
    mel = classifier.metadata.features.mel
    source = str(config.recording)
    try:
        recording = read_recording(source)
        annotations = _read_annotations(config, recording)
        media = read_media(source, recording, mel, round(1e6 * config.max_audio_mb))
        windows = classifier.classify_windows(source, config.hop, config.threshold, show_progress=True)
    except AudioDecodeError as error:
        raise UserError(f"{config.recording}: {error}") from None
    events = [Span(event.start, event.end, event.label, event.probability) for event in windows.events()]
    link, note = audio_link(config, media)
    page = RecordingPage(
        title=config.recording.name,
        seconds=recording.seconds,
        media=media,
        mel=mel,
        scores=Scores(
            windows.window, windows.hop, windows.class_names, windows.probabilities, windows.thresholds
        ),
        events=events,
        annotations=annotations,
        audio_link=link,
        audio_note=note,
        summary=_summary(config, windows, events),
        settings={"recording": source, "run": str(config.run), "features": mel.to_dict()},
    )
    with report_os_errors("writing to", config.out):
        write_recording_page(config.out, page)
        size = config.out.stat().st_size
    print(f"{plural(len(events), 'event')} in {duration(recording.seconds)}")
    print(f"page: {config.out} ({size / 1e6:.1f} MB)", flush=True)


def _read_annotations(config: ShowConfig, recording: Recording) -> list[Span] | None:
    if config.annotations is None:
        return None
    return read_true_events(config.annotations, config.recording, recording.seconds)


def audio_link(config: ShowConfig, media: RecordingMedia) -> tuple[str | None, str]:
    """Return the URL of the audio file relative to the page if the page refers to it, and a note on that."""
    if media.audio is not None:
        return None, ""
    more = f"--max-audio-mb (now {config.max_audio_mb:g}) puts larger audio into the page"
    if is_row(str(config.recording)):
        return None, f"No audio: the recording is inside a Parquet file. A higher {more}."
    if is_remote(config.recording) or is_remote(config.out):
        return None, f"No audio: the recording is in an object store. A higher {more}."
    if config.recording.suffix.lower() not in PLAYABLE:
        return (
            None,
            f"No audio: browsers do not play {config.recording.suffix or 'such'} files. A higher {more}.",
        )
    relative = Path(os.path.relpath(config.recording, config.out.parent)).as_posix()
    return quote(relative), f"Plays the file {relative}, which must stay there. A higher {more}."


def _summary(config: ShowConfig, scores: WindowProbabilities, events: Sequence[Span]) -> dict[str, str]:
    thresholds = np.unique(scores.thresholds)
    unreadable = int(np.isnan(scores.probabilities).any(axis=1).sum())
    facts = {
        "length": duration(scores.recording.seconds),
        "sample rate": f"{scores.recording.sample_rate:,} Hz",
        "model": config.run.name,
        "windows": f"{len(scores.probabilities):,} of {scores.window:g} s, every {scores.hop:g} s",
        "threshold": f"{thresholds[0]:.2f}" if len(thresholds) == 1 else "one per class",
        "events": f"{len(events):,}",
    }
    return facts | ({"windows that cannot be read": f"{unreadable:,}"} if unreadable else {})
