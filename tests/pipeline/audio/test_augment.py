"""What each recipe does to a sound, and that a row's draw is its own."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import scipy.signal

from pipeline.audio.augment import MAX_SEMITONES, MAX_SPEED_OCTAVES, RECIPES, row_rng, shift_pitch, stretch
from tests.helpers.audio_formats import noise, peak_hertz, rms, sine

RATE = 22_050
SEEDS = range(12)
CHANGING = [name for name in RECIPES if name != "unchanged"]


def apply(name: str, samples: np.ndarray, strength: float, seed: int = 0) -> np.ndarray:
    return RECIPES[name](samples, RATE, strength, np.random.default_rng(seed))


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    size = min(a.size, b.size)
    return float(np.corrcoef(a[:size], b[:size])[0, 1])


def test_a_rows_generator_is_its_own():
    rows = [
        (seed, clip, copy)
        for seed in (0, 1)
        for clip in ("a/1.wav", "a/1.wav|1", "ü/日本.wav", "\udcff.wav")
        for copy in (1, 2, 11)
    ]
    draws = {row: row_rng(*row).random() for row in rows}
    assert len(set(draws.values())) == len(rows)
    assert {row: row_rng(*row).random() for row in reversed(rows)} == draws
    # The same on every machine and in every version, or resumed jobs would mix two kinds of copies.
    assert row_rng(42, "dog/1.wav", 1).bit_generator.random_raw(2).tolist() == [
        17579072696607843901,
        13533788240413930935,
    ]


@pytest.mark.parametrize("strength", [0.01, 1.0])
@pytest.mark.parametrize("size", [1, 100, 3000])
@pytest.mark.parametrize("name", RECIPES)
def test_finite_for_short_and_for_silent_sounds(name: str, size: int, strength: float):
    for samples in (noise(rate=RATE)[:size], np.zeros(size, np.float32)):
        for seed in SEEDS:
            changed = apply(name, samples, strength, seed)
            assert changed.dtype == np.float32
            assert changed.ndim == 1 and changed.size >= 1
            assert np.isfinite(changed).all()
            if not samples.any():
                assert not changed.any()


@pytest.mark.parametrize("name", RECIPES)
def test_same_generator_same_result_and_the_sound_is_left_alone(name: str):
    samples = noise(rate=RATE)
    before = samples.copy()
    np.testing.assert_array_equal(apply(name, samples, 0.7, 3), apply(name, samples, 0.7, 3))
    np.testing.assert_array_equal(samples, before)


@pytest.mark.parametrize("name", CHANGING)
def test_the_generator_decides_the_kind(name: str):
    samples = noise(0.3, rate=RATE)
    assert len({apply(name, samples, 0.7, seed).tobytes() for seed in SEEDS}) > 1


@pytest.mark.parametrize("name", CHANGING)
def test_mild_at_a_small_strength_and_more_at_a_greater(name: str):
    samples = scipy.signal.chirp(np.arange(RATE) / RATE, 200.0, 1.0, 4000.0).astype(np.float32) * 0.5
    for seed in SEEDS:
        mild, strong = (apply(name, samples, strength, seed) for strength in (1e-6, 1.0))
        assert mild.size == samples.size
        assert similarity(mild, samples) > 0.95
        assert similarity(strong, samples) < similarity(mild, samples) - 0.005


def test_unchanged_is_the_sound_itself():
    samples = noise(rate=RATE)
    np.testing.assert_array_equal(apply("unchanged", samples, 1.0), samples)


@pytest.mark.parametrize(("strength", "decibel"), [(1e-9, 40.0), (0.5, 22.5), (1.0, 5.0)])
def test_noise_has_the_promised_level(strength: float, decibel: float):
    samples = sine(1000.0, rate=RATE)
    for seed in SEEDS:
        added = apply("noise", samples, strength, seed) - samples
        assert 20 * np.log10(rms(samples) / rms(added)) == pytest.approx(decibel, abs=0.1)


def test_noise_is_white_pink_or_brown():
    """The power of a decade falls by 0, 10 or 20 dB from one to the next."""
    slopes = set()
    samples = sine(1000.0, 4.0, rate=RATE)
    for seed in SEEDS:
        power = np.abs(np.fft.rfft((apply("noise", samples, 1.0, seed) - samples).astype(np.float64))) ** 2
        decades = [power[low * 4 : 2 * low * 4].mean() for low in (50, 500)]
        slopes.add(round(10 * np.log10(decades[1] / decades[0]), -1))
    assert slopes == {0.0, -10.0, -20.0}


@pytest.mark.parametrize("semitones", [-12.0, -4.0, -0.5, 0.0, 1.0, 3.7, 12.0])
def test_pitch_moves_by_semitones_and_the_length_stays(semitones: float):
    shifted = shift_pitch(sine(1000.0, rate=RATE), RATE, semitones)
    assert shifted.size == RATE
    assert peak_hertz(shifted, RATE) == pytest.approx(1000.0 * 2 ** (semitones / 12), rel=2e-3)
    assert (
        similarity(shifted, librosa.effects.pitch_shift(sine(1000.0, rate=RATE), sr=RATE, n_steps=semitones))
        > 0.999
    )


def test_pitch_shift_goes_both_ways_as_far_as_its_strength():
    for strength in (0.25, 1.0):
        peaks = {
            round(
                12
                * np.log2(
                    peak_hertz(apply("pitch_shift", sine(1000.0, rate=RATE), strength, seed), RATE) / 1000
                ),
                1,
            )
            for seed in SEEDS
        }
        assert peaks == {round(-MAX_SEMITONES * strength, 1), round(MAX_SEMITONES * strength, 1)}


def test_speed_changes_length_and_pitch_together():
    for strength in (0.25, 1.0):
        lengths = set()
        for seed in SEEDS:
            changed = apply("speed_change", sine(1000.0, rate=RATE), strength, seed)
            factor = peak_hertz(changed, RATE) / 1000.0
            assert abs(np.log2(factor)) == pytest.approx(MAX_SPEED_OCTAVES * strength, abs=0.01)
            assert changed.size == pytest.approx(RATE / factor, rel=5e-3)
            lengths.add(changed.size > RATE)
        assert lengths == {True, False}


def test_time_shift_turns_the_sound():
    ramp = np.arange(1000, dtype=np.float32)
    starts = set()
    for seed in SEEDS:
        shifted = apply("time_shift", ramp, 0.5, seed)
        assert sorted(shifted) == ramp.tolist()
        starts.add(int(shifted[0]))
    assert starts == {250, 750}


def test_reverb_keeps_level_and_length_and_fills_what_follows():
    burst = np.zeros(2 * RATE, np.float32)
    burst[: RATE // 4] = noise(0.25, rate=RATE)[: RATE // 4]
    for strength in (0.1, 1.0):
        wet = apply("reverb", burst, strength)
        assert wet.size == burst.size
        assert rms(wet) == pytest.approx(rms(burst), rel=1e-3)
    tail = slice(RATE // 2, RATE)
    assert rms(apply("reverb", burst, 1.0)[tail]) > 100 * rms(apply("reverb", burst, 0.1)[tail])


@pytest.mark.parametrize("rate", [0.5, 0.8, 1.0, 1.25, 2.0])
def test_stretch_equals_librosas(rate: float):
    rng = np.random.default_rng(1)
    chord = sum(sine(hertz, 2.0, RATE, 0.2) for hertz in (220.0, 523.25, 1318.5))
    sound = (chord * np.linspace(1, 0.2, chord.size) + 0.01 * rng.standard_normal(chord.size)).astype(
        np.float32
    )
    late = np.concatenate([np.zeros(RATE, np.float32), sound])  # phases begin where there is nothing
    for samples in (sound, late):
        got, want = stretch(samples, rate), librosa.effects.time_stretch(samples, rate=rate)
        assert got.size == want.size == round(samples.size / rate)
        assert similarity(got, want) > 0.999
