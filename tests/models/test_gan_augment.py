"""What the discriminator sees is changed as often as was said, and the generator learns through it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.batch_augment import BatchAugmentation
from models.config import ConfigError
from models.gan_augment import (
    ADA_CLIPS,
    MAX_PROBABILITY,
    AdaConfig,
    GanAugmentConfig,
    augment,
    sample_augmentation,
    update_ada_probability,
)

B, M, T = 24, 10, 40
CHANGES = ("roll", "gain_db", "time_width", "freq_width")
FILL = torch.arange(float(M)) - 100
# All of them large enough to be seen in a small spectrogram.
STRONG = GanAugmentConfig(time_width=0.5, freq_width=0.5, roll=0.5, time_masks=2)


def some_mels(seed: int = 0) -> torch.Tensor:
    return torch.randn(B, M, T, generator=torch.Generator().manual_seed(seed)) * 20 - 40


def draw(
    chance: float, seed: int = 0, count: int = B, config: GanAugmentConfig = STRONG
) -> BatchAugmentation:
    return sample_augmentation(np.random.default_rng(seed), count, config, chance)


def happened(plan: BatchAugmentation) -> np.ndarray:
    """Which change happened to which clip `[shape=(4, B)]`."""
    return np.stack([np.reshape(getattr(plan, name), (len(plan.roll), -1)).any(axis=1) for name in CHANGES])


def test_no_chance_changes_nothing() -> None:
    mel, plan = some_mels(), draw(0.0)
    assert not happened(plan).any()
    assert torch.equal(augment(mel, plan, FILL), mel)


def test_a_chance_of_one_changes_every_clip_within_the_sizes() -> None:
    config = GanAugmentConfig(
        time_masks=3, time_width=0.3, freq_masks=2, freq_width=0.2, roll=0.15, gain_db=5.0
    )
    mel = some_mels()
    for seed in range(30):
        plan = draw(1.0, seed, config=config)
        assert happened(plan).all()
        assert (np.abs(plan.roll) <= 0.15).all() and (np.abs(plan.gain_db) <= 5).all()
        assert plan.time_width.shape == (B, 3) and (plan.time_width <= 0.3).all()
        assert plan.freq_width.shape == (B, 2) and (plan.freq_width <= 0.2).all()
        assert (augment(mel, plan, FILL) != mel).flatten(1).any(dim=1).all()


@pytest.mark.parametrize("chance", [0.05, 0.3, 0.8])
def test_each_change_happens_to_its_share_of_the_clips_whatever_else_does(chance: float) -> None:
    count = 20_000
    which = happened(draw(chance, count=count))
    assert which.mean(axis=1) == pytest.approx(np.full(4, chance), abs=4 * np.sqrt(chance / count))
    for i in range(4):
        for j in range(i):
            assert (which[i] & which[j]).mean() == pytest.approx(chance**2, abs=4 * chance / np.sqrt(count))


def test_changes_repeat_with_the_seed_and_clips_are_never_mixed() -> None:
    one, again, other = draw(0.5, 3), draw(0.5, 3), draw(0.5, 4)
    assert all(np.array_equal(values, getattr(again, name)) for name, values in vars(one).items())
    assert not np.array_equal(one.roll, other.roll)
    assert (one.share == 1).all()


def test_real_and_drawn_clips_are_changed_alike() -> None:
    """What is between two clips is turned and blanked with them, and the level goes."""
    real, drawn, plan = some_mels(0), some_mels(1), draw(0.7)
    blank = augment(real, plan, torch.full((M,), torch.nan)).isnan()
    assert blank.any() and not blank.all()
    between = augment(real, plan, FILL) - augment(drawn, plan, FILL)
    want = torch.stack([(real[i] - drawn[i]).roll(round(plan.roll[i] * T), dims=1) for i in range(B)])
    torch.testing.assert_close(between, want.masked_fill(blank, 0.0), rtol=1e-4, atol=1e-4)


def test_blanks_hold_the_fill_and_no_gain() -> None:
    plan = draw(1.0)
    blank = augment(some_mels(), plan, torch.full((M,), torch.nan)).isnan()
    assert torch.equal(augment(some_mels(), plan, FILL)[blank], FILL[None, :, None].expand(B, M, T)[blank])


def test_gradients_go_back_to_where_the_values_came_from_and_none_to_what_is_blanked() -> None:
    mel, plan = some_mels().requires_grad_(), draw(0.7)
    assert len(set(np.round(plan.roll * T))) > 5
    # Each place of the result has a number of its own, so that any other permutation would show.
    number = torch.arange(1.0, B * M * T + 1).reshape(B, M, T)
    changed = augment(mel, plan, FILL)
    (changed * number).sum().backward()
    blank = augment(mel.detach(), plan, torch.full((M,), torch.nan)).isnan()
    want = torch.stack([(number[i] * ~blank[i]).roll(-round(plan.roll[i] * T), dims=1) for i in range(B)])
    assert mel.grad is not None and torch.equal(mel.grad, want)
    mel.grad = None
    augment(mel, plan, FILL).sum().backward()
    assert set(mel.grad.unique().tolist()) == {0.0, 1.0}
    assert mel.grad.sum() == (~blank).sum()


def test_the_chance_rises_when_the_discriminator_is_sure_and_falls_when_it_is_not() -> None:
    ada = AdaConfig(target=0.6)
    for ada_rt, sign in ((1.0, 1), (0.61, 1), (0.59, -1), (0.0, -1), (-1.0, -1)):
        assert update_ada_probability(0.4, ada_rt, 400, ada) - 0.4 == pytest.approx(sign * 400 / ADA_CLIPS)


def test_the_chance_stays_between_none_and_the_most() -> None:
    ada, rng, chance, seen = AdaConfig(), np.random.default_rng(0), 0.2, []
    for _ in range(2000):
        # Moods that last: so it comes to both ends.
        mood = rng.uniform(-1, 1)
        for _ in range(rng.integers(1, 20)):
            chance = update_ada_probability(chance, mood, int(rng.integers(1, 10_000)), ada)
            seen.append(chance)
    assert min(seen) == 0.0 and max(seen) == MAX_PROBABILITY == 0.8
    assert update_ada_probability(0.0, 1.0, 10 * ADA_CLIPS, ada) == MAX_PROBABILITY
    assert update_ada_probability(MAX_PROBABILITY, -1.0, 10 * ADA_CLIPS, ada) == 0.0


@pytest.mark.parametrize("ada_rt", [-1.0, 0.6, 1.0])
def test_a_chance_that_does_not_adapt_stays(ada_rt: float) -> None:
    assert update_ada_probability(0.3, ada_rt, ADA_CLIPS, AdaConfig(adapt=False)) == 0.3


@pytest.mark.parametrize("each", [64, 999, 4096])
def test_the_chance_goes_from_none_to_the_most_and_back_as_fast_as_is_said(each: int) -> None:
    ada = AdaConfig()
    for start, ada_rt, end in ((0.0, 1.0, MAX_PROBABILITY), (MAX_PROBABILITY, -1.0, 0.0)):
        chance, clips = start, 0
        while chance != end and clips <= ADA_CLIPS:
            chance, clips = update_ada_probability(chance, ada_rt, each, ada), clips + each
        assert (
            chance == end and MAX_PROBABILITY * ADA_CLIPS <= clips <= MAX_PROBABILITY * ADA_CLIPS + 2 * each
        )


@pytest.mark.parametrize("settings", [{"p": 0.9}, {"p": -0.1}, {"target": 1.0}, {"target": -1.0}])
def test_refused_settings(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"'{next(iter(settings))}'"):
        AdaConfig(**settings)
