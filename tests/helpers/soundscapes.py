"""Soundscapes: recordings in which sounds occur at known times, levels and overlaps over background noise.

A recording has sounds of one fold only (`source_sounds.py`), so that no classifier is trained on a sound of a
held-out recording. It depends only on the seed, its fold, its number, the sounds and the settings.
"""

from __future__ import annotations

import csv
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.signal
import soundfile

from pipeline.audio.augment import row_rng
from tests.helpers.source_sounds import Sound

ANNOTATIONS_NAME = "annotations.csv"
COLUMNS = ("path", "label", "start", "end", "fold", "group")
RAVEN_COLUMNS = ("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)")
RAVEN_COLUMNS += ("High Freq (Hz)", "Species")
MARKER = "_complete.json"
# Raise it when the same arguments produce other recordings; existing ones are then written again.
VERSION = 1

MIN_EVENT_SECONDS = 0.2
# Sounds of the same class are at least this far apart, so that their events do not merge, in seconds.
MIN_GAP = 1.0
FADE_SECONDS = 0.01
BACKGROUND_RMS = 0.01
PEAK = 0.9
# Samples of background noise that are computed at a time.
BLOCK_SAMPLES = 2**20
# Positions that are tried for a sound before it is left out.
ATTEMPTS = 200


class SoundEvent(NamedTuple):
    """A sound in a recording, from `start` to `end` in seconds."""

    start: float
    end: float
    label: str


@dataclass(frozen=True)
class SoundscapeConfig:
    """Settings of recordings."""

    seconds: float = 60.0
    """Length of a recording, 1 to 30 minutes in benchmarks."""
    rate: int = 22_050
    """Sample rate in Hz."""
    events_per_minute: float = 15.0
    snr_db: tuple[float, float] = (3.0, 20.0)
    """Range of the level of a sound relative to the background, in dB."""
    max_overlap: int = 3
    """Maximum number of sounds at a time."""
    max_seconds: float = 4.0
    """Longer sounds are cut to a random part between half of this and this."""
    format: str = "flac"


def mix_soundscape(
    sounds: Sequence[Sound], config: SoundscapeConfig, rng: np.random.Generator
) -> tuple[np.ndarray, list[SoundEvent]]:
    """Mix sounds into background noise.

    Returns:
        Samples, float32 `[shape=(num_samples,)]`, and the events, sorted by start. Classes occur equally
        often, as far as there is space for their sounds.
    """
    samples = background(round(config.seconds * config.rate), config.rate, rng)
    events: list[SoundEvent] = []
    for sound in _choose_sounds(sounds, config, rng):
        part = _cut(sound.samples, config, rng)
        start = _find_start(events, sound.label, len(part) / config.rate, config, rng)
        if start is None:
            continue
        first = round(start * config.rate)
        level = BACKGROUND_RMS * 10 ** (rng.uniform(*config.snr_db) / 20)
        samples[first : first + len(part)] += part * np.float32(level / np.sqrt(np.mean(part**2)))
        events.append(SoundEvent(start, round(start + len(part) / config.rate, 3), sound.label))
    samples *= min(1.0, PEAK / float(np.abs(samples).max()))
    return samples, sorted(events)


