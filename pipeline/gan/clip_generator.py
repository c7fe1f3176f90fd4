"""Stage of `melray generate` that makes the clips of a work unit, as audio files or as a shard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.gan import Latents
from pipeline.audio.features import Spectrogram
from pipeline.audio.vocoder import Vocoder
from pipeline.audio.waveform import write_wav
from pipeline.data.clips import NO_FOLD
from pipeline.data.shards import write_shard
from pipeline.distributed.batch_job import WorkUnit
from pipeline.gan.config import GenerateConfig
from pipeline.gan.reference_classifier import embed_and_classify, load_reference_classifier
from pipeline.gan.sampling import generate_mel, latents_from_seed, mel_to_samples, slerp
from pipeline.io.errors import report_os_errors
from pipeline.io.files import write_atomically, write_text_atomically
from pipeline.report.figures import spectrogram_png
from pipeline.training.model_file import load_generator

# Attempts to reach --min-confidence, each with its own seed.
MAX_ATTEMPTS = 10


class ClipGenerator:
    """Stage of a batch job that generates the clips of a work unit with generator, classifier and vocoder."""

    def __init__(self, config: GenerateConfig):
        """Load the models."""
        # With one thread everywhere a seed gives the same bytes everywhere.
        torch.set_num_threads(1)
        self._config = config
        self._saved = load_generator(config.run)
        self._classifier = load_reference_classifier(config.run, "selection")
        self._vocoder = Vocoder(self._saved.metadata.features.mel, config.iterations)

    def __call__(self, unit: WorkUnit) -> None:
        """Generate the clips of a unit.

        Raises:
            UserError: a file cannot be written.
        """
        out = self._config.out
        with report_os_errors("writing to", out):
            clips = unit.read_clips()
            mels = [self._generate(clip) for clip in clips]
            kept = [(clip, mel) for clip, mel in zip(clips, mels, strict=True) if mel is not None]
            if self._config.as_shards:
                self._write_shard(out / unit.name, kept)
            else:
                for clip, mel in kept:
                    self._write_audio(out / clip["clip_id"], clip, mel)
            # Last, because it marks the unit as finished.
            write_text_atomically(unit.path, json.dumps(clips))

    def _generate(self, clip: dict[str, Any]) -> np.ndarray | None:
        """Return a clip's spectrogram in dB, or None if no attempt reached --min-confidence.

        Adds the columns of generated.csv to `clip`.
        """
        features, class_names = self._saved.metadata.features, self._saved.metadata.class_names
        label = class_names.index(clip["label"])
        for attempt in range(MAX_ATTEMPTS if self._config.min_confidence else 1):
            mel = generate_mel(self._saved.model, self._latents(clip, attempt), label, features.mel)
            predicted_label, confidence = "", float("nan")
            if self._classifier is not None:
                probabilities = embed_and_classify(self._classifier, mel[None])[1][0]
                predicted_label = class_names[int(probabilities.argmax())]
                confidence = float(probabilities[label])
            clip |= {
                "attempts": attempt + 1,
                "predicted_label": predicted_label,
                "confidence": confidence,
                "kept": True,
            }
            if not confidence < self._config.min_confidence:
                return mel
        clip["kept"] = False
        return None

    def _latents(self, clip: dict[str, Any], attempt: int) -> Latents:
        extra = [attempt] if attempt else []
        first = latents_from_seed(self._saved.model, [clip["seed"], *extra])
        if self._config.interpolate_to is None:
            return first
        second = latents_from_seed(self._saved.model, [self._config.interpolate_to, *extra])
        return slerp(first, second, clip["interpolation"])

    def _write_audio(self, path: Path, clip: dict[str, Any], mel: np.ndarray) -> None:
        """Write audio and spectrogram image; add the file name and the peak amplitude to `clip`."""
        features = self._saved.metadata.features
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = mel_to_samples(mel, features, self._vocoder, clip["seed"])
        write_wav(path.with_suffix(".wav"), samples, features.mel.sample_rate)
        image = spectrogram_png(mel, features.mel, f"{clip['label']}, {path.name.replace('_', ' ')}")
        write_atomically(path.with_suffix(".png"), lambda file: file.write(image))
        clip |= {"file": f"{clip['clip_id']}.wav", "peak": float(np.abs(samples).max())}

    def _write_shard(self, path: Path, kept: list[tuple[dict[str, Any], np.ndarray]]) -> None:
        clips = [
            {
                "clip_id": clip["clip_id"],
                "path": "",
                "label": clip["label"],
                "fold": NO_FOLD,
                "group": clip["clip_id"],
            }
            for clip, _ in kept
        ]
        rows = [[Spectrogram(0, 0.0, "generated", mel.astype(np.float16))] for _, mel in kept]
        write_shard(path, clips, rows, [], self._saved.metadata.features.shape)
