"""Generation: clips of chosen classes from a trained generator, as audio files or as shards of training data.

OUT/<class>/seed_00001.wav, .png    audio and spectrogram image of a clip
OUT/generated.csv                   one row per clip
OUT/part-*.parquet, _manifest.json  instead, with --as-shards: a dataset for `train-classifier --extra-shards`

Each clip has its own seed, so the result does not depend on the number of workers. It is a batch job
(`pipeline/distributed/batch_job.py`): a unit's output in `OUT/.parts` is the JSON list of its rows of
generated.csv, written after the files of its clips.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from models.gan import Latents
from pipeline.audio.augment import AugmentConfig
from pipeline.audio.decode import write_wav
from pipeline.audio.features import Spectrogram
from pipeline.audio.vocoder import Vocoder
from pipeline.data.manifest import NO_FOLD
from pipeline.data.shards import ShardManifest, read_shard_footer, write_manifest, write_shard
from pipeline.distributed.batch_job import BatchJob, Runner, WorkUnit, run_in_process
from pipeline.distributed.ray_runner import RayRunner
from pipeline.distributed.resources import AutoscalingConfig
from pipeline.gan.reference_classifier import embed_and_classify, load_reference_classifier
from pipeline.gan.sampling import generate_mel, latents_from_seed, mel_to_samples, slerp
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.files import file_names, write_atomically, write_text_atomically
from pipeline.io.storage import PathOrURI
from pipeline.report.figures import spectrogram_png
from pipeline.training.model_file import (
    GeneratorMetadata,
    load_generator,
    load_generator_metadata,
    model_digest,
)

CLIPS_PER_UNIT = 16
# Attempts to reach --min-confidence, each with its own seed.
MAX_ATTEMPTS = 10
# Fewer clips than this are generated in less time than Ray needs to start.
MIN_CLIPS_FOR_RAY = 100


class GenerateConfig(AutoscalingConfig):
    """Generate new sounds of chosen classes."""

    run: PathOrURI
    """Folder of a trained GAN."""
    out: PathOrURI
    """Output folder for audio, spectrogram images and generated.csv. Rerun to resume."""
    label: tuple[str, ...] = ()
    """Classes to generate (default: all)."""
    count: int = Field(8, ge=1)
    """Clips per class."""
    seed: int = Field(1, ge=0)
    """Seed of the first clip of each class; later clips use consecutive seeds. The same seed gives the same
    files."""
    interpolate_to: int | None = Field(None, ge=0)
    """Interpolate in latent space from --seed to this seed."""
    min_confidence: float = Field(0.0, ge=0, lt=1)
    """Resample a clip up to 10 times until the reference classifier reaches this confidence; otherwise drop
    it."""
    iterations: int = Field(32, ge=1, le=1000)
    """Griffin-Lim iterations; more gives cleaner audio."""
    as_shards: bool = False
    """Write shards for `train-classifier --extra-shards` instead of audio files."""
    workers: int | None = Field(None, ge=1)
    """Parallel workers (default: one per CPU for 100 clips or more, otherwise this process alone)."""


def generate(config: GenerateConfig, runner: Runner | None = None) -> pd.DataFrame:
    """Generate the missing clips in this process or by `runner`; return the table of all clips.

    Raises:
        UserError: an unusable run, an unknown class, --min-confidence without a reference classifier, too few
            resources, or a full disk.
    """
    metadata = load_generator_metadata(config.run)
    labels = chosen_labels(config, metadata)
    if config.min_confidence and load_reference_classifier(config.run, "selection") is None:
        raise UserError(
            f"--min-confidence {config.min_confidence:g}: {config.run} has no reference classifier; "
            "train with --select-best, or drop --min-confidence"
        )
    job = plan_job(config, labels)
    job.run([partial(ClipGenerator, config)], runner or run_in_process)
    with report_os_errors("writing to", config.out):
        table = _publish(config, metadata, job.units)
        job.clean_up()
    _print_result(config, table, len(labels))
    return table


def needs_cluster(config: GenerateConfig) -> bool:
    """Return whether the job is large enough to be distributed."""
    labels = chosen_labels(config, load_generator_metadata(config.run))
    return config.workers is not None or len(labels) * config.count >= MIN_CLIPS_FOR_RAY


def ray_runner(config: GenerateConfig) -> RayRunner:
    """Return the runner that distributes the job over the cluster."""
    return RayRunner(config.wait_for_nodes, config.workers)


def chosen_labels(config: GenerateConfig, metadata: GeneratorMetadata) -> list[str]:
    """Return the classes to generate.

    Raises:
        UserError: a class that the generator was not trained on.
    """
    unknown = [label for label in config.label if label not in metadata.class_names]
    if unknown:
        raise UserError(
            f"--label '{unknown[0]}': unknown class; available: {', '.join(metadata.class_names)}"
        )
    return list(dict.fromkeys(config.label)) or list(metadata.class_names)


def plan_job(config: GenerateConfig, labels: list[str]) -> BatchJob:
    """Plan a generation, with outputs that are determined by the model, the settings and the seeds."""
    return BatchJob(
        "generating",
        _clip_table(config, labels),
        CLIPS_PER_UNIT,
        settings=[
            model_digest(config.run),
            config.interpolate_to,
            config.min_confidence,
            config.iterations,
            config.as_shards,
        ],
        folder=config.out / ".parts",
    )


def _clip_table(config: GenerateConfig, labels: list[str]) -> pd.DataFrame:
    """Return id, label, seed and interpolation fraction of the clips to generate."""
    folders = file_names(labels)
    records = []
    for label in labels:
        for number in range(config.count):
            seed, interpolation, name = config.seed + number, 0.0, f"seed_{config.seed + number:05d}"
            if config.interpolate_to is not None:
                seed, interpolation = config.seed, number / max(1, config.count - 1)
                name = f"from_{seed}_to_{config.interpolate_to}_{number + 1:03d}"
            records.append(
                {
                    "clip_id": f"{folders[label]}/{name}",
                    "label": label,
                    "seed": seed,
                    "interpolation": interpolation,
                }
            )
    return pd.DataFrame(records)


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


def _publish(config: GenerateConfig, metadata: GeneratorMetadata, units: list[WorkUnit]) -> pd.DataFrame:
    """Write the table of all clips, and the manifest of the shards."""
    table = pd.DataFrame([clip for unit in units for clip in json.loads(unit.path.read_text())])
    write_text_atomically(config.out / "generated.csv", table.to_csv(index=False, lineterminator="\n"))
    if config.as_shards:
        _publish_shards(config, metadata, table, units)
    return table


def _publish_shards(
    config: GenerateConfig, metadata: GeneratorMetadata, table: pd.DataFrame, units: list[WorkUnit]
) -> None:
    """Write the manifest of the shards, and delete shards of earlier jobs."""
    shards = tuple(read_shard_footer(config.out / unit.name).info for unit in units)
    kept = table[table["kept"]]
    manifest = ShardManifest(
        fingerprint=metadata.features.fingerprint,
        features=metadata.features,
        augment=AugmentConfig(copies=0),
        class_names=tuple(sorted(kept["label"].unique())),
        clips=len(kept),
        rows=len(kept),
        rejected=0,
        source={
            "generator": str(config.run),
            "clips_by_class": kept["label"].value_counts().sort_index().to_dict(),
        },
        shards=shards,
    )
    write_manifest(config.out, manifest)
    names = {shard.name for shard in shards}
    for path in config.out.glob("part-*.parquet"):
        if path.name not in names:
            path.unlink()


def _print_result(config: GenerateConfig, table: pd.DataFrame, num_classes: int) -> None:
    dropped = int((~table["kept"]).sum())
    note = f"; {dropped} clips dropped (below --min-confidence {config.min_confidence:g})" if dropped else ""
    print(f"{len(table) - dropped} clips of {num_classes} classes{note}")
    if config.as_shards:
        print(f"shards: {config.out}", flush=True)
    else:
        print(f"sounds: {config.out}\ntable: {config.out / 'generated.csv'}", flush=True)
