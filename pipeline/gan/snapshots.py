"""How a GAN in training shows itself: the same latents every few epochs, as sounds, as a picture, and as the judge sees them.

RUN/samples/real/                      real clips of each class, to compare
RUN/samples/epoch_0005/grid.png        a row a class
RUN/samples/epoch_0005/<class>_1.wav   one sample
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from models.gan import Generator, sample_latents
from models.gan_metrics import diversity, frechet_distance
from pipeline.audio.decode import write_wav
from pipeline.audio.vocoder import Vocoder
from pipeline.data.dataset import ShardDataset
from pipeline.data.loader import batch_slices
from pipeline.data.split import Split
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.reference_classifier import embed_and_classify, load_reference_classifier
from pipeline.io.errors import report_os_errors
from pipeline.io.files import file_names, write_atomically
from pipeline.report.clips import decibel_scale
from pipeline.report.figures import spectrogram_grid_png
from pipeline.training.checkpoint import save_tensors

# Clips of each class that the judge sees.
CLIPS_PER_CLASS = 20
BATCH = 50
# The first sample of each class, for the report.
STAGE_NAME = "first.safetensors"


class SnapshotWriter:
    """Draws the samples of a run, always the same ones."""

    def __init__(self, config: TrainGanConfig, rows: ShardDataset, split: Split):
        self._config, self._rows, self._split = config, rows, split
        self._folder = config.run / "samples"
        self._classes = len(rows.class_names)

    def spread(self, model: Generator, device: torch.device) -> float:
        """Diversity of the samples within their classes, in dB."""
        labels = np.repeat(np.arange(self._classes), max(2, self._config.samples_per_class))
        return diversity(self._draw(model, labels, device), labels)

    def sample(self, model: Generator, epoch: int, device: torch.device) -> dict[str, float]:
        """Writes the samples of an epoch; returns what the judge says: `recognised` and `frechet`, or nothing without one.

        Raises:
            UserError: when they can't be written.
        """
        each = self._config.samples_per_class
        labels = np.repeat(np.arange(self._classes), each)
        mels = self._draw(model, labels, device)
        with report_os_errors("writing samples to", self._folder):
            if not (self._folder / "real" / "grid.png").is_file():
                self._write(self._folder / "real", *self._real, "real clips")
            self._write(self._folder / f"epoch_{epoch:04d}", mels, labels, f"epoch {epoch}")
        return self._verdict(model, device)

    def _verdict(self, model: Generator, device: torch.device) -> dict[str, float]:
        if self._held is None:
            return {}
        judge, held = self._held
        labels = np.repeat(np.arange(self._classes), CLIPS_PER_CLASS)
        embeddings, probabilities = embed_and_classify(judge, self._draw(model, labels, device))
        return {
            "class_accuracy": float((probabilities.argmax(1) == labels).mean()),
            "frechet": frechet_distance(embeddings, held),
        }

    @cached_property
    def _held(self):  # type: ignore[no-untyped-def]
        """The judge, and its embeddings of real clips that the GAN doesn't learn from."""
        judge = load_reference_classifier(self._config.run, "selection") if self._config.select_best else None
        if judge is None or len(self._split.val) < 2:
            return None
        return judge, embed_and_classify(judge, self._rows.mels[self._split.val])[0]

    @cached_property
    def _real(self) -> tuple[np.ndarray, np.ndarray]:
        """Real clips of the training, as many as there are samples, and their classes."""
        index, labels = [], []
        for label in range(self._classes):
            own = self._split.train[self._rows.labels[self._split.train] == label]
            chosen = own[np.arange(self._config.samples_per_class) % len(own)]
            index.append(chosen)
            labels += [label] * len(chosen)
        return self._rows.mels[np.concatenate(index)].astype(np.float32), np.array(labels)

    @cached_property
    def _scale(self) -> tuple[float, float]:
        return decibel_scale(self._real[0])

    def _write(self, folder: Path, mels: np.ndarray, labels: np.ndarray, title: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        features, names = self._rows.features, file_names(self._rows.class_names)
        each = self._config.samples_per_class
        samples = Vocoder(features.mel)(
            torch.from_numpy(mels), features.num_samples, seed=range(len(mels))
        ).numpy()
        for number, (sound, label) in enumerate(zip(samples, labels, strict=True)):
            name = f"{names[self._rows.class_names[label]]}_{number % each + 1}.wav"
            write_wav(folder / name, sound, features.mel.sample_rate)
        picture = spectrogram_grid_png(
            mels.reshape(self._classes, each, *features.shape),
            self._rows.class_names,
            features.mel,
            self._scale,
            title,
        )
        write_atomically(folder / "grid.png", lambda file: file.write(picture))
        save_tensors(folder / STAGE_NAME, {"mels": torch.from_numpy(mels[::each]).half()})

    @torch.no_grad()
    def _draw(self, model: Generator, labels: np.ndarray, device: torch.device) -> np.ndarray:
        """Spectrograms in dB of so many classes `[shape=(N, n_mels, num_frames)]`, float32; the n-th has the n-th latent always."""
        rng = torch.Generator().manual_seed(self._config.seed)
        latents = sample_latents(self._config.gan, self._rows.features.shape, len(labels), rng)
        parts = [
            model(latents[part].to(device), torch.from_numpy(labels[part]).to(device)).cpu().numpy()
            for part in batch_slices(len(labels), BATCH)
        ]
        return np.concatenate(parts)
