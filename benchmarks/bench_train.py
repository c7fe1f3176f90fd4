"""Classifier training: samples per second, against a plain PyTorch loop on tensors in memory.

    python -m benchmarks.bench_train --shards FOLDER

Network, batch size, precision and threads are equal. The plain loop shuffles, clips gradients and steps,
without MixUp, SpecAugment, EMA weights and checkpoints. Rounds alternate; the first epoch of each is
excluded.
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
from models.classifier import Classifier
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.train import train_classifier
from pipeline.data.dataset import open_dataset
from pipeline.data.loader import mel_statistics
from pipeline.training.optim import resolve_precision
from pipeline.training.run_folder import RunFolder


def plain_loop(shards: Path, epochs: int, threads: int) -> float:
    """Return samples per second, the median over all epochs but the first."""
    torch.set_num_threads(threads)
    config = TrainClassifierConfig(shards=shards, run=shards)
    dataset = open_dataset(shards)
    mels = torch.from_numpy(np.array(dataset.mels)).float()
    labels = torch.from_numpy(dataset.labels)
    model = Classifier(config.model, dataset.features.mel.n_mels, len(dataset.class_names)).to(
        memory_format=torch.channels_last
    )  # type: ignore[call-overload]
    model.set_statistics(*mel_statistics(dataset.mels, np.arange(len(mels))))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    dtype = resolve_precision("auto", torch.device("cpu"))
    rates = []
    for _ in range(epochs):
        start_time = time.perf_counter()
        for index in torch.randperm(len(mels)).split(config.batch_size):
            with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
                logits = model(mels[index])
            F.cross_entropy(logits.float(), labels[index], label_smoothing=0.1).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        rates.append(len(mels) / (time.perf_counter() - start_time))
    return statistics.median(rates[1:])


def melray(shards: Path, epochs: int, threads: int) -> float:
    """Return samples per second of `melray train-classifier`, the median over all epochs but the first."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        config = TrainClassifierConfig(
            shards=shards, run=run, epochs=epochs, val_fraction=0.0, cpus_per_worker=threads
        )
        train_classifier(config)
        return statistics.median(epoch["samples_per_second"] for epoch in RunFolder(run).read_history()[1:])


if __name__ == "__main__":
    compare_rates("train", "samples", melray, "plain", plain_loop)