def background(count: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Return noise of random color and slowly varying level, with a weak hum, float32 `[shape=(count,)]`."""
    pole, hum = rng.uniform(0.0, 0.98), rng.uniform(50, 120)
    level = np.sqrt(1 - pole**2) * BACKGROUND_RMS
    hum_level = rng.uniform(0, 0.4) * BACKGROUND_RMS
    swells = [(rng.uniform(7, 30), rng.random(), rng.uniform(0, 0.2)) for _ in range(2)]
    samples = np.empty(count, np.float32)
    state = np.zeros(1)
    for first in range(
        0, count, BLOCK_SAMPLES
    ):  # float64 for all samples of half an hour would take a gigabyte
        time = np.arange(first, min(count, first + BLOCK_SAMPLES)) / rate
        noise, state = scipy.signal.lfilter([level], [1.0, -pole], rng.standard_normal(len(time)), zi=state)
        for period, phase, depth in swells:
            noise *= 1 + depth * np.sin(2 * np.pi * (time / period + phase))
        for harmonic in (1, 2, 3):
            noise += hum_level / harmonic * np.sin(2 * np.pi * hum * harmonic * time)
        samples[first : first + len(time)] = noise
    return samples


def _choose_sounds(
    sounds: Sequence[Sound], config: SoundscapeConfig, rng: np.random.Generator
) -> Iterator[Sound]:
    """Yield the sounds of a recording, all classes once before one is repeated."""
    by_class: dict[str, list[Sound]] = {}
    for sound in sounds:
        by_class.setdefault(sound.label, []).append(sound)
    names: list[str] = []
    for _ in range(max(1, round(config.events_per_minute * config.seconds / 60))):
        names = names or [list(by_class)[i] for i in rng.permutation(len(by_class))]
        choices = by_class[names.pop()]
        yield choices[int(rng.integers(len(choices)))]


def _cut(samples: np.ndarray, config: SoundscapeConfig, rng: np.random.Generator) -> np.ndarray:
    """Return a sound, or a random part of a long one, with short fades."""
    longest, shortest = (round(seconds * config.rate) for seconds in (config.max_seconds, MIN_EVENT_SECONDS))
    if len(samples) > longest:
        count = int(rng.integers(longest // 2, longest + 1))
        first = int(rng.integers(len(samples) - count + 1))
        samples = samples[first : first + count]
    samples = np.pad(samples, (0, max(0, shortest - len(samples))))
    ramp = np.linspace(0, 1, round(FADE_SECONDS * config.rate), dtype=np.float32)
    part = samples.copy()
    part[: len(ramp)] *= ramp
    part[-len(ramp) :] *= ramp[::-1]
    return part


def _find_start(
    events: Sequence[SoundEvent],
    label: str,
    seconds: float,
    config: SoundscapeConfig,
    rng: np.random.Generator,
) -> float | None:
    """Return a start in seconds, rounded to 1 ms, at which a sound may be added; None if none is found."""
    latest = config.seconds - seconds - 0.001
    for _ in range(ATTEMPTS if latest > 0 else 0):
        start = round(rng.uniform(0, latest), 3)
        end = start + seconds
        near = any(
            event.label == label and event.start < end + MIN_GAP and start < event.end + MIN_GAP
            for event in events
        )
        overlapping = [event for event in events if event.start < end and start < event.end]
        # The number of sounds at a time is highest where one begins.
        times = [start, *(event.start for event in overlapping if event.start >= start)]
        most = max(sum(event.start <= time < event.end for event in overlapping) for time in times)
        if not near and most < config.max_overlap:
            return start
    return None


def write_soundscapes(
    out: Path,
    sounds: Sequence[Sound],
    counts: Mapping[int, int],
    config: SoundscapeConfig | None = None,
    seed: int = 0,
    annotation_files: bool = False,
) -> Path:
    """Write recordings and their annotations; return the CSV of all events.

    Recordings are `fold_1/0000.flac` and so on. Their group is the fold, since recordings of a fold share
    sounds. A complete folder with the same arguments is not written again.

    Args:
        out: output folder; created if missing.
        sounds: sounds of all folds, at the sample rate of the settings.
        counts: number of recordings of each fold.
        config: settings of the recordings.
        seed: random seed.
        annotation_files: write a Raven selection table `0000.Table.1.selections.txt` next to each recording
            of an even number, and Audacity labels `0001.txt` next to the others.
    """
    config = config or SoundscapeConfig()
    table, marker = out / ANNOTATIONS_NAME, out / MARKER
    digest = zlib.crc32(b"".join(sound.samples.tobytes() for sound in sounds))
    arguments = [VERSION, sorted(counts.items()), seed, annotation_files, digest, asdict(config)]
    text = json.dumps(arguments)
    if marker.is_file() and marker.read_text(encoding="utf-8") == text:
        return table
    out.mkdir(parents=True, exist_ok=True)
    marker.unlink(missing_ok=True)
    rows: list[tuple] = []
    for fold, count in counts.items():
        of_fold = [sound for sound in sounds if sound.fold == fold]
        for number in range(count):
            path = out / f"fold_{fold}" / f"{number:04d}.{config.format}"
            events = _write_soundscape(path, of_fold, config, row_rng(seed, f"fold {fold}", number))
            if annotation_files:
                (write_audacity if number % 2 else write_raven)(path, events, config.rate)
            name = path.relative_to(out).as_posix()
            rows += [(name, event.label, event.start, event.end, fold, f"fold {fold}") for event in events]
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    marker.write_text(text, encoding="utf-8")
    return table


def _write_soundscape(
    path: Path, sounds: Sequence[Sound], config: SoundscapeConfig, rng: np.random.Generator
) -> list[SoundEvent]:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples, events = mix_soundscape(sounds, config, rng)
    soundfile.write(path, samples, config.rate, subtype="PCM_16")
    return events


def write_raven(path: Path, events: Sequence[SoundEvent], rate: int) -> None:
    """Write the events of a recording as a Raven selection table next to it."""
    lines = ["\t".join(RAVEN_COLUMNS)]
    for number, event in enumerate(events, start=1):
        values = (number, "Spectrogram 1", 1, event.start, event.end, 0.0, rate / 2, event.label)
        lines.append("\t".join(map(str, values)))
    path.with_suffix(".Table.1.selections.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_audacity(path: Path, events: Sequence[SoundEvent], rate: int) -> None:
    """Write the events of a recording as Audacity labels next to it; `rate` is not needed."""
    lines = [f"{event.start:.6f}\t{event.end:.6f}\t{event.label}\n" for event in events]
    path.with_suffix(".txt").write_text("".join(lines), encoding="utf-8")


def read_events(annotations: Path) -> dict[str, list[SoundEvent]]:
    """Read the events of each recording, by its path relative to the CSV."""
    events: dict[str, list[SoundEvent]] = {}
    with annotations.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            event = SoundEvent(float(row["start"]), float(row["end"]), row["label"])
            events.setdefault(row["path"], []).append(event)
    return events
