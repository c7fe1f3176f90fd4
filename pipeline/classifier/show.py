"""`melray show`: a page of one recording, with its spectrogram, audio, detected events and class scores."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import numpy as np

from pipeline.audio.clip_files import is_row
from pipeline.audio.decode import AudioDecodeError
from pipeline.audio.recordings import Recording, read_recording
from pipeline.classifier.command_configs import ShowConfig
from pipeline.classifier.sound_classifier import SoundClassifier, WindowProbabilities
from pipeline.classifier.true_events import read_true_events
from pipeline.classifier.windows.settings import check_gaps
from pipeline.io.console import duration
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.files import write_atomically
from pipeline.io.storage import check_writable, file_size, is_remote, to_path
from pipeline.io.text import plural
from pipeline.report.audio_parts import AudioPart, choose_parts, heard, read_parts
from pipeline.report.recording import RecordingPage, Scores, Span, write_recording_page
from pipeline.report.recording_media import RecordingMedia, read_media

# Browsers refuse larger audio in a page: Firefox, until version 135, data URIs of more than 32 MB.
MAX_EMBEDDED_BYTES = 24_000_000
# Size of a second with an event, compared with that of the beginning of the recording: more in quiet ones.
EVENT_SIZE = 1.3
# Endings of files that browsers play; others cannot be linked.
PLAYABLE = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".mp4", ".webm")


def show(config: ShowConfig) -> None:
    """Write the page of a recording.

    Raises:
        UserError: an unusable run or recording, unreadable annotations, or a full disk.
    """
    classifier = SoundClassifier(config.run, config.device)
    if config.hop is not None:
        check_gaps(config.hop, classifier.seconds)
    _check_files(config)
    check_writable(config.out.parent)
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
    with report_os_errors("writing to", config.out):
        audio = page_audio(config, recording, media, [*events, *(annotations or ())], mel.sample_rate)
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
        audio_link=audio.link,
        audio_parts=audio.parts,
        audio_note=audio.note,
        summary=_summary(config, windows, events),
        settings={"recording": source, "run": str(config.run), "features": mel.to_dict()},
    )
    with report_os_errors("writing to", config.out):
        write_recording_page(config.out, page)
        size = file_size(config.out)
    print(f"{plural(len(events), 'event')} in {duration(recording.seconds)}")
    print(f"page: {config.out} ({size / 1e6:.1f} MB)", flush=True)
    if audio.note:
        print(f"audio: {audio.note}", flush=True)


def _check_files(config: ShowConfig) -> None:
    """Check that the page and the annotations are files, before the recording is read.

    Raises:
        UserError: one of them is a folder, or the page would replace a file that is no page.
    """
    if config.out.is_dir():
        name = f"{config.recording.stem}.html"
        raise UserError(f"--out {config.out}: is a folder; give a file, such as {config.out / name}")
    is_page = config.out.suffix.lower() in (".html", ".htm")
    if not is_page and config.out.is_file():
        raise UserError(
            f"--out {config.out}: exists, and is no page by its name; give a new file that ends with .html"
        )
    if config.recording.absolute() == _audio_path(config).absolute():
        raise UserError(
            f"--out {config.out}: the audio of the page may be written to {config.recording}, which is the "
            "recording; choose another name"
        )
    if config.annotations is None:
        return
    fix = f"give the file with the events of {config.recording}"
    if config.annotations.is_dir():
        raise UserError(f"--annotations {config.annotations}: is a folder; {fix}")
    if config.annotations == to_path("auto") and not config.annotations.exists():
        raise UserError(f"--annotations auto: finds files for folders of recordings; here {fix}")


def _read_annotations(config: ShowConfig, recording: Recording) -> list[Span] | None:
    if config.annotations is None:
        return None
    return read_true_events(config.annotations, config.recording, recording.seconds)


class PageAudio(NamedTuple):
    """Audio of a page, beyond that which is in it as a whole."""

    link: str | None = None
    """URL of an audio file relative to the page."""
    parts: Sequence[AudioPart] = ()
    note: str = ""
    """What audio is not in the page, and how to change that."""


def _audio_path(config: ShowConfig) -> Path:
    """Return the audio file next to the page, for recordings whose audio is too large to be in it."""
    return config.out.with_name(f"{config.out.stem}_audio.ogg")


def page_audio(
    config: ShowConfig, recording: Recording, media: RecordingMedia, spans: Sequence[Span], sample_rate: int
) -> PageAudio:
    """Return the audio file that the page refers to, and the audio of events, if all is too large for a page.

    Raises:
        AudioDecodeError: the recording has changed, and cannot be read.
        OSError: the audio cannot be written.
    """
    if media.audio is not None:
        if len(media.audio) <= MAX_EMBEDDED_BYTES:
            return PageAudio()
        path = _audio_path(config)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = media.audio
        write_atomically(path, lambda file: file.write(content))
        return PageAudio(
            quote(path.name), note=f"Plays the file {path.name}, which must stay next to the page."
        )
    parts = _event_audio(config, recording, media, spans, sample_rate)
    link, file_note = _recording_link(config, "No other audio" if parts else "No audio")
    notes = [file_note]
    if parts:
        seconds = sum(part.end - part.start for part in parts)
        count = f"{heard((span.start for span in spans), parts):,} of {plural(len(spans), 'event')}"
        notes.insert(0, f"In the page is the audio of {count} ({duration(seconds)}).")
    notes.append(f"A higher --max-audio-mb (now {config.max_audio_mb:g}) puts more audio into the page.")
    return PageAudio(link, parts, " ".join(notes))


def _event_audio(
    config: ShowConfig, recording: Recording, media: RecordingMedia, spans: Sequence[Span], sample_rate: int
) -> list[AudioPart]:
    """Return the audio of events: those with the highest probability of each class first."""
    max_bytes = min(MAX_EMBEDDED_BYTES, round(1e6 * config.max_audio_mb))
    if not media.bytes_per_second:
        return []
    ranked = sorted(spans, key=lambda span: -(1.0 if span.probability is None else span.probability))
    ranks: Counter[tuple[str, bool]] = Counter()
    ordered: list[tuple[int, Span]] = []
    for span in ranked:
        key = span.name, span.probability is None
        ordered.append((ranks[key], span))
        ranks[key] += 1
    ordered.sort(key=lambda pair: pair[0])
    times = [(span.start, span.end) for _, span in ordered]
    chosen = choose_parts(times, recording.seconds, max_bytes, EVENT_SIZE * media.bytes_per_second)
    return read_parts(str(config.recording), chosen, sample_rate, max_bytes)


def _recording_link(config: ShowConfig, missing: str) -> tuple[str | None, str]:
    """Return the URL of the recording relative to the page if browsers can play it from there, and a note."""
    if is_row(str(config.recording)):
        return None, f"{missing}: the recording is inside a Parquet file."
    if is_remote(config.recording) or is_remote(config.out):
        return None, f"{missing}: the recording is in an object store."
    if config.recording.suffix.lower() not in PLAYABLE:
        suffix = config.recording.suffix or "such"
        return None, f"{missing}: browsers do not play {suffix} files."
    relative = Path(os.path.relpath(config.recording, config.out.parent)).as_posix()
    return quote(relative), f"Plays the file {relative}, which must stay there."


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
