"""Small multi-label datasets: windows of recordings in which several tones sound at once, or none."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from pipeline.audio.augment import AugmentConfig
from pipeline.audio.features import Spectrogram, spectrogram
from pipeline.data.clips import NO_FOLD
from pipeline.data.labels import join_labels
from pipeline.data.shard_manifest import ShardManifest, write_manifest
from pipeline.data.shards import write_shard
from pipeline.data.windows import window_id
from tests.helpers.sounds import RATE, SMALL_FEATURES, tone

# Probability with which each class sounds in a window.
RATES = (0.5, 0.3, 0.15)


def write_label_set_shards(
    folder: Path,
    recordings: int = 20,
    windows: int = 6,
    rates: tuple[float, ...] = RATES,
    folds: bool = False,
) -> Path:
    """Write a multi-label dataset of the classes `tone 0`, `tone 1`, …; return its folder.

    Args:
        folder: folder of the dataset, which is created.
        recordings: number of recordings.
        windows: number of windows of each.
        rates: probability of each class.
        folds: whether recordings are in the folds 1 to 4, rather than in none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    clips, rows = [], []
    for recording in range(recordings):
        for start in range(windows):
            present = np.flatnonzero(rng.random(len(rates)) < rates)
            recording_path = f"recording {recording:02d}.wav"
            clips.append(
                {
                    "clip_id": window_id(recording_path, start),
                    "path": recording_path,
                    "label": join_labels(f"tone {c}" for c in present),
                    "fold": recording % 4 + 1 if folds else NO_FOLD,
                    "group": recording_path,
                    "start": float(start),
                    "end": start + SMALL_FEATURES.seconds,
                }
            )
            mel = spectrogram(mix_tones(present, rng), SMALL_FEATURES)
            rows.append([Spectrogram(0, 0.0, "unchanged", mel)])
    # Of other rows another name: it identifies the content, also in the cache.
    digest = hashlib.sha256(repr((recordings, windows, rates, folds)).encode()).hexdigest()[:8]
    path = folder / f"part-00000-{digest}.parquet"
    shard = write_shard(path, clips, rows, [], SMALL_FEATURES.shape, windowed=True).info
    manifest = ShardManifest(
        fingerprint=SMALL_FEATURES.fingerprint,
        features=SMALL_FEATURES,
        augment=AugmentConfig(copies=0),
        class_names=tuple(f"tone {c}" for c in range(len(rates))),
        clips=len(clips),
        rows=len(clips),
        rejected=0,
        source={},
        shards=(shard,),
        multi_label=True,
        hop=1.0,
    )
    write_manifest(folder, manifest)
    return folder


def mix_tones(classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Synthesize a second of noise with the tone of each class, at random levels and pitches."""
    samples = rng.normal(0, 0.01, RATE).astype(np.float32)
    for label in classes:
        frequency = 300 * 2**label * (1 + 0.02 * rng.random())
        samples += np.float32(rng.uniform(0.2, 1.0)) * tone(frequency, seed=int(rng.integers(10**6)))
    return samples
