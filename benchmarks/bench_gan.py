"""Training of the GAN: steps a second as users run it, against a bare loop with the same networks on tensors in memory.

    python -m benchmarks.bench_gan --shards FOLDER

Same losses, penalties, batch, arithmetic and threads. The bare loop draws a random batch and steps both networks: no
augmentation, no averaged weights, no balanced sampling, no figures, no checkpoints, no samples. Rounds alternate; the first
epoch of each is left out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.common import save, spread
from cluster.connection.session import session
from models.gan import Discriminator, Generator, sample_latents
from models.gan_losses import discriminator_loss, diversity_loss, generator_loss, gradient_penalty
from pipeline.data.dataset import open_dataset
from pipeline.data.loader import mel_statistics
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.train import train_gan
from pipeline.training.optim import resolve_precision
from pipeline.training.run_folder import RunFolder


def bare_loop(shards: Path, epochs: int, threads: int) -> float:
    """Steps a second, median over epochs after the first."""
    torch.set_num_threads(threads)
    config = TrainGanConfig(shards=shards, run=shards)
    rows = open_dataset(shards)
    shape, classes, size = rows.features.shape, len(rows.class_names), config.batch_size
    x, y = torch.from_numpy(np.array(rows.mels)).float(), torch.from_numpy(rows.labels)
    pair = [
        cls(config.gan, shape, classes).to(memory_format=torch.channels_last)
        for cls in (Generator, Discriminator)
    ]
    for model in pair:
        model.set_statistics(*mel_statistics(rows.mels, np.arange(len(x))))
    generator, discriminator = pair
    optimizers = [
        torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.0, 0.99), fused=True) for model in pair
    ]
    dtype = resolve_precision("auto", torch.device("cpu"))

    def autocast() -> torch.autocast:
        return torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None)

    def step(number: int) -> None:
        index = torch.randint(len(x), (size,))
        real, label = x[index], y[index]
        with torch.no_grad(), autocast():
            drawn = generator(sample_latents(config.gan, shape, size, torch.default_generator), label)
        seen, labels = torch.cat([real, drawn]), torch.cat([label, label])
        with autocast():
            scores, logits = discriminator(seen, labels)
        real_B, drawn_B = scores.chunk(2)
        (
            discriminator_loss(config.loss, real_B, drawn_B)
            + config.class_weight * F.cross_entropy(logits[:size], label)
        ).backward()
        if number % config.penalty_interval == 0:
            with autocast():
                penalty = gradient_penalty(
                    lambda mel: discriminator(mel, labels)[0], seen, discriminator.mel_std_M
                ).mean()
            penalty.backward()
        torch.nn.utils.clip_grad_norm_(discriminator.parameters(), config.max_grad_norm)
        optimizers[1].step()
        optimizers[1].zero_grad(set_to_none=True)
        discriminator.requires_grad_(False)
        with autocast():
            again = generator(sample_latents(config.gan, shape, size, torch.default_generator), label)
            drawn_B, logits = discriminator(again, label)
        loss = generator_loss(config.loss, drawn_B, real_B.detach()) + config.class_weight * F.cross_entropy(
            logits, label
        )
        (loss + config.diversity_weight * diversity_loss(again, drawn, generator.mel_std_M, 1.0)).backward()
        torch.nn.utils.clip_grad_norm_(generator.parameters(), config.max_grad_norm)
        optimizers[0].step()
        optimizers[0].zero_grad(set_to_none=True)
        discriminator.requires_grad_(True)

    rates = []
    for _ in range(epochs):
        start = time.perf_counter()
        for number in range(config.epoch_steps):
            step(number)
        rates.append(config.epoch_steps / (time.perf_counter() - start))
    return statistics.median(rates[1:])


def melray(shards: Path, epochs: int, threads: int) -> float:
    """Steps a second of the command's epochs, from the epoch's start to its last step, median after the first."""
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
        return statistics.median(line["steps_per_second"] for line in RunFolder(run).read_history()[1:])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bare", action="store_true", help="run the bare loop alone and print its rate")
    arguments = parser.parse_args()
    threads = os.cpu_count() or 1
    if arguments.bare:
        print(bare_loop(arguments.shards, arguments.epochs, threads))
        return
    rates: dict[str, list[float]] = {"melray": [], "bare": []}
    with session():
        for _ in range(arguments.rounds):
            rates["melray"].append(melray(arguments.shards, arguments.epochs, threads))
            # A process of its own, as melray's workers are.
            command = [
                sys.executable,
                "-m",
                "benchmarks.bench_gan",
                "--bare",
                "--shards",
                str(arguments.shards),
            ]
            out = subprocess.run(
                [*command, "--epochs", str(arguments.epochs)], capture_output=True, text=True, check=True
            )
            rates["bare"].append(float(out.stdout.split()[-1]))
    ratio = spread([m / b for m, b in zip(rates["melray"], rates["bare"], strict=True)])
    save(
        "gan",
        {f"{name}_steps_per_second": spread(values) for name, values in rates.items()}
        | {"melray_to_bare": ratio},
    )


if __name__ == "__main__":
    main()
