"""GAN training: steps per second, against a bare loop with the same networks on tensors in memory.

    python -m benchmarks.bench_gan --shards FOLDER

Losses, penalties, batch size, precision and threads are equal. The bare loop samples a random batch and steps
both networks, without augmentation, EMA weights, balanced sampling, metrics, checkpoints and samples. Rounds
alternate; the first epoch of each is excluded.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.training_rates import compare_rates
from models.gan import Discriminator, Generator, sample_latents
from models.gan_losses import discriminator_loss, diversity_loss, generator_loss, gradient_penalty
from pipeline.data.dataset import open_dataset
from pipeline.data.loader import mel_statistics
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.train import train_gan
from pipeline.training.optim import resolve_precision
from pipeline.training.run_folder import RunFolder


def bare_loop(shards: Path, epochs: int, threads: int) -> float:
    """Return steps per second, the median over all epochs but the first."""
    torch.set_num_threads(threads)
    config = TrainGanConfig(shards=shards, run=shards)
    dataset = open_dataset(shards)
    shape, num_classes = dataset.features.shape, len(dataset.class_names)
    batch_size = config.batch_size
    mels, labels = torch.from_numpy(np.array(dataset.mels)).float(), torch.from_numpy(dataset.labels)
    networks = [
        cls(config.gan, shape, num_classes).to(memory_format=torch.channels_last)
        for cls in (Generator, Discriminator)
    ]
    for network in networks:
        network.set_statistics(*mel_statistics(dataset.mels, np.arange(len(mels))))
    generator, discriminator = networks
    optimizers = [
        torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.0, 0.99), fused=True) for network in networks
    ]
    dtype = resolve_precision("auto", torch.device("cpu"))

    def autocast() -> torch.autocast:
        return torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None)

    def generate(label: torch.Tensor) -> torch.Tensor:
        latents = sample_latents(config.gan, shape, batch_size, torch.default_generator)
        return generator(latents, label)

    def step(number: int) -> None:
        index = torch.randint(len(mels), (batch_size,))
        real, label = mels[index], labels[index]
        with torch.no_grad(), autocast():
            fake = generate(label)
        both, both_labels = torch.cat([real, fake]), torch.cat([label, label])
        with autocast():
            scores, logits = discriminator(both, both_labels)
        real_B, fake_B = scores.chunk(2)
        adversarial_loss = discriminator_loss(config.loss, real_B, fake_B)
        class_loss = F.cross_entropy(logits[:batch_size], label)
        (adversarial_loss + config.class_weight * class_loss).backward()
        if number % config.penalty_interval == 0:
            with autocast():
                penalty = gradient_penalty(
                    lambda mel: discriminator(mel, both_labels)[0], both, discriminator.mel_std_M
                ).mean()
            penalty.backward()
        torch.nn.utils.clip_grad_norm_(discriminator.parameters(), config.max_grad_norm)
        optimizers[1].step()
        optimizers[1].zero_grad(set_to_none=True)
        discriminator.requires_grad_(False)
        with autocast():
            second_fake = generate(label)
            fake_B, logits = discriminator(second_fake, label)
        adversarial_loss = generator_loss(config.loss, fake_B, real_B.detach())
        class_loss = F.cross_entropy(logits, label)
        similarity_loss = diversity_loss(second_fake, fake, generator.mel_std_M, 1.0)
        (
            adversarial_loss + config.class_weight * class_loss + config.diversity_weight * similarity_loss
        ).backward()
        torch.nn.utils.clip_grad_norm_(generator.parameters(), config.max_grad_norm)
        optimizers[0].step()
        optimizers[0].zero_grad(set_to_none=True)
        discriminator.requires_grad_(True)

    rates = []
    for _ in range(epochs):
        start_time = time.perf_counter()
        for number in range(config.epoch_steps):
            step(number)
        rates.append(config.epoch_steps / (time.perf_counter() - start_time))
    return statistics.median(rates[1:])


def melray(shards: Path, epochs: int, threads: int) -> float:
    """Return steps per second of `melray train-gan`, the median over all epochs but the first."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        config = TrainGanConfig(
            shards=shards,
            run=run,
            epochs=epochs,
            sample_every=epochs,
            select_best=False,
            cpus_per_worker=threads,
        )
        train_gan(config)
        return statistics.median(epoch["steps_per_second"] for epoch in RunFolder(run).read_history()[1:])


if __name__ == "__main__":
    compare_rates("gan", "steps", melray, "bare", bare_loop)
