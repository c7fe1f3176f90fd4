"""Bare training loops with rows and labels on the device: a random batch, forward, loss, backward, optimizer.

Networks, losses, penalties, precision, gradient clipping and optimizers are those of melray; there is no
augmentation, MixUp, EMA, sampling of classes, metrics or checkpoint. `graphed` records a step as CUDA graphs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.classifier import Classifier
from models.gan import Discriminator, Generator, Latents
from models.gan_losses import discriminator_loss, diversity_loss, generator_loss, gradient_penalty
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.data.dataset import ShardDataset
from pipeline.data.loader import mel_statistics
from pipeline.gan.config import TrainGanConfig

WARMUP_STEPS = 3


@dataclass(frozen=True)
class BareLoop:
    """A training step on the rows that `index_B` has when it is called."""

    index_B: Tensor
    num_rows: int
    step: Callable[[int], None]
    """Takes the number of the step, by which the GAN knows whether it has a gradient penalty."""

    def run(self, steps: int) -> None:
        """Run steps on random batches."""
        orders = torch.randint(self.num_rows, (steps, len(self.index_B)), device=self.index_B.device)
        for number in range(steps):
            self.index_B.copy_(orders[number])
            self.step(number)


def _autocast(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def _to_device(dataset: ShardDataset, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return all rows, float32, and their labels on a device."""
    mels = torch.from_numpy(np.array(dataset.mels)).to(device).float()
    return mels, torch.from_numpy(np.array(dataset.labels)).to(device)


def bare_classifier(
    config: TrainClassifierConfig, dataset: ShardDataset, device: torch.device, capturable: bool = False
) -> BareLoop:
    """Return the loop of the classifier; `capturable` for an optimizer that a CUDA graph can record."""
    mels, labels = _to_device(dataset, device)
    model = Classifier(config.model, dataset.features.mel.n_mels, len(dataset.class_names))
    model.set_statistics(*mel_statistics(dataset.mels, np.arange(len(mels)), 200))
    model = model.to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, fused=True, capturable=capturable
    )
    index_B = torch.zeros(config.batch_size, dtype=torch.int64, device=device)

    def step(number: int) -> None:
        with _autocast(device):
            logits = model(mels[index_B])
        F.cross_entropy(logits.float(), labels[index_B], label_smoothing=config.label_smoothing).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return BareLoop(index_B, len(mels), step)


def bare_gan(
    config: TrainGanConfig, dataset: ShardDataset, device: torch.device, capturable: bool = False
) -> BareLoop:
    """Return the loop of the GAN, with latents sampled on the device; `capturable` as for the classifier."""
    mels, labels = _to_device(dataset, device)
    shape, size = dataset.features.shape, config.batch_size
    generator = Generator(config.gan, shape, len(dataset.class_names))
    discriminator = Discriminator(config.gan, shape, len(dataset.class_names))
    statistics = mel_statistics(dataset.mels, np.arange(len(mels)), 200)
    optimizers = []
    for network, lr in ((generator, config.generator_lr), (discriminator, config.discriminator_lr)):
        network.set_statistics(*statistics)
        network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizers.append(
            torch.optim.Adam(
                network.parameters(), lr=lr, betas=(0.0, 0.99), fused=True, capturable=capturable
            )
        )
    index_B = torch.zeros(size, dtype=torch.int64, device=device)

    def generate(label_B: Tensor) -> Tensor:
        z_BZ = torch.randn(size, config.gan.latent_dim, device=device)
        return generator(Latents(z_BZ, torch.randn(size, *shape, device=device)), label_B)

    def update(number: int, network: torch.nn.Module) -> None:
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.max_grad_norm)
        optimizers[number].step()
        optimizers[number].zero_grad(set_to_none=True)

    def step(number: int) -> None:
        label_B = labels[index_B]
        with torch.no_grad(), _autocast(device):
            first_BMT = generate(label_B)
        both_BMT, both_labels = torch.cat([mels[index_B], first_BMT]), torch.cat([label_B, label_B])
        with _autocast(device):
            scores, logits = discriminator(both_BMT, both_labels)
        real_B, fake_B = scores.chunk(2)
        loss = discriminator_loss(config.loss, real_B, fake_B)
        (loss + config.class_weight * F.cross_entropy(logits[:size], label_B)).backward()
        if number % config.penalty_interval == 0:
            with _autocast(device):
                penalty_B = gradient_penalty(
                    lambda mel: discriminator(mel, both_labels)[0], both_BMT, discriminator.mel_std_M
                )
            penalty_B.mean().backward()
        update(1, discriminator)
        discriminator.requires_grad_(False)
        with _autocast(device):
            second_BMT = generate(label_B)
            fake_B, logits = discriminator(second_BMT, label_B)
        loss = generator_loss(config.loss, fake_B, real_B.detach())
        similarity = diversity_loss(
            second_BMT, first_BMT, generator.mel_std_M, torch.ones(size, device=device)
        )
        class_loss = F.cross_entropy(logits, label_B)
        (loss + config.class_weight * class_loss + config.diversity_weight * similarity).backward()
        update(0, generator)
        discriminator.requires_grad_(True)

    return BareLoop(index_B, len(mels), step)


def graphed(loop: BareLoop, variants: int = 1) -> BareLoop:
    """Record the step as CUDA graphs: one for numbers divisible by `variants`, one for all others."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARMUP_STEPS):
            for number in range(min(variants, 2)):
                loop.step(number)
    torch.cuda.current_stream().wait_stream(stream)
    graphs = []
    for number in range(min(variants, 2)):
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loop.step(number)
        graphs.append(graph)
    return BareLoop(loop.index_B, loop.num_rows, lambda number: graphs[min(number % variants, 1)].replay())
