"""Discriminator augmentation: its probability, equality for real and fake, gradients; updates of ADA."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.augmentation_params import AugmentationTensors
from models.config import ConfigError
from models.gan_augment import (
    ADA_CLIPS,
    MAX_PROBABILITY,
    AdaConfig,
    GanAugmentConfig,
    apply_with_probability,
    augment,
    sample_augmentation,
    sample_uniform,
    update_ada_probability,
)
from tests.helpers.augmentation import to_tensors

B, M, T = 24, 10, 40
AUGMENTATIONS = ("roll", "gain_db", "time_width", "freq_width")
FILL = torch.arange(float(M)) - 100
# Large enough for each augmentation to change a small spectrogram.
STRONG = GanAugmentConfig(time_width=0.5, freq_width=0.5, roll=0.5, time_masks=2)


def random_mels(seed: int = 0) -> torch.Tensor:
    return torch.randn(B, M, T, generator=torch.Generator().manual_seed(seed)) * 20 - 40


def sample_params(
    p: float, seed: int = 0, count: int = B, config: GanAugmentConfig = STRONG, size: tuple[int, int] = (M, T)
) -> AugmentationTensors:
    rng = np.random.default_rng(seed)
    params = to_tensors(sample_augmentation(rng, count, config), *size)
    return apply_with_probability(params, torch.from_numpy(sample_uniform(rng, count)), p)


def applied(params: AugmentationTensors) -> np.ndarray:
    """Return which augmentation is applied to which clip `[shape=(4, B)]`."""
    return np.stack(
        [
            params.shift_B != 0,
            params.gain_B != 0,
            (params.time_end_BS > params.time_start_BS).any(dim=1),
            (params.freq_end_BS > params.freq_start_BS).any(dim=1),
        ]
    )


def masked(mel: torch.Tensor, params: AugmentationTensors) -> torch.Tensor:
    """Return which values are masked `[shape=(B, M, T)]`."""
    return augment(mel, params, torch.full((M,), torch.nan)).isnan()


def test_zero_probability_changes_nothing() -> None:
    mel, params = random_mels(), sample_params(0.0)
    assert not applied(params).any()
    assert torch.equal(augment(mel, params, FILL), mel)


def test_probability_one_augments_every_clip_within_bounds() -> None:
    config = GanAugmentConfig(
        time_masks=3, time_width=0.3, freq_masks=2, freq_width=0.2, roll=0.15, gain_db=5.0
    )
    mel = random_mels()
    for seed in range(30):
        # Enough frames and bands that rounding to whole ones hides no augmentation.
        fine = sample_params(1.0, seed, config=config, size=(10**6, 10**6))
        assert applied(fine).all()
        assert (fine.shift_B.abs() <= 150_000).all() and (fine.gain_B.abs() <= 5).all()
        for start, end, shape, width in (
            (fine.time_start_BS, fine.time_end_BS, (B, 3), 300_000),
            (fine.freq_start_BS, fine.freq_end_BS, (B, 2), 200_000),
        ):
            assert start.shape == shape and (end - start <= width).all() and (end <= 10**6).all()
        params = sample_params(1.0, seed, config=config)
        assert (augment(mel, params, FILL) != mel).flatten(1).any(dim=1).all()


@pytest.mark.parametrize("p", [0.05, 0.3, 0.8])
def test_augmentations_are_applied_independently_with_probability(p: float) -> None:
    count = 20_000
    flags = applied(sample_params(p, count=count, size=(10**6, 10**6)))
    assert flags.mean(axis=1) == pytest.approx(np.full(4, p), abs=4 * np.sqrt(p / count))
    for i in range(4):
        for j in range(i):
            assert (flags[i] & flags[j]).mean() == pytest.approx(p**2, abs=4 * p / np.sqrt(count))


def test_parameters_follow_seed_and_never_mix() -> None:
    first, repeated, other = sample_params(0.5, 3), sample_params(0.5, 3), sample_params(0.5, 4)
    assert all(torch.equal(values, getattr(repeated, name)) for name, values in vars(first).items())
    assert not torch.equal(first.shift_B, other.shift_B)
    assert (first.lam_B == 1).all()


def test_real_and_fake_are_augmented_equally() -> None:
    """The difference of two clips is shifted and masked like the clips; the gain cancels."""
    real, fake, params = random_mels(0), random_mels(1), sample_params(0.7)
    mask = masked(real, params)
    assert mask.any() and not mask.all()
    difference = augment(real, params, FILL) - augment(fake, params, FILL)
    expected = torch.stack([(real[i] - fake[i]).roll(int(params.shift_B[i]), dims=1) for i in range(B)])
    torch.testing.assert_close(difference, expected.masked_fill(mask, 0.0), rtol=1e-4, atol=1e-4)


def test_masked_values_are_fill_without_gain() -> None:
    params = sample_params(1.0)
    mask = masked(random_mels(), params)
    assert torch.equal(augment(random_mels(), params, FILL)[mask], FILL[None, :, None].expand(B, M, T)[mask])


def test_gradients_follow_shift_and_vanish_at_masks() -> None:
    mel, params = random_mels().requires_grad_(), sample_params(0.7)
    assert len(set(params.shift_B.tolist())) > 5
    # A different weight for each output value detects any wrong permutation.
    weights = torch.arange(1.0, B * M * T + 1).reshape(B, M, T)
    (augment(mel, params, FILL) * weights).sum().backward()
    mask = masked(mel.detach(), params)
    expected = torch.stack([(weights[i] * ~mask[i]).roll(-int(params.shift_B[i]), dims=1) for i in range(B)])
    assert mel.grad is not None and torch.equal(mel.grad, expected)
    mel.grad = None
    augment(mel, params, FILL).sum().backward()
    assert set(mel.grad.unique().tolist()) == {0.0, 1.0}
    assert mel.grad.sum() == (~mask).sum()


def updated(p: float, ada_rt: float, clips: int, config: AdaConfig) -> float:
    values = (torch.tensor(value, dtype=torch.float64) for value in (p, ada_rt))
    return float(update_ada_probability(*values, clips, config))


@pytest.mark.parametrize(("ada_rt", "sign"), [(1.0, 1), (0.61, 1), (0.59, -1), (0.0, -1), (-1.0, -1)])
def test_probability_rises_above_target_and_falls_below(ada_rt: float, sign: int) -> None:
    change = updated(0.4, ada_rt, 400, AdaConfig(target=0.6)) - 0.4
    assert change == pytest.approx(sign * 400 / ADA_CLIPS)


def test_probability_is_clamped_to_its_range() -> None:
    ada, rng, p, history = AdaConfig(), np.random.default_rng(0), 0.2, []
    for _ in range(2000):
        # Constant for several updates, so that both ends are reached.
        ada_rt = rng.uniform(-1, 1)
        for _ in range(rng.integers(1, 20)):
            p = updated(p, ada_rt, int(rng.integers(1, 10_000)), ada)
            history.append(p)
    assert min(history) == 0.0 and max(history) == MAX_PROBABILITY == 0.8
    assert updated(0.0, 1.0, 10 * ADA_CLIPS, ada) == MAX_PROBABILITY
    assert updated(MAX_PROBABILITY, -1.0, 10 * ADA_CLIPS, ada) == 0.0


@pytest.mark.parametrize("ada_rt", [-1.0, 0.6, 1.0])
def test_fixed_probability_does_not_adapt(ada_rt: float) -> None:
    assert updated(0.3, ada_rt, ADA_CLIPS, AdaConfig(adapt=False)) == 0.3


@pytest.mark.parametrize("batch_clips", [64, 999, 4096])
def test_probability_crosses_its_range_within_ada_clips(batch_clips: int) -> None:
    ada = AdaConfig()
    for p, ada_rt, end in ((0.0, 1.0, MAX_PROBABILITY), (MAX_PROBABILITY, -1.0, 0.0)):
        clips = 0
        while p != end and clips <= ADA_CLIPS:
            p = updated(p, ada_rt, batch_clips, ada)
            clips += batch_clips
        assert p == end
        assert MAX_PROBABILITY * ADA_CLIPS <= clips <= MAX_PROBABILITY * ADA_CLIPS + 2 * batch_clips


@pytest.mark.parametrize("settings", [{"p": 0.9}, {"p": -0.1}, {"target": 1.0}, {"target": -1.0}])
def test_invalid_settings_raise(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"'{next(iter(settings))}'"):
        AdaConfig(**settings)
