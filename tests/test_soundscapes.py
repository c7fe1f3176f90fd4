"""The soundscapes of tests and benchmarks: sounds are where the annotations say, and folds are separate."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from tests.helpers.soundscapes import (
    COLUMNS,
    SoundscapeConfig,
    mix_soundscape,
    read_events,
    write_soundscapes,
)
from tests.helpers.source_sounds import Sound, esc10_sounds, sounding_part, synthetic_sounds

RATE = 8000
CONFIG = SoundscapeConfig(seconds=20.0, rate=RATE, events_per_minute=30, snr_db=(10.0, 30.0), format="wav")


def sine(frequency: float, seconds: float) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE).astype(np.float32)


def test_sounding_part_ends_at_long_pauses() -> None:
    silence = np.zeros(round(1.5 * RATE), np.float32)
    clip = np.concatenate([silence, 0.5 * sine(400, 1.0), silence, 0.5 * sine(400, 0.2), silence])
    assert len(sounding_part(clip, RATE)) / RATE == pytest.approx(1.0, abs=0.05)
    ticks = np.concatenate([sine(400, 0.1), np.zeros(RATE // 2, np.float32)] * 4)
    assert len(sounding_part(ticks, RATE)) / RATE == pytest.approx(1.9, abs=0.05)


def test_sounds_are_at_annotated_times() -> None:
    """Measure the level of the frequency of each class inside and outside of its events."""
    frequencies = {"low": 500.0, "high": 2000.0}
    sounds = [Sound(name, 1, sine(frequency, 1.0)) for name, frequency in frequencies.items()]
    samples, events = mix_soundscape(sounds, CONFIG, np.random.default_rng(0))
    times = (np.arange(200) + 0.5) / 10  # centers of frames of 0.1 s
    for name, frequency in frequencies.items():
        oscillator = np.exp(-2j * np.pi * frequency * np.arange(len(samples)) / RATE)
        level = np.abs((samples * oscillator).reshape(200, -1).mean(axis=1))
        own = [event for event in events if event.label == name]
        inside = np.any([(times > e.start + 0.05) & (times < e.end - 0.05) for e in own], axis=0)
        outside = np.all([(times < e.start - 0.05) | (times > e.end + 0.05) for e in own], axis=0)
        assert len(own) >= 3 and level[inside].min() > 2 * level[outside].max()


def test_overlaps_and_lengths_stay_within_limits() -> None:
    config = replace(CONFIG, seconds=60.0, events_per_minute=60, max_overlap=2, max_seconds=2.0)
    sounds = [Sound(name, 1, sine(300.0 + 100 * i, 3.0)) for i, name in enumerate("abcdef")]
    _, events = mix_soundscape(sounds, config, np.random.default_rng(1))
    times = np.linspace(0, 60, 6001)
    active = sum((times >= event.start) & (times < event.end) for event in events)
    assert active.max() == 2
    assert all(1.0 <= event.end - event.start <= 2.0 and event.end <= 60.0 for event in events)
    for name in "abcdef":
        own = [event for event in events if event.label == name]
        assert all(b.start - a.end >= 1.0 for a, b in pairwise(own))


def test_recordings_have_sounds_of_one_fold(tmp_path: Path) -> None:
    sounds = [Sound(f"class {fold}", fold, sine(300.0 * fold, 0.5)) for fold in (1, 2, 3)]
    table = pd.read_csv(write_soundscapes(tmp_path, sounds, {1: 2, 2: 1}, CONFIG))
    assert tuple(table.columns) == COLUMNS
    assert (table["path"].str.extract(r"fold_(\d)/")[0].astype(int) == table["fold"]).all()
    assert (table["label"] == "class " + table["fold"].astype(str)).all()
    assert table["path"].unique().tolist() == ["fold_1/0000.wav", "fold_1/0001.wav", "fold_2/0000.wav"]


def test_seed_determines_recordings(tmp_path: Path) -> None:
    sounds = synthetic_sounds(3, (1,), RATE)
    first = write_soundscapes(tmp_path / "a", sounds, {1: 1}, CONFIG, seed=5)
    # The first recording does not depend on the number of recordings.
    again = write_soundscapes(tmp_path / "b", sounds, {1: 2}, CONFIG, seed=5)
    other = write_soundscapes(tmp_path / "c", sounds, {1: 1}, CONFIG, seed=6)
    name = "fold_1/0000.wav"
    assert (first.parent / name).read_bytes() == (again.parent / name).read_bytes()
    assert read_events(first)[name] == read_events(again)[name] != read_events(other)[name]
    samples, rate = soundfile.read(first.parent / name)
    assert rate == RATE and len(samples) == 20 * RATE and np.abs(samples).max() <= 0.9


def test_annotation_files_list_the_events(tmp_path: Path) -> None:
    table = write_soundscapes(
        tmp_path, synthetic_sounds(3, (1,), RATE), {1: 2}, CONFIG, annotation_files=True
    )
    events = read_events(table)
    raven = pd.read_csv(tmp_path / "fold_1/0000.Table.1.selections.txt", sep="\t")
    expected = [(event.start, event.end, event.label) for event in events["fold_1/0000.wav"]]
    assert list(raven[["Begin Time (s)", "End Time (s)", "Species"]].itertuples(index=False)) == expected
    audacity = pd.read_csv(tmp_path / "fold_1/0001.txt", sep="\t", header=None)
    assert audacity[2].tolist() == [event.label for event in events["fold_1/0001.wav"]]


def test_esc10_sounds_are_of_requested_folds(esc10: list[Path]) -> None:
    sounds = esc10_sounds(esc10[0].parents[1], (2, 5), RATE, per_class=1)
    assert len(sounds) == 20 and {sound.fold for sound in sounds} == {2, 5}
    assert {"Dog bark", "Rain"} <= {sound.label for sound in sounds}
    assert all(len(sound.samples) > 0.1 * RATE for sound in sounds)
