"""Networks of a GAN with their first weights, and their optimizers."""

from __future__ import annotations

import torch
from torch import Tensor

from models.gan import Discriminator, Generator
from pipeline.data.dataset import ShardDataset
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.initial_networks import InitialNetworks, load_initial_networks
from pipeline.training.optim import initial_learning_rate
from pipeline.training.optimizers import Adam


def create_networks(
    config: TrainGanConfig,
    dataset: ShardDataset,
    mean_M: Tensor,
    std_M: Tensor,
    initial: InitialNetworks | None = None,
) -> tuple[Generator, Discriminator]:
    """Create the networks of a run as they are before the first step, on the CPU.

    Args:
        config: settings of the run, whose seed determines the random weights.
        dataset: dataset of the run.
        mean_M: mean of each mel band over the training data, in dB.
        std_M: standard deviation of each mel band over the training data, in dB.
        initial: weights to start from, as far as they fit; None: all are random.

    Raises:
        UserError: as `load_initial_networks`.
    """
    torch.manual_seed(config.seed)
    shape, num_classes = dataset.features.shape, len(dataset.class_names)
    networks = Generator(config.gan, shape, num_classes), Discriminator(config.gan, shape, num_classes)
    for model in networks:
        model.set_statistics(mean_M, std_M)
    if initial is not None:
        load_initial_networks(initial, *networks, dataset)
    return networks


def create_optimizers(
    config: TrainGanConfig, generator: Generator, discriminator: Discriminator, device: torch.device
) -> dict[str, torch.optim.Optimizer]:
    """Create the optimizers of both networks, which are on `device`."""
    return {
        name: Adam(
            model.parameters(),
            lr=initial_learning_rate(lr, device),
            betas=(0.0, 0.99),
            fused=True,
            capturable=device.type == "cuda",
        )
        for name, model, lr in (
            ("generator", generator, config.generator_lr),
            ("discriminator", discriminator, config.discriminator_lr),
        )
    }
