"""Batch augmentation applies exactly the sampled parameters, also in slices; formulas of EMA and schedule."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from models.augmentation_params import BatchAugmentation, sample_batch_augmentation
from models.batch_augment import mask, mix, mix_powers, mix_targets, roll_and_gain, warp_and_gain
from models.ema import Ema
from models.schedule import cosine_factor
from models.settings import MixUpConfig, SpecAugmentConfig
from tests.helpers.augmentation import to_tensors

B, M, T = 16, 8, 20


def random_mels(seed: int = 0) -> torch.Tensor:
    return torch.randn(B, M, T, generator=torch.Generator().manual_seed(seed)) * 20 - 40


def sample_params(
    seed: int = 0,
    strength: float = 1.0,
    mixup: MixUpConfig = MixUpConfig(),
    spec: SpecAugmentConfig = SpecAugmentConfig(),
) -> BatchAugmentation:
    return sample_batch_augmentation(np.random.default_rng(seed), B, mixup, spec, strength)


def apply(
    mel: torch.Tensor,
    partner: torch.Tensor,
    params: BatchAugmentation,
    partner_params: BatchAugmentation,
    fill: torch.Tensor,
) -> torch.Tensor:
    own, other = to_tensors(params, M, T), to_tensors(partner_params, M, T)
    mixed = mix(
        warp_and_gain(mel, own, repeat=True),
        warp_and_gain(partner, other, repeat=True),
        own.lam_B,
    )
    return mask(mixed, own, fill)


@pytest.mark.parametrize("boundaries", [(0, 8, 16), (0, 5, 6, 16), tuple(range(17))])
def test_augmented_slices_equal_augmented_batch(boundaries: tuple[int, ...]):
    mel, fill, params = random_mels(), torch.arange(float(M)), sample_params()
    partner_params = BatchAugmentation(
        **{name: values[params.partner] for name, values in vars(params).items()}
    )
    whole = apply(mel, mel[params.partner], params, partner_params, fill)
    slices = [
        apply(
            mel[start:stop],
            mel[params.partner[start:stop]],
            params[start:stop],
            partner_params[start:stop],
            fill,
        )
        for start, stop in itertools.pairwise(boundaries)
    ]
    assert torch.equal(torch.cat(slices), whole)


def test_sampled_parameters_are_in_range_and_reproducible():
    spec = SpecAugmentConfig(
        time_masks=3,
        freq_masks=1,
        time_width=0.2,
        freq_width=0.3,
        roll=0.4,
        gain_db=5.0,
        time_stretch=0.2,
        freq_shift=0.1,
    )
    samples = [sample_params(seed, 0.5, spec=spec) for seed in range(50)]
    for params in samples:
        assert sorted(params.partner) == list(range(B))
        assert ((params.lam >= 0.5) & (params.lam <= 1)).all()
        assert params.time_start.shape == (B, 3) and params.freq_start.shape == (B, 1)
        for start, width, max_width in (
            (params.time_start, params.time_width, 0.1),
            (params.freq_start, params.freq_width, 0.15),
        ):
            assert ((start >= 0) & (width >= 0) & (width <= max_width) & (start + width <= 1)).all()
        assert (np.abs(params.roll) <= 0.2).all() and (np.abs(params.gain_db) <= 2.5).all()
        assert ((params.speed > 0.9 - 1e-9) & (params.speed < 1 / 0.9 + 1e-9)).all()
        assert (np.abs(params.freq_shift) <= 0.05).all()
    assert max(params.speed.max() for params in samples) > 1.1
    assert min(params.freq_shift.min() for params in samples) < -0.049
    assert max(params.roll.max() for params in samples) > 0.19
    assert min(params.roll.min() for params in samples) < -0.19
    repeated = sample_params(7, 0.5, spec=spec)
    assert all(np.array_equal(values, getattr(samples[7], name)) for name, values in vars(repeated).items())


@pytest.mark.parametrize(("rate", "count"), [(0.0, 0), (1.0, B)])
def test_mixup_rate_sets_number_of_mixed_samples(rate: float, count: int):
    assert (sample_params(mixup=MixUpConfig(rate=rate)).lam < 1).sum() == count


def test_zero_strength_disables_all_but_mixup():
    mel = random_mels()
    params = to_tensors(sample_params(strength=0.0), M, T)
    assert torch.equal(roll_and_gain(mel, params.shift_B, params.gain_B), mel)
    assert torch.equal(warp_and_gain(mel, params, repeat=False), mel)
    assert torch.equal(mask(mel, params, torch.zeros(M)), mel)
    assert (params.lam_B < 1).any()


def test_mix_interpolates_linearly():
    mel, partner = random_mels(0), random_mels(1)
    assert torch.equal(mix(mel, partner, torch.ones(B)), mel)
    torch.testing.assert_close(mix(mel, partner, torch.full((B,), 0.5)), (mel + partner) / 2)
    torch.testing.assert_close(
        mix(mel, partner, torch.full((B,), 0.75)), 0.75 * mel + 0.25 * partner, rtol=1e-5, atol=1e-4
    )


def test_powers_are_mixed_at_equal_level_by_squared_weights():
    mel, partner = random_mels(0), random_mels(1) - 30
    assert torch.equal(mix_powers(mel, partner, torch.ones(B)), mel)
    # Oracle: amplitudes of lam and 1 - lam at constant power, of sounds with the same mean level in dB.
    leveled = partner + (mel.mean(dim=(1, 2)) - partner.mean(dim=(1, 2)))[:, None, None]
    power = 0.75**2 * 10 ** (mel.double() / 10) + 0.25**2 * 10 ** (leveled.double() / 10)
    expected = 10 * torch.log10(power / (0.75**2 + 0.25**2))
    mixed = mix_powers(mel, partner, torch.full((B,), 0.75))
    torch.testing.assert_close(mixed.double(), expected, rtol=1e-4, atol=1e-3)
    # Two sounds that are the same but for their level are that sound.
    torch.testing.assert_close(mix_powers(mel, mel - 20, torch.full((B,), 0.6)), mel, rtol=1e-4, atol=1e-3)


def test_equalizer_interpolates_its_gains_over_the_bands():
    spec = SpecAugmentConfig(gain_db=0.0, roll=0.0, time_stretch=0.0, freq_shift=0.0, band_gain_db=8.0)
    params = sample_params(spec=spec)
    gains = params.band_gain_db
    assert gains.shape == (B, 5) and (np.abs(gains) <= 8).all() and np.abs(gains).max() > 7
    mel = random_mels()
    gain = warp_and_gain(mel, to_tensors(params, M, T), repeat=False) - mel
    expected = [np.interp(np.linspace(0, 4, M), range(5), row) for row in gains]
    np.testing.assert_allclose(gain, np.repeat(np.array(expected)[:, :, None], T, axis=2), atol=1e-4)
    assert not sample_params(strength=0.0, spec=spec).band_gain_db.any()


def test_mix_targets_uses_mixing_weights():
    target, partner = torch.eye(3)[[0, 1, 2]], torch.eye(3)[[0, 2, 1]]
    mixed = mix_targets(target, partner, torch.tensor([0.6, 1.0, 0.75]))
    torch.testing.assert_close(mixed, torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.25, 0.75]]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_roll_shifts_whole_frames_and_gain_adds(dtype: torch.dtype):
    mel = random_mels().to(dtype)
    shifts = torch.arange(B) - 7
    shifted = roll_and_gain(mel, shifts, torch.zeros(B))
    assert shifted.dtype == torch.float32
    for i, shift in enumerate(shifts.tolist()):
        assert torch.equal(shifted[i], mel[i].float().roll(shift, dims=1))
    assert torch.equal(
        roll_and_gain(mel, torch.zeros_like(shifts), torch.full((B,), -2.0)), mel.float() - 2.0
    )


def warp_params(shift: int = 0, speed: float = 1.0, bands: float = 0.0, gain: float = 0.0):
    """Return the same parameters for all clips; `shift` in frames, `bands` in mel bands."""
    spec = SpecAugmentConfig(time_masks=0, freq_masks=0)
    values = vars(sample_params(spec=spec)) | {
        "roll": np.full(B, shift / T),
        "speed": np.full(B, speed),
        "freq_shift": np.full(B, bands / M),
        "gain_db": np.full(B, gain),
    }
    return to_tensors(BatchAugmentation(**values), M, T)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("shift", [0, 1, -7])
def test_warp_without_stretch_is_roll(dtype: torch.dtype, shift: int):
    mel = random_mels().to(dtype)
    params = warp_params(shift, gain=2.0)
    assert torch.equal(
        warp_and_gain(mel, params, repeat=False), roll_and_gain(mel, params.shift_B, params.gain_B)
    )


def test_warp_changes_speed_and_shifts_bands():
    mel = random_mels()
    faster = warp_and_gain(mel, warp_params(speed=2.0), repeat=False)
    assert torch.equal(faster, torch.cat([mel[:, :, ::2]] * 2, dim=2))
    slower = warp_and_gain(mel, warp_params(speed=0.5), repeat=False)
    assert torch.equal(slower[:, :, ::2], mel[:, :, : T // 2])
    torch.testing.assert_close(slower[:, :, 1], (mel[:, :, 0] + mel[:, :, 1]) / 2)
    up = warp_and_gain(mel, warp_params(bands=2.0), repeat=False)
    assert torch.equal(up[:, 2:], mel[:, :-2]) and torch.equal(up[:, 0], mel[:, 0])
    down = warp_and_gain(mel, warp_params(bands=-0.5), repeat=False)
    torch.testing.assert_close(down[:, :-1], (mel[:, :-1] + mel[:, 1:]) / 2)
    assert torch.equal(down[:, -1], mel[:, -1])


@pytest.mark.parametrize("speed", [0.87, 1.0, 1.15])
def test_warp_repeats_sound_instead_of_padding(speed: float):
    """A clip of five frames repeats after five frames, faster or slower; its padding never."""
    mel = random_mels()
    mel[:, :, 5:] = mel.amin(dim=(1, 2), keepdim=True) - 10
    warped = warp_and_gain(mel, warp_params(shift=3, speed=speed), repeat=True)
    assert (warped > mel[:, :, -1:]).all()
    if speed == 1.0:
        assert torch.equal(warped, mel[:, :, (torch.arange(T) - 3) % 5])


def test_sampled_shift_is_rounded_to_frames():
    params = BatchAugmentation(
        **{**vars(sample_params()), "roll": np.linspace(-0.5, 0.5, B), "gain_db": np.full(B, 1.5)}
    )
    tensors = to_tensors(params, M, T)
    assert tensors.shift_B.tolist() == [round(value * T) for value in np.linspace(-0.5, 0.5, B)]
    assert tensors.gain_B.tolist() == [1.5] * B


def test_masks_fill_with_band_means():
    params = replace(
        sample_params()[:2],
        time_start=np.array([[0.25, 0.9], [0.0, 0.0]]),
        time_width=np.array([[0.1, 0.1], [1.0, 0.0]]),
        freq_start=np.array([[0.5], [0.0]]),
        freq_width=np.array([[0.25], [0.0]]),
    )
    mel, fill = random_mels()[:2], torch.arange(float(M)) - 100
    expected = mel.clone()
    expected[0, :, [5, 6, 18, 19]] = fill[:, None]
    expected[0, 4:6, :] = fill[4:6, None]
    expected[1] = fill[:, None]
    assert torch.equal(mask(mel, to_tensors(params, M, T), fill), expected)


def test_zero_masks_change_nothing():
    spec = SpecAugmentConfig(time_masks=0, freq_masks=0)
    mel = random_mels()
    assert torch.equal(mask(mel, to_tensors(sample_params(spec=spec), M, T), torch.zeros(M)), mel)


def small_net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    net(torch.randn(8, 3))  # updates the statistics of the norm
    return net


def set_weights(model: nn.Module, seed: int) -> None:
    model.load_state_dict(small_net(seed).state_dict())


@pytest.mark.parametrize("on_gpu", [False, True])
def test_ema_without_decay_copies_model(on_gpu: bool):
    """On GPUs the weight is a tensor."""
    model = small_net(0)
    ema = Ema(model, 0.0)
    set_weights(model, 1)
    model(torch.randn(8, 3))
    weight = ema.weight_at(0)
    ema.update(torch.tensor(weight) if on_gpu else weight)
    assert all(
        torch.equal(average, value)
        for average, value in zip(ema.model.state_dict().values(), model.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("on_gpu", [False, True])
def test_ema_follows_formula(on_gpu: bool):
    model, decay = small_net(0), 0.3
    ema = Ema(model, decay)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for step in range(6):
        set_weights(model, step + 1)
        ema.update(torch.tensor(ema.weight_at(step)) if on_gpu else ema.weight_at(step))
        weight = min(decay, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            expected[name] = (
                weight * expected[name] + (1 - weight) * value if value.is_floating_point() else value
            )
            torch.testing.assert_close(ema.model.state_dict()[name], expected[name])
    assert ema.model.state_dict()["1.num_batches_tracked"].item() == 1


def test_ema_copy_is_independent_and_not_trained():
    model = small_net(0)
    ema = Ema(model, 0.9)
    set_weights(model, 1)
    before = copy.deepcopy(model.state_dict())
    ema.update(ema.weight_at(0))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not ema.model.training and not any(p.requires_grad for p in ema.model.parameters())
    assert all(p.requires_grad for p in model.parameters())


def test_schedule_warms_up_then_decays():
    factors = [cosine_factor(step, 100, 10) for step in range(101)]
    assert factors[:10] == [pytest.approx((step + 1) / 10) for step in range(10)]
    assert factors[10] == pytest.approx(1.0)
    assert factors[55] == pytest.approx(0.505)
    assert factors[100] == pytest.approx(0.01)
    assert all(earlier > later for earlier, later in itertools.pairwise(factors[10:]))
    assert cosine_factor(500, 100, 10) == pytest.approx(0.01)
    assert cosine_factor(0, 100, 0) == pytest.approx(1.0)
    assert cosine_factor(5, 5, 5) == pytest.approx(1.0)  # warmup only
    assert cosine_factor(100, 100, 10, final=0.2) == pytest.approx(0.2)
