"""One clip to its rows: shapes, names of what was done, and draws that depend on the row alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.config import ConfigError
from pipeline.audio.augment import RECIPES
from pipeline.audio.decode import AudioDecodeError
from pipeline.audio.features import (
    AugmentConfig,
    FeatureConfig,
    Spectrogram,
    load_clip,
    spectrogram,
    spectrogram_rows,
    split_windows,
)
from pipeline.audio.mel import LogMel, MelConfig
from tests.helpers.audio_formats import RATE, broken_files, encoded, noise, sine, write_good

SMALL = FeatureConfig(mel=MelConfig(sample_rate=RATE, n_fft=256, hop_length=128, n_mels=20), seconds=1.0)
COPIES = AugmentConfig(copies=8)


def rows_of(
    source: bytes | Path,
    clip_id: str = "a/1.wav",
    features: FeatureConfig = SMALL,
    augment: AugmentConfig = COPIES,
) -> list[Spectrogram]:
    return list(spectrogram_rows(source, clip_id, features, augment))


def same(a: Spectrogram, b: Spectrogram) -> bool:
    return (a.copy, a.strength, a.recipe) == (b.copy, b.strength, b.recipe) and np.array_equal(a.mel, b.mel)


def test_shape_is_that_of_the_defaults():
    config = FeatureConfig()
    assert config.num_samples == 110_250
    assert config.shape == (128, 216)
    assert spectrogram(np.zeros(1, np.float32), config).shape == (128, 216)


@pytest.mark.parametrize("seconds", [0.001, 0.4, 1.0, 1.7, 4.0])
def test_a_clip_of_any_length_gives_rows_of_one_shape(seconds: float):
    rows = rows_of(encoded(noise(seconds)))
    assert [row.copy for row in rows] == list(range(9))
    assert (rows[0].recipe, rows[0].strength) == ("unchanged", 0.0)
    for row in rows:
        assert row.mel.shape == SMALL.shape == (20, 63)
        assert row.mel.dtype == np.float16
        assert np.isfinite(row.mel).all()
    for row in rows[1:]:
        assert row.recipe in RECIPES
        assert 0 < row.strength <= 1


def test_the_clip_itself_is_its_middle_and_without_outer_silence():
    sound, silence = noise(), np.zeros(RATE // 2, np.float32)
    features = FeatureConfig(mel=SMALL.mel, seconds=0.5, trim_db=None)
    want = LogMel(SMALL.mel)(sound[2000:6000]).astype(np.float16)
    np.testing.assert_array_equal(rows_of(encoded(sound, subtype="FLOAT"), features=features)[0].mel, want)
    padded = encoded(np.concatenate([silence, sound, silence]))
    assert load_clip(padded, SMALL).size < RATE + 2 * 2048
    assert load_clip(padded, features).size == 2 * RATE


def test_rows_do_not_depend_on_order_number_or_place(tmp_path: Path):
    content = encoded(noise(1.5))
    path = tmp_path / "somewhere else.wav"
    path.write_bytes(content)
    first = rows_of(content)
    assert all(map(same, first, rows_of(path)))
    rows_of(content, "b/2.wav")
    assert all(map(same, first, rows_of(content)))
    assert all(map(same, first[:3], rows_of(content, augment=AugmentConfig(copies=2))))


def test_rows_differ_by_clip_seed_and_copy():
    content = encoded(noise(1.5))
    draws = [
        [row.strength for row in rows_of(content, clip_id, augment=AugmentConfig(copies=3, seed=seed))[1:]]
        for clip_id in "ab"
        for seed in (1, 2)
    ]
    assert len({strength for draw in draws for strength in draw}) == 12


def test_every_recipe_comes_up_and_only_those_asked_for():
    found = {row.recipe for row in rows_of(encoded(noise()), augment=AugmentConfig(copies=60))[1:]}
    assert found == set(RECIPES)
    found = {
        row.recipe
        for row in rows_of(encoded(noise()), augment=AugmentConfig(copies=20, recipes=("noise", "reverb")))[
            1:
        ]
    }
    assert found == {"noise", "reverb"}


def test_a_copy_of_a_long_clip_may_be_any_part_of_it():
    """A low tone, then a high one: by chance a copy hears the one, the other, or the change."""
    sound = np.concatenate([sine(300.0, 3.0), sine(3000.0, 3.0)])
    rows = rows_of(encoded(sound), augment=AugmentConfig(copies=30, recipes=("unchanged",)))
    high = {bool(row.mel[15:].mean() > row.mel[:5].mean()) for row in rows[1:]}
    assert high == {True, False}
    rows = rows_of(encoded(noise(1.2)), augment=AugmentConfig(copies=10, recipes=("unchanged",)))
    assert len({row.mel.tobytes() for row in rows}) > 8


def test_time_shift_moves_a_clip_within_its_final_length():
    rows = rows_of(
        encoded(sine(seconds=0.25)),
        features=SMALL.model_copy(update={"trim_db": None}),
        augment=AugmentConfig(copies=20, recipes=("time_shift",)),
    )
    loudness = np.stack([row.mel.astype(np.float32).max(axis=0) for row in rows])
    assert (loudness[0, :14] > -20).all() and (loudness[0, 20:] < -20).all()
    assert all(10 < (row > -20).sum() < 24 for row in loudness)  # a quarter of 63 frames, wherever it is
    assert len({int(row.argmax()) for row in loudness}) > 5


@pytest.mark.parametrize("name", broken_files())
def test_a_broken_file_gives_no_row(name: str):
    with pytest.raises(AudioDecodeError):
        next(spectrogram_rows(broken_files()[name][0], name, SMALL, COPIES))


def test_good_files_give_rows(tmp_path: Path):
    for path in write_good(tmp_path):
        assert len(rows_of(path, path.name)) == 9


def test_silence_gives_the_floor():
    assert (rows_of(encoded(np.zeros(RATE, np.float32)))[0].mel == -100).all()


def test_fingerprint_names_the_settings():
    assert FeatureConfig().fingerprint == FeatureConfig(seconds=5).fingerprint
    others = [
        FeatureConfig(),
        FeatureConfig(seconds=4.0),
        FeatureConfig(trim_db=None),
        FeatureConfig(mel=MelConfig(n_mels=64)),
        SMALL,
    ]
    assert len({config.fingerprint for config in others}) == len(others)
    assert all(len(config.fingerprint) == 16 for config in others)


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (FeatureConfig, {"seconds": 0}, "'seconds' = 0"),
        (FeatureConfig, {"seconds": 601}, "'seconds' = 601"),
        (FeatureConfig, {"trim_db": -1}, "'trim_db' = -1"),
        (AugmentConfig, {"copies": -1}, "'copies' = -1"),
        (
            AugmentConfig,
            {"recipes": ("noise", "nois")},
            r"unknown recipe \['nois'\]; known: unchanged, noise",
        ),
        (AugmentConfig, {"recipes": ()}, "known: unchanged, noise"),
    ],
)
def test_refused_settings(cls: type, settings: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        cls(**settings)


@pytest.mark.parametrize(
    ("seconds", "most", "count"),
    [(0.3, 5, 1), (1.0, 5, 1), (1.1, 5, 2), (7.0, 100, 7), (7.0, 3, 3), (7.0, 1, 1)],
)
def test_windows_cover_a_clip_or_are_evenly_spread(seconds: float, most: int, count: int):
    samples = np.arange(round(seconds * RATE), dtype=np.float32)
    cut = split_windows(samples, SMALL, most)
    assert len(cut) == count and all(part.size == SMALL.num_samples for part in cut)
    if 1 < count < most:
        assert set(np.concatenate(cut)) == set(samples)
    if count > 1:
        assert cut[0][0] == 0 and cut[-1][-1] == samples[-1]
    elif seconds > 1:
        assert cut[0][0] == (samples.size - SMALL.num_samples) // 2
