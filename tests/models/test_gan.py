"""Generator and discriminator: shapes, class conditioning, independence of the batch, normalization."""

from __future__ import annotations

import pytest
import torch

from models.gan import Discriminator, GanConfig, Generator, Latents, grid_sizes, sample_latents

TINY = GanConfig(latent_dim=4, style_dim=8, channels=(8, 16), patch=4)
SHAPES = [(16, 32), (17, 33), (128, 216), (5, 7), (1, 1), (40, 3)]


def make_networks(
    shape: tuple[int, int], config: GanConfig = TINY, classes: int = 3
) -> tuple[Generator, Discriminator]:
    torch.manual_seed(0)
    networks = Generator(config, shape, classes), Discriminator(config, shape, classes)
    for model in networks:
        model.set_statistics(torch.full((shape[0],), -40.0), torch.full((shape[0],), 15.0))
        # As after some training: convolutions that start at zero would hide their inputs.
        for parameter in model.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    return networks


def make_latents(shape: tuple[int, int], count: int, config: GanConfig = TINY, seed: int = 0) -> Latents:
    return sample_latents(config, shape, count, torch.Generator().manual_seed(seed))


def without_noise(latents: Latents) -> Latents:
    return Latents(latents.z_BZ, torch.zeros_like(latents.noise_BMT))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("patch", [1, 2, 4])
def test_output_shapes_for_any_spectrogram_size(shape: tuple[int, int], patch: int) -> None:
    config = TINY.model_copy(update={"patch": patch})
    generator, discriminator = make_networks(shape, config)
    label = torch.tensor([0, 1, 2, 0, 1])
    fake = generator(make_latents(shape, 5, config), label)
    assert fake.shape == (5, *shape) and fake.dtype == torch.float32
    score, logits = discriminator(fake, label)
    assert score.shape == (5,) and logits.shape == (5, 3)
    assert score.isfinite().all() and logits.isfinite().all()


@pytest.mark.parametrize("channels", [(8, 8), (8, 16, 16), (4, 8, 8, 16, 16)], ids=len)
@pytest.mark.parametrize("blocks", [1, 2])
def test_number_of_levels_follows_channels(channels: tuple[int, ...], blocks: int) -> None:
    config = GanConfig(latent_dim=4, style_dim=8, channels=channels, blocks=blocks, patch=2)
    generator, discriminator = make_networks((20, 30), config)
    assert (
        len(generator.levels)
        == len(discriminator.levels)
        == len(grid_sizes((20, 30), config))
        == len(channels)
    )
    assert generator(make_latents((20, 30), 2, config), torch.tensor([0, 1])).shape == (2, 20, 30)


def test_grid_sizes_halve_and_round_up() -> None:
    config = GanConfig(channels=(8, 8, 8), patch=4)
    assert grid_sizes((128, 216), config) == [(32, 54), (16, 27), (8, 14)]
    assert grid_sizes((1, 5), config) == [(1, 2), (1, 1), (1, 1)]


def test_class_changes_output_and_score_but_not_logits() -> None:
    generator, discriminator = make_networks((16, 32))
    latents = make_latents((16, 32), 1)
    fakes = [generator(latents, torch.tensor([label])) for label in range(3)]
    assert (fakes[0] - fakes[1]).abs().mean() > 0.1 and (fakes[1] - fakes[2]).abs().mean() > 0.1
    scores = [discriminator(fakes[0], torch.tensor([label]))[0].item() for label in range(3)]
    assert len(set(scores)) == 3
    logits = [discriminator(fakes[0], torch.tensor([label]))[1] for label in range(3)]
    assert torch.equal(logits[0], logits[1])


def test_latent_changes_clip_and_noise_only_texture() -> None:
    generator, _ = make_networks((16, 32))
    first_latents, second_latents = make_latents((16, 32), 1, seed=0), make_latents((16, 32), 1, seed=1)
    label = torch.tensor([0])
    first = generator(first_latents, label)
    other_noise = generator(Latents(first_latents.z_BZ, second_latents.noise_BMT), label)
    assert (first - generator(second_latents, label)).abs().mean() > 0.5
    assert 0 < (first - other_noise).abs().mean() < 20
    # The texture has zero mean: averaged over many noises, the output is the one without noise.
    noise_BMT = make_latents((16, 32), 400, seed=2).noise_BMT
    mean = generator(Latents(first_latents.z_BZ.expand(400, -1), noise_BMT), label.expand(400)).mean(dim=0)
    smooth = generator(without_noise(first_latents), label)[0]
    assert (mean - smooth).abs().mean() < 0.1 * (first - smooth).abs().mean()


def test_clip_is_independent_of_its_batch() -> None:
    generator, discriminator = make_networks((16, 32))
    latents, label = make_latents((16, 32), 6), torch.tensor([0, 1, 2, 0, 1, 2])
    batch = generator(latents, label)
    scores, _ = discriminator(batch, label)
    for i in range(6):
        single = generator(latents[i : i + 1], label[i : i + 1])
        torch.testing.assert_close(single[0], batch[i], rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(
            discriminator(single, label[i : i + 1])[0][0], scores[i], rtol=1e-3, atol=1e-4
        )


def test_latents_follow_seed_and_can_be_sliced() -> None:
    first, repeated, other = (make_latents((16, 32), 4, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.z_BZ, repeated.z_BZ) and torch.equal(first.noise_BMT, repeated.noise_BMT)
    assert not torch.equal(first.z_BZ, other.z_BZ)
    middle = first[1:3]
    assert len(middle) == 2
    assert torch.equal(middle.z_BZ, first.z_BZ[1:3]) and torch.equal(middle.noise_BMT, first.noise_BMT[1:3])


def test_networks_are_invariant_to_data_mean_and_std() -> None:
    generator, discriminator = make_networks((16, 32))
    latents, label = without_noise(make_latents((16, 32), 2)), torch.tensor([0, 1])
    first = generator(latents, label)
    score = discriminator(first, label)[0]
    for model in (generator, discriminator):
        model.set_statistics(torch.full((16,), 7.0), torch.full((16,), 30.0))
    second = generator(latents, label)
    torch.testing.assert_close((second - 7) / 30, (first + 40) / 15, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(discriminator(second, label)[0], score, rtol=1e-3, atol=1e-4)
