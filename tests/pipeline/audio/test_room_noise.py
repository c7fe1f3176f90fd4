"""Rooms and noise on spectrograms sound as those of waveform augmentation, on average."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models import augmentation_params
from models.acoustics import reverberate
from pipeline.audio import augment
from pipeline.audio.augment import add_reverb
from pipeline.audio.features import FeatureConfig
from pipeline.audio.mel import LogMel, MelConfig
from pipeline.audio.room_noise import acoustics_of

RATE = 22_050
FEATURES = FeatureConfig(mel=MelConfig(n_mels=64), seconds=3.0)
LOG_MEL = LogMel(MelConfig(n_mels=64, top_db=None))
ACOUSTICS = acoustics_of(FEATURES, torch.device("cpu"))


def mel_power(samples: np.ndarray) -> np.ndarray:
    return 10 ** (LOG_MEL(samples.astype(np.float32)) / 10)


def test_stored_noise_is_white_and_longer_than_a_clip():
    noise = ACOUSTICS.white_noise_ML
    assert noise.shape[0] == 64
    assert noise.shape[1] > FEATURES.shape[1] + 20 * RATE / 512 - 2
    # The lowest bands have a few frequencies each.
    assert torch.allclose(noise.mean(dim=1), torch.tensor(1.0), atol=0.25)
    assert torch.allclose(noise[16:].mean(dim=1), torch.tensor(1.0), atol=0.1)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_power_of_bands_times_widths_is_that_of_the_samples(exponent: float):
    """Signal-to-noise ratios of spectrograms are those of the samples, for sounds of any color."""
    rng = np.random.default_rng(3)
    spectrum = np.fft.rfft(rng.standard_normal(3 * RATE))
    spectrum[:150] = 0  # below 50 Hz, where the bands are narrower than the frequencies of the spectrum
    colored = np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 1) ** exponent)
    white = np.fft.irfft(np.fft.rfft(rng.standard_normal(3 * RATE)))
    widths = ACOUSTICS.bandwidth_M.numpy()
    ratio = (mel_power(colored).mean(axis=1) @ widths) / (mel_power(white).mean(axis=1) @ widths)
    assert 10 * np.log10(ratio) == pytest.approx(
        10 * np.log10(np.mean(colored**2) / np.mean(white**2)), abs=0.5
    )


def test_reverberation_is_that_of_the_waveform_on_average():
    """A burst of noise in silence: levels while it lasts, and at any time after it."""
    rng, strength = np.random.default_rng(4), 0.6
    burst = np.zeros(3 * RATE, np.float32)
    burst[RATE // 2 : RATE] = rng.standard_normal(RATE - RATE // 2)
    heard = np.mean([mel_power(add_reverb(burst, RATE, strength, rng)) for _ in range(20)], axis=0)
    decay_s, wet = 0.1 + 1.4 * strength, 0.1 + 0.7 * strength
    sound = torch.from_numpy(mel_power(burst))[None]
    expected = reverberate(sound, torch.tensor([decay_s]), torch.tensor([wet]), ACOUSTICS.hop_s)[0].numpy()
    mean_heard, mean_expected = (10 * np.log10(values[8:].mean(axis=0)) for values in (heard, expected))
    mean_heard -= mean_heard[25:40].mean()
    mean_expected -= mean_expected[25:40].mean()
    # Frames from the middle of the burst to 45 dB below it; at 60 dB the response of the waveform ends.
    assert mean_expected[77] < mean_expected[30] - 45
    assert np.abs(mean_heard - mean_expected)[25:78].max() < 1.0


def test_ranges_are_those_of_waveform_augmentation():
    assert augmentation_params.REVERB_S == augment.REVERB_DECAY_S
    assert augmentation_params.REVERB_WET == augment.REVERB_WET
    assert sorted(augmentation_params.SNR_DB) == sorted(augment.SNR_DB)
