"""Generated sounds: the same for the same seed, of the promised form, and beyond a model that can't see time."""

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
from pipeline.audio.synthesize import CLASS_NAMES, RATES, synthesize_clip, synthesize_event, write_sound_set
from pipeline.classifier.baseline import linear_baseline

# Coarser than the default: the mean over time, all that the baseline looks at, doesn't mind.
COARSE = FeatureConfig(mel=MelConfig(hop_length=2048))


@pytest.fixture(scope="module")
def sound_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("set") / "sounds"
    write_sound_set(out, train_per_class=3, test_per_class=2, seed=5)
    return out


def contents(out: Path) -> dict[str, bytes]:
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("name", CLASS_NAMES)
@pytest.mark.parametrize("rate", RATES)
def test_every_event_is_a_sound(name: str, rate: int):
    for number in range(5):
        event = synthesize_event(name, row_rng(0, name, number), rate)
        assert event.dtype == np.float32 and event.ndim == 1
        assert 0.3 < event.size / rate < 3.5
        assert np.isfinite(event).all()
        assert np.abs(event).max() == pytest.approx(1.0) and np.abs(event).max() <= 1.0
        assert np.sqrt(np.mean(event**2)) > 0.01


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_every_clip_is_a_sound(name: str):
    clips = [synthesize_clip(name, row_rng(0, name, number)) for number in range(8)]
    for clip in clips:
        assert clip.dtype == np.float32 and np.isfinite(clip).all()
        assert 0.05 < np.abs(clip).max() <= 1.0
        assert 2.0 <= clip.size / 22_050 <= 6.0
    assert len({clip.size for clip in clips}) > 1


@pytest.mark.parametrize(
    ("forwards", "backwards"), [("chirp_rising", "chirp_falling"), ("bell_struck", "bell_swelling")]
)
def test_pairs_differ_in_time_only(forwards: str, backwards: str):
    np.testing.assert_array_equal(
        synthesize_event(forwards, np.random.default_rng(3)),
        synthesize_event(backwards, np.random.default_rng(3))[::-1],
    )


def test_layout(sound_set: Path):
    train = sorted(
        path.relative_to(sound_set / "train").as_posix() for path in (sound_set / "train").glob("*/*")
    )
    assert train == sorted(f"{name}/{name}_{number:03d}.wav" for name in CLASS_NAMES for number in range(3))
    with open(sound_set / "test_labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == {"id", "label"}
    assert [row["id"] for row in rows] == sorted(path.name for path in (sound_set / "test").iterdir())
    assert [row["id"] for row in rows] == [f"clip_{number:03d}.wav" for number in range(2 * len(CLASS_NAMES))]
    labels = [row["label"] for row in rows]
    assert sorted(labels) == sorted(2 * CLASS_NAMES)
    assert labels != sorted(labels) and labels != [name for name in CLASS_NAMES for _ in range(2)]


def test_files_vary_in_format_and_decode(sound_set: Path):
    paths = list(sound_set.glob("t*/**/*.wav"))
    formats = {(sound.samplerate, sound.channels) for sound in map(soundfile.info, paths)}
    assert {rate for rate, _ in formats} == set(RATES)
    assert {channels for _, channels in formats} == {1, 2}
    for path in paths:
        samples = decode(path, 22_050)
        assert 0.01 < np.abs(samples).max() <= 1.0


def test_same_seed_same_bytes(sound_set: Path, tmp_path: Path):
    write_sound_set(tmp_path / "same", train_per_class=3, test_per_class=2, seed=5)
    assert contents(tmp_path / "same") == contents(sound_set)


def test_other_seed_other_sounds(sound_set: Path, tmp_path: Path):
    write_sound_set(tmp_path / "other", train_per_class=1, test_per_class=0, seed=6)
    first = contents(sound_set)
    sounds = {name: data for name, data in contents(tmp_path / "other").items() if name.endswith(".wav")}
    assert len(sounds) == len(CLASS_NAMES)
    assert all(first[name] != data for name, data in sounds.items())


def test_counts_leave_other_clips_alone(sound_set: Path, tmp_path: Path):
    out = tmp_path / "sounds"
    write_sound_set(out, train_per_class=2, test_per_class=1, seed=5)
    few, many = contents(out), contents(sound_set)
    assert all(data == many[name] for name, data in few.items() if name.startswith("train/"))
    hidden = {data for name, data in many.items() if name.startswith("test/")}
    assert {data for name, data in few.items() if name.startswith("test/")} < hidden
    # The larger set in the same folder, and back: nothing of it stays behind.
    write_sound_set(out, train_per_class=3, test_per_class=2, seed=5)
    assert contents(out) == many
    write_sound_set(out, train_per_class=2, test_per_class=1, seed=5)
    assert contents(out) == few


def test_second_run_writes_nothing(tmp_path: Path):
    def written() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    write_sound_set(tmp_path, train_per_class=1, test_per_class=1)
    first = written()
    write_sound_set(tmp_path, train_per_class=1, test_per_class=1)
    assert written() == first
    # A lost file, or one lost marker of an interrupted run: the set is made whole.
    for lost in ("test/clip_000.wav", "_complete.json"):
        (tmp_path / lost).unlink()
        write_sound_set(tmp_path, train_per_class=1, test_per_class=1)
        assert set(written()) == set(first)


def test_linear_model_stays_below(tmp_path: Path):
    sets = []
    for part, count in (("train", 24), ("test", 10)):
        clips = [
            synthesize_clip(name, row_rng(1, f"{part}/{name}", i))
            for name in CLASS_NAMES
            for i in range(count)
        ]
        sets += [
            np.stack([spectrogram(clip, COARSE) for clip in clips]),
            np.repeat(np.arange(len(CLASS_NAMES)), count),
        ]
    accuracy = linear_baseline(*sets)
    assert 2 / len(CLASS_NAMES) < accuracy < 0.75


def test_linear_baseline_learns_what_is_linear():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    mels = rng.normal(-40, 1, (60, 8, 20)).astype(np.float16)
    mels[np.arange(60), labels] += 10
    assert linear_baseline(mels[:30], labels[:30], mels[30:], labels[30:]) == 1.0
