"""Samples of a GAN during training: fixed latents every few epochs, as audio and images, with scores.

RUN/samples/real/                      real clips of each class, for comparison
RUN/samples/epoch_0005/grid.png        spectrograms, a row per class
RUN/samples/epoch_0005/<class>_1.wav   one sample
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from models import gan_metrics
from models.device_batches import to_device
from models.gan import Generator, sample_latents
from pipeline.audio.vocoder import Vocoder
from pipeline.audio.waveform import write_wav
from pipeline.data.dataset import ShardDataset
from pipeline.data.loader import batch_slices
from pipeline.data.split import Split
from pipeline.distributed.worker import heartbeat
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.reference_classifier import embed_and_classify, load_reference_classifier
from pipeline.io.errors import report_os_errors
from pipeline.io.files import file_names, write_atomically
from pipeline.report.clips import decibel_scale
from pipeline.report.figures import spectrogram_grid_png
from pipeline.training.checkpoint import save_tensors
from pipeline.training.model_file import SavedClassifier

# Generated clips per class that the selection classifier scores.
CLIPS_PER_CLASS = 20
# Clips that are generated at once, on all devices: they fill a GPU, which holds the training state as well.
BATCH_SIZE = 50
# The first sample of each class, for the report.
FIRST_SAMPLES_NAME = "first.safetensors"


class SnapshotWriter:
    """Generates, writes and scores the samples of a run, always from the same latents.

    Generator, vocoder and reference classifier compute on the device of the training.
    """

    def __init__(
        self,
        config: TrainGanConfig,
        dataset: ShardDataset,
        split: Split,
        real_diversity: Mapping[int, float],
    ):
        """Take the data and the diversity of the training clips of each class, in dB."""
        self._config, self._dataset, self._split = config, dataset, split
        self._real_diversity = real_diversity
        self._folder = config.run / "samples"
        self._num_classes = len(dataset.class_names)

    def diversity(self, model: Generator, device: torch.device) -> dict[int, float]:
        """Return the diversity of the samples of each class, in dB."""
        labels = np.repeat(np.arange(self._num_classes), max(2, self._config.samples_per_class))
        return gan_metrics.class_diversity(self._generate(model, labels, device), labels)

    def write(self, model: Generator, epoch: int, device: torch.device) -> dict[str, float]:
        """Write the samples of an epoch and score the generator.

        Returns:
            `class_accuracy` and `frechet` by the selection classifier; empty without one. No `frechet` if
            the validation clips have no variety.

        Raises:
            UserError: the samples cannot be written.
        """
        labels = np.repeat(np.arange(self._num_classes), self._config.samples_per_class)
        mels = self._generate(model, labels, device)
        with report_os_errors("writing samples to", self._folder):
            if not (self._folder / "real" / "grid.png").is_file():
                self._write_clips(self._folder / "real", *self._real_clips, "real clips", device)
            self._write_clips(self._folder / f"epoch_{epoch:04d}", mels, labels, f"epoch {epoch}", device)
        return self._score(model, device)

    def _score(self, model: Generator, device: torch.device) -> dict[str, float]:
        if self._classifier is None:
            return {}
        self._classifier.model.to(device)  # only the first time
        classes, real_embeddings = self._real_embeddings
        labels = np.repeat(np.arange(self._num_classes), CLIPS_PER_CLASS)
        mels = self._generate(model, labels, device)
        embeddings, probabilities = embed_and_classify(self._classifier, mels)
        metrics = {"class_accuracy": float((probabilities.argmax(1) == labels).mean())}
        if len(real_embeddings) >= 2:
            compared = embeddings[np.isin(labels, classes)]
            metrics["frechet"] = gan_metrics.frechet_distance(compared, real_embeddings)
        return metrics

    @cached_property
    def _classifier(self) -> SavedClassifier | None:
        """Selection classifier; None without one, or without validation clips."""
        if not self._config.select_best or len(self._split.val) < 2:
            return None
        return load_reference_classifier(self._config.run, "selection")

    @cached_property
    def _real_embeddings(self) -> tuple[np.ndarray, np.ndarray]:
        """Comparable classes, and embeddings of their validation clips by the selection classifier."""
        assert self._classifier is not None
        mels, labels = self._dataset.mels[self._split.val], self._dataset.labels[self._split.val]
        classes = gan_metrics.comparable_classes(self._real_diversity, mels.astype(np.float32), labels)
        compared = mels[np.isin(labels, classes)]
        if not len(compared):  # nothing can be embedded
            return classes, np.zeros((0, 0))
        return classes, embed_and_classify(self._classifier, compared)[0]

    @cached_property
    def _real_clips(self) -> tuple[np.ndarray, np.ndarray]:
        """Spectrograms and labels of training clips, the same number per class as there are samples."""
        rows, labels = [], []
        for label in range(self._num_classes):
            class_rows = self._split.train[self._dataset.labels[self._split.train] == label]
            rows.append(class_rows[np.arange(self._config.samples_per_class) % len(class_rows)])
            labels += [label] * self._config.samples_per_class
        return self._dataset.mels[np.concatenate(rows)].astype(np.float32), np.array(labels)

    @cached_property
    def _scale(self) -> tuple[float, float]:
        return decibel_scale(self._real_clips[0])

    def _write_clips(
        self, folder: Path, mels: np.ndarray, labels: np.ndarray, title: str, device: torch.device
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        features, class_names = self._dataset.features, self._dataset.class_names
        names = file_names(class_names)
        per_class = self._config.samples_per_class
        vocoder = Vocoder(features.mel, device=device)
        for batch in batch_slices(len(mels), vocoder.batch_size(features.num_samples)):
            numbers = range(batch.start, batch.stop)
            clips = vocoder(torch.from_numpy(mels[batch]), features.num_samples, seed=numbers).cpu().numpy()
            for number, samples in zip(numbers, clips, strict=True):
                name = f"{names[class_names[labels[number]]]}_{number % per_class + 1}.wav"
                write_wav(folder / name, samples, features.mel.sample_rate)
            heartbeat()
        image = spectrogram_grid_png(
            mels.reshape(self._num_classes, per_class, *features.shape),
            class_names,
            features.mel,
            self._scale,
            title,
        )
        write_atomically(folder / "grid.png", lambda file: file.write(image))
        save_tensors(folder / FIRST_SAMPLES_NAME, {"mels": torch.from_numpy(mels[::per_class]).half()})

    @torch.no_grad()
    def _generate(self, model: Generator, labels: np.ndarray, device: torch.device) -> np.ndarray:
        """Generate a spectrogram per label; the n-th clip always has the n-th latent.

        Returns:
            Spectrograms in dB `[shape=(N, n_mels, num_frames)]`, float32.
        """
        rng = torch.Generator().manual_seed(self._config.seed)
        latents = sample_latents(self._config.gan, self._dataset.features.shape, len(labels), rng)
        batches = []
        for batch in batch_slices(len(labels), BATCH_SIZE):
            batches.append(model(latents[batch].to(device), to_device(labels[batch], device)).cpu())
            heartbeat()
        return torch.cat(batches).numpy()
