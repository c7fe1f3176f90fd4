"""Tests of the synthetic dataset: determinism, layout, what is written again, and unusable arguments."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.audio.decode import decode
from pipeline.audio.synthesize import CLASS_NAMES
from pipeline.audio.synthetic_dataset import SAMPLE_RATES, write_dataset


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


def test_dataset_layout_and_labels(dataset: Path):
    train = sorted(path.relative_to(dataset / "train").as_posix() for path in (dataset / "train").glob("*/*"))
    assert train == sorted(f"{name}/{name}_{number:03d}.wav" for name in CLASS_NAMES for number in range(3))
    with open(dataset / "test_labels.csv", newline="", encoding="utf-8") as file:
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train_per_class": -1}, "train_per_class -1: expected a whole number of 0 or more"),
        ({"test_per_class": 2.5}, "test_per_class 2.5: expected a whole number of 0 or more"),
        ({"seed": "a"}, "seed 'a': expected a whole number of 0 or more"),
        ({"classes": "siren"}, r"classes 'siren': expected a list of names, such as \['siren'\]"),
        ({"classes": ["siren", "dog"]}, "class 'dog': unknown; available: chirp_rising, "),
    ],
)
def test_unusable_argument_is_named(arguments: dict, message: str, tmp_path: Path):
    with pytest.raises(ValueError, match=message):
        write_dataset(tmp_path / "sounds", **arguments)
    assert not (tmp_path / "sounds").exists()


def test_numpy_numbers_are_numbers(tmp_path: Path):
    write_dataset(tmp_path, train_per_class=np.int64(1), test_per_class=np.int32(0), classes=["siren"])
    assert [path.name for path in tmp_path.glob("t*/**/*.wav")] == ["siren_000.wav"]
