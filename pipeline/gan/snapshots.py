"""Samples of a GAN during training: fixed latents every few epochs, as audio and images, with scores.

RUN/samples/real/                      real clips of each class, for comparison
RUN/samples/epoch_0005/grid.png        spectrograms, a row per class
RUN/samples/epoch_0005/<class>_1.wav   one sample

Of many classes, evenly spaced ones have samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from models import gan_metrics
from models.device_batches import to_device
from models.gan import Generator, Latents, sample_latents
from pipeline.audio.vocoder import Vocoder
from pipeline.audio.waveform import write_wav
from pipeline.data.dataset import ShardDataset
from pipeline.data.loader import batch_slices, sampling_weights, subsample_evenly
from pipeline.data.split import Split
from pipeline.distributed.worker import heartbeat
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.reference_classifier import embed_and_classify, load_reference_classifier
from pipeline.io.errors import report_os_errors
from pipeline.io.files import file_names, remove_temporary_files, write_atomically
from pipeline.report.clips import decibel_scale
from pipeline.report.figures import spectrogram_grid_png
from pipeline.report.selection import describe_selection, evenly_spaced
from pipeline.training.model_file import SavedClassifier
from pipeline.training.tensor_file import save_tensors

# Generated clips of each class that the selection classifier scores; fewer if there are many classes.
CLIPS_PER_CLASS, MAX_SCORED_CLIPS = 20, 10_000
# Validation clips to which they are compared.
MAX_REAL_CLIPS = 10_000
# Classes whose diversity is measured after each epoch: of more, evenly spaced ones.
MAX_DIVERSITY_CLASSES = 500
# Clips that are generated at once, on all devices: they fill a GPU, which holds the training state as well.
BATCH_SIZE = 50
# The first sample of each class that has samples, for the report.
FIRST_SAMPLES_NAME = "first.safetensors"


def real_clip_rows(dataset: ShardDataset, split: Split, per_class: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the training rows that are shown next to the samples, and their labels: `per_class` of each."""
    train_labels, shown, rows = dataset.labels[split.train], evenly_spaced(len(dataset.class_names)), []
    for label in shown:
        class_rows = split.train[train_labels == label]
        rows.append(class_rows[np.arange(per_class) % len(class_rows)])
    return np.concatenate(rows), np.repeat(shown, per_class)


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
        """Take the data, and the diversity of the training clips of each class, in dB.

        Clips that select the best epoch are `split.val`.
        """
        self._config, self._dataset, self._split = config, dataset, split
        self._real_diversity = real_diversity
        self._folder = config.run / "samples"
        self._num_classes = len(dataset.class_names)
        self._shown = evenly_spaced(self._num_classes)

    def diversity(self, model: Generator, device: torch.device) -> dict[int, float]:
        """Return the diversity of the samples of each class whose diversity is measured, in dB.

        All have the same noise: clips of one latent vector then have no diversity, whatever their texture.
        """
        classes = evenly_spaced(self._num_classes, MAX_DIVERSITY_CLASSES)
        labels = np.repeat(classes, max(2, self._config.samples_per_class))
        mels = self._generate(model, labels, device, same_noise=True)
        return gan_metrics.class_diversity(mels, labels)

    def write(self, model: Generator, epoch: int, device: torch.device) -> dict[str, float]:
        """Write the samples of an epoch and score the generator.

        Returns:
            `class_accuracy` and `frechet` by the selection classifier; empty without one. No
            `class_accuracy` of a single class, and no `frechet` if the validation clips have no variety.

        Raises:
            UserError: the samples cannot be written.
        """
        labels = np.repeat(self._shown, self._config.samples_per_class)
        mels = self._generate(model, labels, device)
        with report_os_errors("writing samples to", self._folder):
            if not (self._folder / "real" / FIRST_SAMPLES_NAME).is_file():  # which is written last
                self._write_clips(self._folder / "real", *self._real_clips, "real clips", device)
            self._write_clips(self._folder / f"epoch_{epoch:04d}", mels, labels, f"epoch {epoch}", device)
        return self._score(model, device)

    def _score(self, model: Generator, device: torch.device) -> dict[str, float]:
        if self._classifier is None:
            return {}
        self._classifier.model.to(device)  # only the first time
        real_labels, real_embeddings = self._real_embeddings
        clips_per_class = max(1, min(CLIPS_PER_CLASS, MAX_SCORED_CLIPS // self._num_classes))
        labels = np.repeat(np.arange(self._num_classes), clips_per_class)
        mels = self._generate(model, labels, device)
        classified = embed_and_classify(self._classifier, mels, labels)
        metrics = {}
        if self._num_classes > 1:
            metrics["class_accuracy"] = float((classified.predictions == labels).mean())
        if len(real_embeddings) >= 2:
            compared = classified.embeddings[np.isin(labels, real_labels)]
            # Real classes are rarely of the same size; generated ones are.
            weights = sampling_weights(real_labels)
            metrics["frechet"] = gan_metrics.frechet_distance(compared, real_embeddings, weights)
        return metrics

    @cached_property
    def _classifier(self) -> SavedClassifier | None:
        """Selection classifier; None without one, or without validation clips."""
        if not self._config.select_best or len(self._split.val) < 2:
            return None
        return load_reference_classifier(self._config.run, "selection")

    @cached_property
    def _real_embeddings(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels of the validation clips of comparable classes, embeddings by the selection classifier."""
        assert self._classifier is not None
        rows = subsample_evenly(self._split.val, MAX_REAL_CLIPS)
        mels, labels = self._dataset.mels[rows], self._dataset.labels[rows]
        classes = gan_metrics.comparable_classes(self._real_diversity, mels, labels)
        compared = np.isin(labels, classes)
        if not compared.any():  # nothing can be embedded
            return labels[compared], np.zeros((0, 0))
        mels, labels = mels[compared], labels[compared]
        return labels, embed_and_classify(self._classifier, mels, labels).embeddings

    @cached_property
    def _real_clips(self) -> tuple[np.ndarray, np.ndarray]:
        """Spectrograms and labels of training clips, the same number per class as there are samples."""
        rows, labels = real_clip_rows(self._dataset, self._split, self._config.samples_per_class)
        return self._dataset.mels[rows].astype(np.float32), labels

    @cached_property
    def _scale(self) -> tuple[float, float]:
        return decibel_scale(self._real_clips[0])

    def _write_clips(
        self, folder: Path, mels: np.ndarray, labels: np.ndarray, title: str, device: torch.device
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        remove_temporary_files(folder)
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
        selection = describe_selection(len(self._shown), self._num_classes)
        image = spectrogram_grid_png(
            mels.reshape(len(self._shown), per_class, *features.shape),
            [class_names[label] for label in self._shown],
            features.mel,
            self._scale,
            f"{title} ({selection})" if selection else title,
        )
        write_atomically(folder / "grid.png", lambda file: file.write(image))
        first = {
            "mels": torch.from_numpy(mels[::per_class]).half(),
            "labels": torch.from_numpy(labels[::per_class].copy()),
        }
        save_tensors(folder / FIRST_SAMPLES_NAME, first)

    @torch.no_grad()
    def _generate(
        self, model: Generator, labels: np.ndarray, device: torch.device, same_noise: bool = False
    ) -> np.ndarray:
        """Generate a spectrogram per label; the n-th clip always has the n-th latent.

        Args:
            model: generator.
            labels: classes of the clips.
            device: device of the generator.
            same_noise: all clips have the noise of the first one.

        Returns:
            Spectrograms in dB `[shape=(N, n_mels, num_frames)]`, float32.
        """
        rng = torch.Generator().manual_seed(self._config.seed)
        latents = sample_latents(self._config.gan, self._dataset.features.shape, len(labels), rng)
        if same_noise:
            latents = Latents(latents.z_BZ, latents.noise_BMT[:1].expand_as(latents.noise_BMT))
        batches = []
        for batch in batch_slices(len(labels), BATCH_SIZE):
            batches.append(model(latents[batch].to(device), to_device(labels[batch], device)).cpu())
            heartbeat()
        return torch.cat(batches).numpy()
