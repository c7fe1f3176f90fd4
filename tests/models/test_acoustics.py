"""Rooms and noise in training: exact decay and signal-to-noise ratio, and clips without them as they were."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.acoustics import Acoustics, reverberate
from models.augmentation_params import AugmentationTensors, BatchAugmentation, sample_batch_augmentation
from models.settings import MixUpConfig, SpecAugmentConfig
from tests.helpers.augmentation import to_tensors

B, M, T = 16, 8, 40
BOTH = SpecAugmentConfig(reverb=0.5, noise=0.5)
ACOUSTICS = Acoustics(
    hop_s=0.02,
    frequency_M=torch.linspace(0.1, 8, M),
    bandwidth_M=torch.linspace(50, 400, M),
    white_noise_ML=torch.rand(M, 3 * T, generator=torch.Generator().manual_seed(1)) + 0.5,
)


def random_mels(seed: int = 0) -> torch.Tensor:
    return torch.randn(B, M, T, generator=torch.Generator().manual_seed(seed)) * 20 - 40


def sample_params(spec: SpecAugmentConfig = BOTH, strength: float = 1.0, size: int = B) -> BatchAugmentation:
    return sample_batch_augmentation(np.random.default_rng(0), size, MixUpConfig(), spec, strength)


def tensors(**changes: float) -> AugmentationTensors:
    """Return the parameters of clips without rooms and noise, but for some."""
    plain = sample_params(SpecAugmentConfig())
    return to_tensors(replace(plain, **{name: np.full(B, value) for name, value in changes.items()}), M, T)


def power(mel: torch.Tensor) -> torch.Tensor:
    return 10 ** (mel.double() / 10)


def total_power(power_BMT: torch.Tensor) -> torch.Tensor:
    return (power_BMT.mean(dim=2) * ACOUSTICS.bandwidth_M.double()).sum(dim=1)


def test_reverberation_is_the_recursion_of_an_exponential_decay():
    sound = power(random_mels())
    reverb_s, wet = torch.linspace(0.1, 1.5, B).double(), torch.full((B,), 0.6).double()
    factor = 1e-6 ** (0.02 / reverb_s)[:, None]
    tail, expected = torch.zeros(B, M).double(), torch.empty_like(sound)
    for frame in range(T):
        tail = factor * tail + (1 - factor) * sound[:, :, frame]
        expected[:, :, frame] = (0.16 * sound[:, :, frame] + 0.36 * tail) / 0.52
    assert torch.allclose(reverberate(sound, reverb_s, wet, hop_s=0.02), expected, rtol=1e-6)


def test_reverberation_decays_by_60_db_in_its_time():
    click = torch.full((1, M, T), 1e-12)
    click[:, :, 0] = 1.0
    heard = reverberate(click, torch.tensor([0.4]), torch.tensor([0.8]), hop_s=0.02)
    assert torch.allclose(10 * (heard[:, :, 1] / heard[:, :, 21]).log10(), torch.tensor(60.0), atol=0.1)


def test_reverberation_is_causal():
    sound = power(random_mels()).float()
    later = sound.clone()
    later[:, :, T // 2 :] *= 100
    reverb_s, wet = torch.full((B,), 0.6), torch.full((B,), 0.5)
    first, second = (reverberate(values, reverb_s, wet, hop_s=0.02) for values in (sound, later))
    assert torch.equal(first[:, :, : T // 2], second[:, :, : T // 2])


@pytest.mark.parametrize("slope", [0.0, 1.0, 2.0])
def test_noise_has_its_ratio_and_its_slope(slope: float):
    mel = random_mels()
    noisy = ACOUSTICS.add(mel, tensors(snr_db=10.0, noise_slope=slope, noise_start=0.3))
    noise = power(noisy) - power(mel)
    # The ratio is that of the mean of the stored noise, of which a clip has a part.
    ratio = 10 * torch.log10(total_power(power(mel)) / total_power(noise))
    assert torch.allclose(ratio, torch.tensor(10.0).double(), atol=0.5)
    stored = ACOUSTICS.white_noise_ML[:, 24 : 24 + T].mean(dim=1).double()
    density = noise.mean(dim=2) / stored
    falls = torch.log(density[:, 0] / density[:, -1]) / np.log(80)
    assert torch.allclose(falls, torch.tensor(slope).double(), atol=1e-3)


def test_noise_starts_where_it_is_sampled_and_never_leaves_the_stored_one():
    mel = random_mels()
    first, last = (
        power(ACOUSTICS.add(mel, tensors(snr_db=-60.0, noise_start=start))) for start in (0.0, 1.0)
    )
    stored = ACOUSTICS.white_noise_ML.double()
    for noise, expected in ((first, stored[:, :T]), (last, stored[:, -T:])):
        assert torch.allclose(
            noise / noise.mean(dim=(1, 2), keepdim=True), expected / expected.mean(), rtol=1e-2
        )


def test_clips_without_rooms_and_noise_stay_as_they_are():
    mel, params = random_mels(), to_tensors(sample_params(), M, T)
    plain = (params.reverb_wet_B == 0) & params.snr_db_B.isinf()
    augmented = ACOUSTICS.add(mel, params)
    assert 0 < int(plain.sum()) < B
    assert torch.equal(augmented[plain], mel[plain])
    assert not torch.isclose(augmented[~plain], mel[~plain]).all(dim=(1, 2)).any()
    assert ACOUSTICS.add(mel, tensors()) is mel


def test_all_clips_at_once_as_on_a_gpu_are_those_that_change():
    mel, params = random_mels(), to_tensors(sample_params(), M, T)
    assert torch.allclose(ACOUSTICS._add(mel, params), ACOUSTICS.add(mel, params), atol=1e-3)


def test_slices_equal_the_whole_batch():
    mel, params = random_mels(), sample_params()
    parts = [
        ACOUSTICS.add(mel[rows], to_tensors(params[rows], M, T))
        for rows in (slice(0, 5), slice(5, 6), slice(6, B))
    ]
    assert torch.allclose(torch.cat(parts), ACOUSTICS.add(mel, to_tensors(params, M, T)), atol=1e-4)


def test_probabilities_are_those_of_the_settings_times_the_strength():
    spec = SpecAugmentConfig(reverb=0.8, noise=0.4)
    for strength in (1.0, 0.5):
        params = sample_params(spec, strength, size=20_000)
        assert np.mean(params.reverb_wet > 0) == pytest.approx(0.8 * strength, abs=0.02)
        assert np.mean(np.isfinite(params.snr_db)) == pytest.approx(0.4 * strength, abs=0.02)
    assert not sample_params(spec, 0.0).reverb_wet.any()


def test_other_augmentations_are_those_without_rooms_and_noise():
    with_both, without = sample_params(), sample_params(SpecAugmentConfig())
    new = {"reverb_s", "reverb_wet", "snr_db", "noise_slope", "noise_start"}
    for name in set(vars(without)) - new:
        assert np.array_equal(getattr(with_both, name), getattr(without, name)), name


def test_silence_stays_finite():
    silent = torch.full((B, M, T), -100.0)
    assert ACOUSTICS.add(silent, tensors(snr_db=5.0, reverb_wet=0.8)).isfinite().all()
