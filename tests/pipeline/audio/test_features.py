"""Tests of the shard rows of a clip: shapes, augmentations, and determinism per row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.config import ConfigError
from pipeline.audio.augment import AUGMENTATIONS, AugmentConfig
from pipeline.audio.decode import AudioDecodeError
from pipeline.audio.features import (
    FeatureConfig,
    Spectrogram,
    load_clip,
    spectrogram,
    spectrogram_rows,
    split_windows,
)
from pipeline.audio.mel import LogMel, MelConfig
from tests.helpers.audio_formats import RATE, broken_files, encode, noise, sine, write_valid_files

SMALL = FeatureConfig(mel=MelConfig(sample_rate=RATE, n_fft=256, hop_length=128, n_mels=20), seconds=1.0)
COPIES = AugmentConfig(copies=8)


def rows_of(
    source: bytes | Path,
    clip_id: str = "a/1.wav",
    features: FeatureConfig = SMALL,
    augment: AugmentConfig = COPIES,
) -> list[Spectrogram]:
    return list(spectrogram_rows(source, clip_id, features, augment))


def rows_equal(a: Spectrogram, b: Spectrogram) -> bool:
    return (a.copy, a.strength, a.augmentation) == (b.copy, b.strength, b.augmentation) and np.array_equal(
        a.mel, b.mel
    )


def test_spectrogram_default_shape():
    config = FeatureConfig()
    assert config.num_samples == 110_250
    assert config.shape == (128, 216)
    assert spectrogram(np.zeros(1, np.float32), config).shape == (128, 216)


@pytest.mark.parametrize("seconds", [0.001, 0.4, 1.0, 1.7, 4.0])
def test_rows_of_any_length_have_one_shape(seconds: float):
    rows = rows_of(encode(noise(seconds)))
    assert [row.copy for row in rows] == list(range(9))
    assert (rows[0].augmentation, rows[0].strength) == ("unchanged", 0.0)
    for row in rows:
        assert row.mel.shape == SMALL.shape == (20, 63)
        assert row.mel.dtype == np.float16
        assert np.isfinite(row.mel).all()
    for row in rows[1:]:
        assert row.augmentation in AUGMENTATIONS
        assert 0 < row.strength <= 1


def test_original_row_is_trimmed_center_crop():
    sound, silence = noise(), np.zeros(RATE // 2, np.float32)
    features = FeatureConfig(mel=SMALL.mel, seconds=0.5, trim_db=None)
    expected = LogMel(SMALL.mel)(sound[2000:6000]).astype(np.float16)
    np.testing.assert_array_equal(rows_of(encode(sound, subtype="FLOAT"), features=features)[0].mel, expected)
    padded = encode(np.concatenate([silence, sound, silence]))
    assert load_clip(padded, SMALL).size < RATE + 2 * 2048
    assert load_clip(padded, features).size == 2 * RATE


def test_rows_are_independent_of_order_and_path(tmp_path: Path):
    content = encode(noise(1.5))
    path = tmp_path / "other name.wav"
    path.write_bytes(content)
    first = rows_of(content)
    assert all(map(rows_equal, first, rows_of(path)))
    rows_of(content, "b/2.wav")
    assert all(map(rows_equal, first, rows_of(content)))
    assert all(map(rows_equal, first[:3], rows_of(content, augment=AugmentConfig(copies=2))))


def test_rows_differ_by_clip_seed_and_copy():
    content = encode(noise(1.5))
    strengths = [
        [row.strength for row in rows_of(content, clip_id, augment=AugmentConfig(copies=3, seed=seed))[1:]]
        for clip_id in "ab"
        for seed in (1, 2)
    ]
    assert len({strength for clip_strengths in strengths for strength in clip_strengths}) == 12


def test_rows_use_exactly_the_configured_augmentations():
    rows = rows_of(encode(noise()), augment=AugmentConfig(copies=60))
    assert {row.augmentation for row in rows[1:]} == set(AUGMENTATIONS)
    config = AugmentConfig(copies=20, augmentations=("noise", "reverb"))
    rows = rows_of(encode(noise()), augment=config)
    assert {row.augmentation for row in rows[1:]} == {"noise", "reverb"}


def test_combined_augmentations_are_applied_one_after_another():
    """Noise after a shift in time within the final length: both are seen in the spectrogram."""
    sound = encode(sine(seconds=0.25))
    features = SMALL.model_copy(update={"trim_db": None})
    settings = {"copies": 60, "augmentations": ("time_shift", "noise"), "combine_augmentations": True}
    rows = rows_of(sound, features=features, augment=AugmentConfig(**settings))
    assert {row.augmentation for row in rows} == {"unchanged", "noise", "time_shift", "noise+time_shift"}

    def background(mel: np.ndarray) -> float:
        return float(np.median(mel[:, mel.max(axis=0) > -20]))

    for row in rows[1:]:
        is_noisy = background(row.mel) > background(rows[0].mel) + 13
        if row.strength > 0.3:
            assert is_noisy == ("noise" in row.augmentation)
    shifted = [row for row in rows if "time_shift" in row.augmentation]
    assert len({int(row.mel.max(axis=0).argmax()) for row in shifted}) > 5
    assert len({row.mel.tobytes() for row in rows if row.augmentation == "unchanged"}) == 1


def test_copies_of_long_clip_are_random_crops():
    """Check a low tone followed by a high one: copies contain the former, the latter, or the transition."""
    sound = np.concatenate([sine(300.0, 3.0), sine(3000.0, 3.0)])
    rows = rows_of(encode(sound), augment=AugmentConfig(copies=30, augmentations=("unchanged",)))
    high = {bool(row.mel[15:].mean() > row.mel[:5].mean()) for row in rows[1:]}
    assert high == {True, False}
    rows = rows_of(encode(noise(1.2)), augment=AugmentConfig(copies=10, augmentations=("unchanged",)))
    assert len({row.mel.tobytes() for row in rows}) > 8


def test_time_shift_happens_within_final_length():
    rows = rows_of(
        encode(sine(seconds=0.25)),
        features=SMALL.model_copy(update={"trim_db": None}),
        augment=AugmentConfig(copies=20, augmentations=("time_shift",)),
    )
    loudness = np.stack([row.mel.astype(np.float32).max(axis=0) for row in rows])
    assert (loudness[0, :14] > -20).all() and (loudness[0, 20:] < -20).all()
    assert all(10 < (row > -20).sum() < 24 for row in loudness)  # a quarter of 63 frames, at any position
    assert len({int(row.argmax()) for row in loudness}) > 5


@pytest.mark.parametrize("name", broken_files())
def test_rows_of_invalid_file_raise_decode_error(name: str):
    with pytest.raises(AudioDecodeError):
        next(spectrogram_rows(broken_files()[name][0], name, SMALL, COPIES))


def test_rows_of_valid_files_are_complete(tmp_path: Path):
    for path in write_valid_files(tmp_path):
        assert len(rows_of(path, path.name)) == 9


def test_spectrogram_of_silence_is_floor():
    assert (rows_of(encode(np.zeros(RATE, np.float32)))[0].mel == -100).all()


def test_fingerprint_differs_between_settings():
    assert FeatureConfig().fingerprint == FeatureConfig(seconds=5).fingerprint
    configs = [
        FeatureConfig(),
        FeatureConfig(seconds=4.0),
        FeatureConfig(trim_db=None),
        FeatureConfig(mel=MelConfig(n_mels=64)),
        SMALL,
    ]
    assert len({config.fingerprint for config in configs}) == len(configs)
    assert all(len(config.fingerprint) == 16 for config in configs)


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (FeatureConfig, {"seconds": 0}, "'seconds' = 0"),
        (FeatureConfig, {"seconds": 601}, "'seconds' = 601"),
        (FeatureConfig, {"trim_db": -1}, "'trim_db' = -1"),
        (AugmentConfig, {"copies": -1}, "'copies' = -1"),
        (
            AugmentConfig,
            {"augmentations": ("noise", "nois")},
            r"unknown augmentation \['nois'\]; available: unchanged, noise",
        ),
        (AugmentConfig, {"augmentations": ()}, "no augmentation given; available: unchanged, noise"),
    ],
)
def test_config_invalid_value_raises(cls: type, settings: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        cls(**settings)


@pytest.mark.parametrize(
    ("seconds", "max_windows", "count"),
    [(0.3, 5, 1), (1.0, 5, 1), (1.1, 5, 2), (7.0, 100, 7), (7.0, 3, 3), (7.0, 1, 1)],
)
def test_split_windows_covers_clip_or_spreads_evenly(seconds: float, max_windows: int, count: int):
    samples = np.arange(round(seconds * RATE), dtype=np.float32)
    windows = split_windows(samples, SMALL, max_windows)
    assert len(windows) == count and all(window.size == SMALL.num_samples for window in windows)
    if 1 < count < max_windows:
        assert set(np.concatenate(windows)) == set(samples)
    if count > 1:
        assert windows[0][0] == 0 and windows[-1][-1] == samples[-1]
    elif seconds > 1:
        assert windows[0][0] == (samples.size - SMALL.num_samples) // 2
