"""Stages of `melray generate`: generate the clips of a work unit, then write them to audio files or a shard.

With GPUs the first stage runs there and the second in CPU tasks: the image of a clip takes a CPU longer than
a GPU needs for the clip.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.gan import Latents
from pipeline.audio.features import Spectrogram
from pipeline.audio.vocoder import Vocoder
from pipeline.audio.waveform import encode_wav
from pipeline.data.clips import NO_FOLD
from pipeline.data.shards import write_shard
from pipeline.distributed.work_unit import WorkUnit
from pipeline.gan.config import GenerateConfig
from pipeline.gan.reference_classifier import embed_and_classify, load_selection_classifier
from pipeline.gan.sampling import concatenate, generate_mels, latents_from_seed, mels_to_samples, slerp
from pipeline.io.concurrent import map_concurrently
from pipeline.io.errors import report_os_errors
from pipeline.io.files import write_atomically, write_text_atomically
from pipeline.report.figures import spectrogram_png
from pipeline.training.model_file import (
    GeneratorMetadata,
    check_same_model,
    load_generator,
    model_digest,
)

# Attempts to reach --min-confidence, each with its own seed.
MAX_ATTEMPTS = 10


@dataclass(frozen=True)
class GeneratedClips:
    """Clips of a work unit."""

    clips: list[dict[str, Any]]
    """Rows of generated.csv, of dropped clips too."""
    mels: list[np.ndarray]
    """Spectrogram of each clip that is kept, in dB, float32 `[shape=(n_mels, num_frames)]`."""
    samples: list[np.ndarray]
    """Samples of each clip that is kept, float32 `[shape=(num_samples,)]`; empty with --as-shards."""

    @property
    def kept(self) -> list[dict[str, Any]]:
        """Rows of the clips that are kept."""
        return [clip for clip in self.clips if clip["kept"]]


class ClipGenerator:
    """First stage: generates the clips of a work unit with generator, reference classifier and vocoder.

    On a CPU one clip at a time by one thread, so that a seed gives the same bits everywhere; on a GPU in
    batches, whose last bits may differ.
    """

    def __init__(self, config: GenerateConfig, choose_device: Callable[[], torch.device], digest: str):
        """Load the models.

        Args:
            config: settings of the command.
            choose_device: returns the device of this process.
            digest: that of the generator when the work was planned.

        Raises:
            UserError: an unusable run, a generator that has been replaced, or a device that this process
                does not have.
        """
        torch.set_num_threads(1)
        self._config = config
        self._device = choose_device()
        self._saved = load_generator(config.run)
        check_same_model(config.run, digest, model_digest(config.run), " with --overwrite")
        self._saved.model.to(self._device)
        self._label_index = {name: i for i, name in enumerate(self._saved.metadata.class_names)}
        self._classifier = load_selection_classifier(config.run)
        if self._classifier is not None:
            self._classifier.model.to(self._device)
        self._vocoder = Vocoder(self._saved.metadata.features.mel, config.iterations, self._device)

    def __call__(self, unit: WorkUnit) -> GeneratedClips:
        """Generate the clips of a unit.

        Raises:
            OSError: the clip list cannot be read.
        """
        clips = unit.read_clips()
        mels = [mel for mel in self._generate(clips) if mel is not None]
        result = GeneratedClips(clips, mels, [])
        if mels and not self._config.as_shards:
            seeds = [clip["seed"] for clip in result.kept]
            features, normalize = self._saved.metadata.features, self._config.normalize
            result.samples.extend(mels_to_samples(np.stack(mels), features, self._vocoder, seeds, normalize))
        return result

    def _generate(self, clips: list[dict[str, Any]]) -> list[np.ndarray | None]:
        """Return each clip's spectrogram in dB, or None if no attempt reached --min-confidence.

        Adds the columns of generated.csv to the clips. Each attempt is for all clips that need another one.
        """
        result: list[np.ndarray | None] = [None] * len(clips)
        pending = list(range(len(clips)))
        for attempt in range(max_attempts(self._config)):
            mels = self._attempt([clips[i] for i in pending], attempt)
            for i, mel in zip(pending, mels, strict=True):
                if clips[i]["kept"]:
                    result[i] = mel
            pending = [i for i in pending if not clips[i]["kept"]]
            if not pending:
                break
        return result

    def _attempt(self, clips: list[dict[str, Any]], attempt: int) -> np.ndarray:
        """Generate spectrograms in dB `[shape=(N, n_mels, num_frames)]`; add their scores to `clips`."""
        features, class_names = self._saved.metadata.features, self._saved.metadata.class_names
        labels = np.array([self._label_index[clip["label"]] for clip in clips])
        latents = concatenate([self._latents(clip, attempt) for clip in clips])
        mels = generate_mels(self._saved.model, latents, labels, features.mel)
        predicted, confidence = [""] * len(clips), np.full(len(clips), np.nan)
        if self._classifier is not None:
            batch_size = 1 if self._device.type == "cpu" else None
            classified = embed_and_classify(self._classifier, mels, labels, batch_size)
            predicted = [class_names[i] for i in classified.predictions]
            confidence = classified.confidence
        for clip, name, value in zip(clips, predicted, confidence.tolist(), strict=True):
            clip |= {
                "attempts": attempt + 1,
                "predicted_label": name,
                "confidence": value,
                "kept": not value < self._config.min_confidence,
            }
        return mels

    def _latents(self, clip: dict[str, Any], attempt: int) -> Latents:
        first = latents_from_seed(self._saved.model, [clip["seed"], *([attempt] if attempt else [])])
        if self._config.interpolate_to is None:
            return first
        second = latents_from_seed(self._saved.model, [self._config.interpolate_to])
        return slerp(first, second, clip["interpolation"])


def max_attempts(config: GenerateConfig) -> int:
    """Return how often a clip is sampled at most until it reaches --min-confidence.

    Interpolated clips are sampled once: others would not lie between those next to them.
    """
    return MAX_ATTEMPTS if config.min_confidence and config.interpolate_to is None else 1


class ClipWriter:
    """Second stage: writes the clips of a work unit to audio files and images, or to a shard."""

    def __init__(self, config: GenerateConfig, metadata: GeneratorMetadata):
        """Take the metadata of the generator."""
        self._config, self._features = config, metadata.features

    def __call__(self, unit: WorkUnit, generated: GeneratedClips) -> None:
        """Write the clips of a unit.

        Raises:
            UserError: a file cannot be written.
        """
        out = self._config.out
        with report_os_errors("writing to", out):
            if self._config.as_shards:
                self._write_shard(out / unit.name, generated)
            else:
                # In threads, which wait for the disk or the object store while the next image is computed.
                for _ in map_concurrently(_write_file, self._files(out, generated)):
                    pass
            # Last, because it marks the unit as finished.
            write_text_atomically(unit.path, json.dumps(generated.clips))

    def _files(self, out: Path, generated: GeneratedClips) -> Iterator[tuple[Path, bytes]]:
        """Yield audio and spectrogram image of each clip; add the file name and the peak amplitude to it."""
        mel_config = self._features.mel
        for clip, mel, samples in zip(generated.kept, generated.mels, generated.samples, strict=True):
            path = out / clip["clip_id"]
            path.parent.mkdir(parents=True, exist_ok=True)
            yield path.with_suffix(".wav"), encode_wav(samples, mel_config.sample_rate)
            title = f"{clip['label']}, {path.name.replace('_', ' ')}"
            yield path.with_suffix(".png"), spectrogram_png(mel, mel_config, title)
            clip |= {"file": f"{clip['clip_id']}.wav", "peak": float(np.abs(samples).max())}

    def _write_shard(self, path: Path, generated: GeneratedClips) -> None:
        clips = [
            {
                "clip_id": clip["clip_id"],
                "path": "",
                "label": clip["label"],
                "fold": NO_FOLD,
                "group": clip["clip_id"],
            }
            for clip in generated.kept
        ]
        rows = [[Spectrogram(0, 0.0, "generated", mel.astype(np.float16))] for mel in generated.mels]
        write_shard(path, clips, rows, [], self._features.shape)


def _write_file(file: tuple[Path, bytes]) -> None:
    path, content = file
    write_atomically(path, lambda stream: stream.write(content))
