"""Tests of the synthetic dataset: determinism, layout, and classes that a linear model cannot separate."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.audio.augment import row_rng
from pipeline.audio.decode import decode
from pipeline.audio.features import FeatureConfig, spectrogram
from pipeline.audio.mel import MelConfig
from pipeline.audio.synthesize import (
    CLASS_NAMES,
    SAMPLE_RATES,
    synthesize_clip,
    synthesize_event,
    write_dataset,
)
from pipeline.classifier.baseline import linear_baseline

# Coarse in time: the baseline uses the mean over time only.
COARSE = FeatureConfig(mel=MelConfig(hop_length=2048))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dataset") / "sounds"
    write_dataset(out, train_per_class=3, test_per_class=2, seed=5)
    return out


def contents(out: Path) -> dict[str, bytes]:
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("name", CLASS_NAMES)
@pytest.mark.parametrize("rate", SAMPLE_RATES)
def test_event_is_finite_and_normalized(name: str, rate: int):
    for number in range(5):
        event = synthesize_event(name, row_rng(0, name, number), rate)
        assert event.dtype == np.float32 and event.ndim == 1
        assert 0.3 < event.size / rate < 3.5
        assert np.isfinite(event).all()
        assert np.abs(event).max() == pytest.approx(1.0) and np.abs(event).max() <= 1.0
        assert np.sqrt(np.mean(event**2)) > 0.01


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_clip_has_valid_level_and_length(name: str):
    clips = [synthesize_clip(name, row_rng(0, name, number)) for number in range(8)]
    for clip in clips:
        assert clip.dtype == np.float32 and np.isfinite(clip).all()
        assert 0.05 < np.abs(clip).max() <= 1.0
        assert 2.0 <= clip.size / 22_050 <= 6.0
    assert len({clip.size for clip in clips}) > 1


@pytest.mark.parametrize(
    ("name", "reversed_name"), [("chirp_rising", "chirp_falling"), ("bell_struck", "bell_swelling")]
)
def test_class_pairs_are_time_reversals(name: str, reversed_name: str):
    np.testing.assert_array_equal(
        synthesize_event(name, np.random.default_rng(3)),
        synthesize_event(reversed_name, np.random.default_rng(3))[::-1],
    )


def test_dataset_layout_and_labels(dataset: Path):
    train = sorted(path.relative_to(dataset / "train").as_posix() for path in (dataset / "train").glob("*/*"))
    assert train == sorted(f"{name}/{name}_{number:03d}.wav" for name in CLASS_NAMES for number in range(3))
    with open(dataset / "test_labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == {"id", "label"}
    assert [row["id"] for row in rows] == sorted(path.name for path in (dataset / "test").iterdir())
    assert [row["id"] for row in rows] == [f"clip_{number:03d}.wav" for number in range(2 * len(CLASS_NAMES))]
    labels = [row["label"] for row in rows]
    assert sorted(labels) == sorted(2 * CLASS_NAMES)
    assert labels != sorted(labels) and labels != [name for name in CLASS_NAMES for _ in range(2)]


def test_dataset_formats_vary_and_decode(dataset: Path):
    paths = list(dataset.glob("t*/**/*.wav"))
    formats = {(sound.samplerate, sound.channels) for sound in map(soundfile.info, paths)}
    assert {rate for rate, _ in formats} == set(SAMPLE_RATES)
    assert {channels for _, channels in formats} == {1, 2}
    for path in paths:
        samples = decode(path, 22_050)
        assert 0.01 < np.abs(samples).max() <= 1.0


def test_dataset_same_seed_is_identical(dataset: Path, tmp_path: Path):
    write_dataset(tmp_path / "same", train_per_class=3, test_per_class=2, seed=5)
    assert contents(tmp_path / "same") == contents(dataset)


def test_dataset_other_seed_differs(dataset: Path, tmp_path: Path):
    write_dataset(tmp_path / "other", train_per_class=1, test_per_class=0, seed=6)
    first = contents(dataset)
    sounds = {name: data for name, data in contents(tmp_path / "other").items() if name.endswith(".wav")}
    assert len(sounds) == len(CLASS_NAMES)
    assert all(first[name] != data for name, data in sounds.items())


def test_dataset_counts_do_not_change_other_clips(dataset: Path, tmp_path: Path):
    out = tmp_path / "sounds"
    write_dataset(out, train_per_class=2, test_per_class=1, seed=5)
    small, large = contents(out), contents(dataset)
    assert all(data == large[name] for name, data in small.items() if name.startswith("train/"))
    test_clips = {data for name, data in large.items() if name.startswith("test/")}
    assert {data for name, data in small.items() if name.startswith("test/")} < test_clips
    # The larger dataset in the same folder, and the smaller one again: no surplus clips remain.
    write_dataset(out, train_per_class=3, test_per_class=2, seed=5)
    assert contents(out) == large
    write_dataset(out, train_per_class=2, test_per_class=1, seed=5)
    assert contents(out) == small


def test_complete_dataset_is_not_rewritten(tmp_path: Path):
    def modification_times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    write_dataset(tmp_path, train_per_class=1, test_per_class=1)
    first = modification_times()
    write_dataset(tmp_path, train_per_class=1, test_per_class=1)
    assert modification_times() == first
    # A missing clip, or a missing marker after an interrupted run: the dataset is completed.
    for name in ("test/clip_000.wav", "_complete.json"):
        (tmp_path / name).unlink()
        write_dataset(tmp_path, train_per_class=1, test_per_class=1)
        assert set(modification_times()) == set(first)


def test_linear_baseline_cannot_separate_classes(tmp_path: Path):
    arrays = []
    for split, count in (("train", 24), ("test", 10)):
        clips = [
            synthesize_clip(name, row_rng(1, f"{split}/{name}", i))
            for name in CLASS_NAMES
            for i in range(count)
        ]
        arrays += [
            np.stack([spectrogram(clip, COARSE) for clip in clips]),
            np.repeat(np.arange(len(CLASS_NAMES)), count),
        ]
    accuracy = linear_baseline(*arrays)
    assert 2 / len(CLASS_NAMES) < accuracy < 0.75


def test_linear_baseline_separates_linear_classes():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    mels = rng.normal(-40, 1, (60, 8, 20)).astype(np.float16)
    mels[np.arange(60), labels] += 10
    assert linear_baseline(mels[:30], labels[:30], mels[30:], labels[30:]) == 1.0
