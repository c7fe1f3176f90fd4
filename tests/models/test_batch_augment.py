"""What is drawn for a batch is applied exactly, whoever applies which part; and the averages and rates beside it."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from models.batch_augment import (
    BatchAugmentation,
    MixUpConfig,
    SpecAugmentConfig,
    mask,
    mix,
    mix_targets,
    roll_and_gain,
    sample_batch_augmentation,
)
from models.ema import Ema
from models.schedule import cosine_factor

B, M, T = 16, 8, 20
EMPTY = np.zeros((B, 0))


def some_mels(seed: int = 0) -> torch.Tensor:
    return torch.randn(B, M, T, generator=torch.Generator().manual_seed(seed)) * 20 - 40


def draw(
    seed: int = 0,
    strength: float = 1.0,
    mixup: MixUpConfig = MixUpConfig(),
    spec: SpecAugmentConfig = SpecAugmentConfig(),
) -> BatchAugmentation:
    return sample_batch_augmentation(np.random.default_rng(seed), B, mixup, spec, strength)


def apply(
    mel: torch.Tensor,
    partner: torch.Tensor,
    plan: BatchAugmentation,
    partner_plan: BatchAugmentation,
    fill: torch.Tensor,
) -> torch.Tensor:
    mixed = mix(
        roll_and_gain(mel, plan.roll, plan.gain_db),
        roll_and_gain(partner, partner_plan.roll, partner_plan.gain_db),
        plan.share,
    )
    return mask(mixed, plan, fill)


@pytest.mark.parametrize("cuts", [(0, 8, 16), (0, 5, 6, 16), tuple(range(17))])
def test_parts_of_a_batch_equal_the_whole(cuts: tuple[int, ...]):
    mel, fill, plan = some_mels(), torch.arange(float(M)), draw()
    partner_plan = BatchAugmentation(**{name: values[plan.partner] for name, values in vars(plan).items()})
    whole = apply(mel, mel[plan.partner], plan, partner_plan, fill)
    parts = [
        apply(mel[a:b], mel[plan.partner[a:b]], plan[a:b], partner_plan[a:b], fill)
        for a, b in itertools.pairwise(cuts)
    ]
    assert torch.equal(torch.cat(parts), whole)


def test_draws_are_within_their_bounds_and_repeat():
    spec = SpecAugmentConfig(
        time_masks=3, freq_masks=1, time_width=0.2, freq_width=0.3, roll=0.4, gain_db=5.0
    )
    plans = [draw(seed, 0.5, spec=spec) for seed in range(50)]
    for plan in plans:
        assert sorted(plan.partner) == list(range(B))
        assert ((plan.share >= 0.5) & (plan.share <= 1)).all()
        assert plan.time_start.shape == (B, 3) and plan.freq_start.shape == (B, 1)
        for start, width, most in (
            (plan.time_start, plan.time_width, 0.1),
            (plan.freq_start, plan.freq_width, 0.15),
        ):
            assert ((start >= 0) & (width >= 0) & (width <= most) & (start + width <= 1)).all()
        assert (np.abs(plan.roll) <= 0.2).all() and (np.abs(plan.gain_db) <= 2.5).all()
    assert max(plan.roll.max() for plan in plans) > 0.19 and min(plan.roll.min() for plan in plans) < -0.19
    again = draw(7, 0.5, spec=spec)
    assert all(np.array_equal(values, getattr(plans[7], name)) for name, values in vars(again).items())


@pytest.mark.parametrize(("rate", "mixed"), [(0.0, 0), (1.0, B)])
def test_rate_of_mixing(rate: float, mixed: int):
    assert (draw(mixup=MixUpConfig(rate=rate)).share < 1).sum() == mixed


def test_no_strength_leaves_all_but_mixup():
    plan = draw(strength=0.0)
    mel = some_mels()
    assert torch.equal(roll_and_gain(mel, plan.roll, plan.gain_db), mel)
    assert torch.equal(mask(mel, plan, torch.zeros(M)), mel)
    assert (plan.share < 1).any()


def test_a_share_of_one_is_identity_and_halves_are_the_mean():
    mel, partner = some_mels(0), some_mels(1)
    assert torch.equal(mix(mel, partner, np.ones(B)), mel)
    torch.testing.assert_close(mix(mel, partner, np.full(B, 0.5)), (mel + partner) / 2)
    torch.testing.assert_close(
        mix(mel, partner, np.full(B, 0.75)), 0.75 * mel + 0.25 * partner, rtol=1e-5, atol=1e-4
    )


def test_labels_are_mixed_in_the_same_shares():
    target, partner = torch.eye(3)[[0, 1, 2]], torch.eye(3)[[0, 2, 1]]
    mixed = mix_targets(target, partner, np.array([0.6, 1.0, 0.75]))
    torch.testing.assert_close(mixed, torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.25, 0.75]]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_roll_turns_by_whole_frames_and_gain_is_added(dtype: torch.dtype):
    mel = some_mels().to(dtype)
    turns = np.arange(B) - 7
    got = roll_and_gain(mel, turns / T, np.zeros(B))
    assert got.dtype == torch.float32
    for i, turn in enumerate(turns.tolist()):
        assert torch.equal(got[i], mel[i].float().roll(turn, dims=1))
    assert torch.equal(roll_and_gain(mel, np.full(B, 0.4 / T), np.full(B, -2.0)), mel.float() - 2.0)


def test_masks_fill_with_the_mean_of_each_band():
    plan = BatchAugmentation(
        partner=np.arange(2),
        share=np.ones(2),
        time_start=np.array([[0.25, 0.9], [0.0, 0.0]]),
        time_width=np.array([[0.1, 0.1], [1.0, 0.0]]),
        freq_start=np.array([[0.5], [0.0]]),
        freq_width=np.array([[0.25], [0.0]]),
        roll=np.zeros(2),
        gain_db=np.zeros(2),
    )
    mel, fill = some_mels()[:2], torch.arange(float(M)) - 100
    want = mel.clone()
    want[0, :, [5, 6, 18, 19]] = fill[:, None]
    want[0, 4:6, :] = fill[4:6, None]
    want[1] = fill[:, None]
    assert torch.equal(mask(mel, plan, fill), want)


def test_no_masks_at_all():
    spec = SpecAugmentConfig(time_masks=0, freq_masks=0)
    mel = some_mels()
    assert torch.equal(mask(mel, draw(spec=spec), torch.zeros(M)), mel)


def small_net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    net(torch.randn(8, 3))  # fills the statistics of the norm
    return net


def test_an_average_without_decay_follows_at_once():
    ema, model = Ema(small_net(0), 0.0), small_net(1)
    model(torch.randn(8, 3))
    ema.update(model)
    assert all(
        torch.equal(ours, theirs)
        for ours, theirs in zip(ema.model.state_dict().values(), model.state_dict().values(), strict=True)
    )


def test_an_average_keeps_its_formula():
    start, decay = small_net(0), 0.3
    ema = Ema(start, decay)
    want = {name: value.clone() for name, value in start.state_dict().items()}
    for step in range(6):
        model = small_net(step + 1)
        ema.update(model)
        keep = min(decay, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            want[name] = keep * want[name] + (1 - keep) * value if value.is_floating_point() else value
            torch.testing.assert_close(ema.model.state_dict()[name], want[name])
    assert ema.step == 6
    assert ema.model.state_dict()["1.num_batches_tracked"].item() == 1


def test_an_average_is_a_copy_that_does_not_learn():
    model = small_net(0)
    before = copy.deepcopy(model.state_dict())
    ema = Ema(model, 0.9)
    ema.update(small_net(1))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not ema.model.training and not any(p.requires_grad for p in ema.model.parameters())
    assert all(p.requires_grad for p in model.parameters())


def test_schedule_rises_then_falls_to_its_end():
    factors = [cosine_factor(step, 100, 10) for step in range(101)]
    assert factors[:10] == [pytest.approx((step + 1) / 10) for step in range(10)]
    assert (
        factors[10] == pytest.approx(1.0)
        and factors[55] == pytest.approx(0.505)
        and factors[100] == pytest.approx(0.01)
    )
    assert all(a > b for a, b in itertools.pairwise(factors[10:]))
    assert cosine_factor(500, 100, 10) == pytest.approx(0.01)
    assert cosine_factor(0, 100, 0) == pytest.approx(1.0)
    assert cosine_factor(5, 5, 5) == pytest.approx(1.0)  # nothing but warm-up
    assert cosine_factor(100, 100, 10, final=0.2) == pytest.approx(0.2)
