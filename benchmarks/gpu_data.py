"""Data of `make gpu`: synthesized clips with their shards, and shards of random spectrograms."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from pipeline.audio.augment import AugmentConfig
from pipeline.audio.features import FeatureConfig, Spectrogram
from pipeline.audio.synthetic_dataset import write_dataset
from pipeline.data.shard_manifest import ShardManifest, write_manifest
from pipeline.data.shards import write_shard
from pipeline.distributed.batch_job import run_in_process
from pipeline.extract import ExtractConfig, extract

# Mean and standard deviation of the values of random spectrograms, in dB.
MEAN_DB, STD_DB = -50.0, 15.0
ROWS_PER_SHARD = 128


def write_clips(folder: Path, train_per_class: int, test_per_class: int = 2) -> tuple[Path, Path]:
    """Write synthesized clips and extract the training clips without Ray.

    Returns:
        The shards of the training clips, and the folder of the unlabeled test clips.
    """
    write_dataset(folder / "data", train_per_class=train_per_class, test_per_class=test_per_class)
    extract(ExtractConfig(data=folder / "data", out=folder / "shards"), run_in_process)
    return folder / "shards", folder / "data" / "test"


def write_random_shards(folder: Path, rows: int, classes: int = 10, seconds: float = 5.0) -> Path:
    """Write `rows` random spectrograms of clips of `seconds`, the classes in rotation; return the folder."""
    features = FeatureConfig(seconds=seconds)
    names = tuple(f"class {number}" for number in range(classes))
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    shards = []
    for start in range(0, rows, ROWS_PER_SHARD):
        numbers = range(start, min(start + ROWS_PER_SHARD, rows))
        clips = [
            {
                "clip_id": f"{i}.wav",
                "path": f"{i}.wav",
                "label": names[i % classes],
                "fold": -1,
                "group": str(i),
            }
            for i in numbers
        ]
        mels = MEAN_DB + STD_DB * rng.standard_normal((len(clips), *features.shape), np.float32)
        spectrograms = [[Spectrogram(0, 0.0, "unchanged", mel.astype(np.float16))] for mel in mels]
        path = folder / f"part-{start // ROWS_PER_SHARD:05d}-{rows:012x}.parquet"
        shards.append(write_shard(path, clips, spectrograms, [], features.shape).info)
    manifest = ShardManifest(
        fingerprint=features.fingerprint,
        features=features,
        augment=AugmentConfig(copies=0),
        class_names=names,
        clips=rows,
        rows=rows,
        rejected=0,
        source={"data": "random"},
        shards=tuple(shards),
    )
    write_manifest(folder, manifest)
    return folder


def link_copies(clips: list[Path], folder: Path, copies: int) -> Path:
    """Fill `folder/<class>` with hard links: `copies` of each clip; return the folder."""
    for path in clips:
        target = folder / path.parent.name
        target.mkdir(parents=True, exist_ok=True)
        for number in range(copies):
            os.link(path, target / f"{path.stem}-{number:04d}{path.suffix}")
    return folder
