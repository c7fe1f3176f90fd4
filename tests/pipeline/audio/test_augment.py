"""Tests of the waveform augmentations: determinism, effect and strength."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import scipy.signal

from pipeline.audio.augment import (
    AUGMENTATIONS,
    MAX_SEMITONES,
    MAX_SPEED_OCTAVES,
    AugmentConfig,
    convolve,
    row_rng,
    sample_augmentations,
    shift_pitch,
    time_stretch,
)
from tests.helpers.audio_formats import noise, peak_frequency, rms, sine

RATE = 22_050
SEEDS = range(12)
EFFECTIVE = [name for name in AUGMENTATIONS if name != "unchanged"]


def apply(name: str, samples: np.ndarray, strength: float, seed: int = 0) -> np.ndarray:
    return AUGMENTATIONS[name](samples, RATE, strength, np.random.default_rng(seed))


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    size = min(a.size, b.size)
    return float(np.corrcoef(a[:size], b[:size])[0, 1])


@pytest.mark.parametrize("size", [1, 2, 100, 3000, 110_250])
@pytest.mark.parametrize("response_size", [2, 300, 22_050])
def test_convolution_equals_that_of_scipy(size: int, response_size: int):
    rng = np.random.default_rng(size)
    samples, response = (rng.standard_normal(count, np.float32) for count in (size, response_size))
    convolved = convolve(samples, response)
    assert convolved.dtype == np.float32
    assert np.array_equal(convolved, scipy.signal.fftconvolve(samples, response))


def test_row_rng_depends_on_seed_clip_and_copy():
    rows = [
        (seed, clip, copy)
        for seed in (0, 1)
        for clip in ("a/1.wav", "a/1.wav|1", "ü/日本.wav", "\udcff.wav")
        for copy in (1, 2, 11)
    ]
    samples = {row: row_rng(*row).random() for row in rows}
    assert len(set(samples.values())) == len(rows)
    assert {row: row_rng(*row).random() for row in reversed(rows)} == samples
    # Equal on every platform and in every version, or resumed jobs would mix different copies.
    assert row_rng(42, "dog/1.wav", 1).bit_generator.random_raw(2).tolist() == [
        17579072696607843901,
        13533788240413930935,
    ]


@pytest.mark.parametrize("strength", [0.01, 1.0])
@pytest.mark.parametrize("size", [1, 100, 3000])
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentation_of_short_or_silent_clip_is_finite(name: str, size: int, strength: float):
    for samples in (noise(rate=RATE)[:size], np.zeros(size, np.float32)):
        for seed in SEEDS:
            augmented = apply(name, samples, strength, seed)
            assert augmented.dtype == np.float32
            assert augmented.ndim == 1 and augmented.size >= 1
            assert np.isfinite(augmented).all()
            if not samples.any():
                assert not augmented.any()


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentation_is_deterministic_and_keeps_its_input(name: str):
    samples = noise(rate=RATE)
    original = samples.copy()
    np.testing.assert_array_equal(apply(name, samples, 0.7, 3), apply(name, samples, 0.7, 3))
    np.testing.assert_array_equal(samples, original)


@pytest.mark.parametrize("name", EFFECTIVE)
def test_augmentation_varies_with_the_generator(name: str):
    samples = noise(0.3, rate=RATE)
    assert len({apply(name, samples, 0.7, seed).tobytes() for seed in SEEDS}) > 1


@pytest.mark.parametrize("name", EFFECTIVE)
def test_augmentation_effect_grows_with_strength(name: str):
    samples = scipy.signal.chirp(np.arange(RATE) / RATE, 200.0, 1.0, 4000.0).astype(np.float32) * 0.5
    for seed in SEEDS:
        mild, strong = (apply(name, samples, strength, seed) for strength in (1e-6, 1.0))
        assert mild.size == samples.size
        assert similarity(mild, samples) > 0.95
        assert similarity(strong, samples) < similarity(mild, samples) - 0.005


def test_unchanged_returns_equal_samples():
    samples = noise(rate=RATE)
    np.testing.assert_array_equal(apply("unchanged", samples, 1.0), samples)


@pytest.mark.parametrize(("strength", "snr_db"), [(1e-9, 40.0), (0.5, 22.5), (1.0, 5.0)])
def test_noise_snr_follows_strength(strength: float, snr_db: float):
    samples = sine(1000.0, rate=RATE)
    for seed in SEEDS:
        noise_samples = apply("noise", samples, strength, seed) - samples
        assert 20 * np.log10(rms(samples) / rms(noise_samples)) == pytest.approx(snr_db, abs=0.1)


def test_noise_spectrum_is_white_pink_or_brown():
    """Check that the power spectrum falls by 0, 10 or 20 dB per decade."""
    slopes = set()
    samples = sine(1000.0, 4.0, rate=RATE)
    for seed in SEEDS:
        power = np.abs(np.fft.rfft((apply("noise", samples, 1.0, seed) - samples).astype(np.float64))) ** 2
        decades = [power[low * 4 : 2 * low * 4].mean() for low in (50, 500)]
        slopes.add(round(10 * np.log10(decades[1] / decades[0]), -1))
    assert slopes == {0.0, -10.0, -20.0}


@pytest.mark.parametrize("semitones", [-12.0, -4.0, -0.5, 0.0, 1.0, 3.7, 12.0])
def test_shift_pitch_matches_librosa(semitones: float):
    shifted = shift_pitch(sine(1000.0, rate=RATE), RATE, semitones)
    assert shifted.size == RATE
    assert peak_frequency(shifted, RATE) == pytest.approx(1000.0 * 2 ** (semitones / 12), rel=2e-3)
    assert (
        similarity(shifted, librosa.effects.pitch_shift(sine(1000.0, rate=RATE), sr=RATE, n_steps=semitones))
        > 0.999
    )


def test_pitch_shift_is_proportional_to_strength():
    for strength in (0.25, 1.0):
        peaks = {
            round(
                12
                * np.log2(
                    peak_frequency(apply("pitch_shift", sine(1000.0, rate=RATE), strength, seed), RATE) / 1000
                ),
                1,
            )
            for seed in SEEDS
        }
        assert peaks == {round(-MAX_SEMITONES * strength, 1), round(MAX_SEMITONES * strength, 1)}


def test_speed_change_scales_length_and_pitch():
    for strength in (0.25, 1.0):
        longer = set()
        for seed in SEEDS:
            augmented = apply("speed_change", sine(1000.0, rate=RATE), strength, seed)
            factor = peak_frequency(augmented, RATE) / 1000.0
            assert abs(np.log2(factor)) == pytest.approx(MAX_SPEED_OCTAVES * strength, abs=0.01)
            assert augmented.size == pytest.approx(RATE / factor, rel=5e-3)
            longer.add(augmented.size > RATE)
        assert longer == {True, False}


def combined(seeds: range, **settings: object) -> list[list[str]]:
    config = AugmentConfig(combine_augmentations=True, **settings)
    return [sample_augmentations(config, np.random.default_rng(seed)) for seed in seeds]


def test_combined_augmentations_are_frequent_and_in_order():
    names = ("unchanged", "noise", "pitch_shift", "speed_change", "time_shift", "reverb")
    copies = combined(range(3000), augmentations=names)
    shares = {name: np.mean([name in copy for copy in copies]) for name in names}
    for name in ("noise", "reverb", "time_shift"):
        assert shares[name] == pytest.approx(0.5, abs=0.03)
    for name in ("pitch_shift", "speed_change"):
        assert shares[name] == pytest.approx(1 / 3, abs=0.03)
    assert not any({"pitch_shift", "speed_change"} <= set(copy) for copy in copies)
    assert shares["unchanged"] == pytest.approx(1 / 3 / 8, abs=0.02)
    assert all(copy == ["unchanged"] for copy in copies if "unchanged" in copy)
    order = ["pitch_shift", "speed_change", "reverb", "noise", "time_shift"]
    assert all(copy == sorted(copy, key=order.index) for copy in copies if copy != ["unchanged"])


def test_only_chosen_augmentations_are_combined():
    copies = combined(range(200), augmentations=("reverb", "speed_change"))
    expected = {(), ("speed_change",), ("reverb",), ("speed_change", "reverb")}
    assert {tuple(name for name in copy if name != "unchanged") for copy in copies} == expected


def test_datasets_of_one_augmentation_per_copy_keep_their_settings():
    assert set(AugmentConfig().to_dict()) == {"copies", "augmentations", "seed"}
    combined = AugmentConfig(combine_augmentations=True)
    assert AugmentConfig(**combined.to_dict()) == combined


def test_time_shift_rolls_samples():
    ramp = np.arange(1000, dtype=np.float32)
    starts = set()
    for seed in SEEDS:
        shifted = apply("time_shift", ramp, 0.5, seed)
        assert sorted(shifted) == ramp.tolist()
        starts.add(int(shifted[0]))
    assert starts == {250, 750}


def test_reverb_keeps_level_and_adds_a_tail():
    burst = np.zeros(2 * RATE, np.float32)
    burst[: RATE // 4] = noise(0.25, rate=RATE)[: RATE // 4]
    for strength in (0.1, 1.0):
        wet = apply("reverb", burst, strength)
        assert wet.size == burst.size
        assert rms(wet) == pytest.approx(rms(burst), rel=1e-3)
    tail = slice(RATE // 2, RATE)
    assert rms(apply("reverb", burst, 1.0)[tail]) > 100 * rms(apply("reverb", burst, 0.1)[tail])


@pytest.mark.parametrize("rate", [0.5, 0.8, 1.0, 1.25, 2.0])
def test_time_stretch_matches_librosa(rate: float):
    rng = np.random.default_rng(1)
    chord = sum(sine(frequency, 2.0, RATE, 0.2) for frequency in (220.0, 523.25, 1318.5))
    sound = (chord * np.linspace(1, 0.2, chord.size) + 0.01 * rng.standard_normal(chord.size)).astype(
        np.float32
    )
    delayed = np.concatenate([np.zeros(RATE, np.float32), sound])  # phases start in silence
    for samples in (sound, delayed):
        actual, expected = time_stretch(samples, rate), librosa.effects.time_stretch(samples, rate=rate)
        assert actual.size == expected.size == round(samples.size / rate)
        assert similarity(actual, expected) > 0.999
