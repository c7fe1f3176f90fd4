"""Truths of the GAN's two networks."""

from __future__ import annotations

import pytest
import torch

from models.gan import Discriminator, GanConfig, Generator, grid_sizes, sample_latents

TINY = GanConfig(latent_dim=4, style_dim=8, channels=(8, 16), patch=4)
SHAPES = [(16, 32), (17, 33), (128, 216), (5, 7), (1, 1), (40, 3)]


def networks(
    shape: tuple[int, int], config: GanConfig = TINY, classes: int = 3
) -> tuple[Generator, Discriminator]:
    torch.manual_seed(0)
    pair = Generator(config, shape, classes), Discriminator(config, shape, classes)
    for model in pair:
        model.set_statistics(torch.full((shape[0],), -40.0), torch.full((shape[0],), 15.0))
        # As after some training: blocks that start at zero would hide what passes through them.
        for parameter in model.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    return pair


def latents(shape: tuple[int, int], count: int, config: GanConfig = TINY, seed: int = 0):  # type: ignore[no-untyped-def]
    return sample_latents(config, shape, count, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("patch", [1, 2, 4])
def test_any_shape_of_spectrogram_is_drawn_and_judged(shape: tuple[int, int], patch: int) -> None:
    config = TINY.model_copy(update={"patch": patch})
    generator, discriminator = networks(shape, config)
    label = torch.tensor([0, 1, 2, 0, 1])
    drawn = generator(latents(shape, 5, config), label)
    assert drawn.shape == (5, *shape) and drawn.dtype == torch.float32
    score, logits = discriminator(drawn, label)
    assert score.shape == (5,) and logits.shape == (5, 3)
    assert score.isfinite().all() and logits.isfinite().all()


@pytest.mark.parametrize("channels", [(8, 8), (8, 16, 16), (4, 8, 8, 16, 16)], ids=len)
@pytest.mark.parametrize("blocks", [1, 2])
def test_sizes_follow_the_configuration(channels: tuple[int, ...], blocks: int) -> None:
    config = GanConfig(latent_dim=4, style_dim=8, channels=channels, blocks=blocks, patch=2)
    generator, discriminator = networks((20, 30), config)
    assert (
        len(generator.levels)
        == len(discriminator.levels)
        == len(grid_sizes((20, 30), config))
        == len(channels)
    )
    assert generator(latents((20, 30), 2, config), torch.tensor([0, 1])).shape == (2, 20, 30)


def test_grids_halve_and_round_up() -> None:
    config = GanConfig(channels=(8, 8, 8), patch=4)
    assert grid_sizes((128, 216), config) == [(32, 54), (16, 27), (8, 14)]
    assert grid_sizes((1, 5), config) == [(1, 2), (1, 1), (1, 1)]


def test_the_class_changes_what_is_drawn_and_what_is_thought_of_it() -> None:
    generator, discriminator = networks((16, 32))
    same = latents((16, 32), 1)
    drawn = [generator(same, torch.tensor([label])) for label in range(3)]
    assert (drawn[0] - drawn[1]).abs().mean() > 0.1 and (drawn[1] - drawn[2]).abs().mean() > 0.1
    scores = [discriminator(drawn[0], torch.tensor([label]))[0].item() for label in range(3)]
    assert len(set(scores)) == 3
    logits = [discriminator(drawn[0], torch.tensor([label]))[1] for label in range(3)]
    assert torch.equal(logits[0], logits[1])


def test_the_latent_changes_the_clip_and_the_grain_its_texture_only() -> None:
    generator, _ = networks((16, 32))
    a, b = latents((16, 32), 1, seed=0), latents((16, 32), 1, seed=1)
    label = torch.tensor([0])
    first, other_texture = generator(a, label), generator(type(a)(a.z_BZ, b.grain_BMT), label)
    assert (first - generator(b, label)).abs().mean() > 0.5
    assert 0 < (first - other_texture).abs().mean() < 20
    # What the grain does is noise about the same picture: over many grains it averages out.
    many = latents((16, 32), 400, seed=2)
    repeated = type(a)(a.z_BZ.expand(400, -1), many.grain_BMT)
    mean = generator(repeated, label.expand(400)).mean(dim=0)
    still = generator(type(a)(a.z_BZ, torch.zeros_like(a.grain_BMT)), label)[0]
    assert (mean - still).abs().mean() < 0.1 * (first - still).abs().mean()


def test_a_clip_does_not_depend_on_its_neighbours() -> None:
    generator, discriminator = networks((16, 32))
    draws, label = latents((16, 32), 6), torch.tensor([0, 1, 2, 0, 1, 2])
    together = generator(draws, label)
    scores, _ = discriminator(together, label)
    for i in range(6):
        alone = generator(draws[i : i + 1], label[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(
            discriminator(alone, label[i : i + 1])[0][0], scores[i], rtol=1e-3, atol=1e-4
        )


def test_latents_follow_the_generator_and_parts_of_them_stay_what_they_are() -> None:
    one, again, other = (latents((16, 32), 4, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.z_BZ, again.z_BZ) and torch.equal(one.grain_BMT, again.grain_BMT)
    assert not torch.equal(one.z_BZ, other.z_BZ)
    part = one[1:3]
    assert (
        len(part) == 2
        and torch.equal(part.z_BZ, one.z_BZ[1:3])
        and torch.equal(part.grain_BMT, one.grain_BMT[1:3])
    )


def test_both_networks_see_the_set_as_standard_values() -> None:
    """Shifting and stretching a set in dB, with its statistics, changes nothing inside."""
    generator, discriminator = networks((16, 32))
    draws, label = latents((16, 32), 2), torch.tensor([0, 1])
    still = type(draws)(draws.z_BZ, torch.zeros_like(draws.grain_BMT))
    first = generator(still, label)
    score = discriminator(first, label)[0]
    for model in (generator, discriminator):
        model.set_statistics(torch.full((16,), 7.0), torch.full((16,), 30.0))
    second = generator(still, label)
    torch.testing.assert_close((second - 7) / 30, (first + 40) / 15, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(discriminator(second, label)[0], score, rtol=1e-3, atol=1e-4)
