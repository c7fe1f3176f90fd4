"""Real clips of a class from the dataset that a run was trained on, to compare generated ones with."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cluster.serving.clip_media import mel_png
from cluster.serving.messages import ServedClip
from pipeline.audio.features import FeatureConfig
from pipeline.audio.vocoder import Vocoder
from pipeline.audio.waveform import encode_wav
from pipeline.classifier.clip_audio import row_samples
from pipeline.classifier.predictor_model import member_runs
from pipeline.data.labels import split_labels
from pipeline.data.rows import read_rows
from pipeline.data.shard_manifest import ShardManifest, open_shards
from pipeline.data.shards import mel_values, read_shard
from pipeline.gan.sampling import mels_to_samples
from pipeline.io.console import logger
from pipeline.io.errors import UserError
from pipeline.io.storage import to_path
from pipeline.report.selection import evenly_spaced
from pipeline.training.run_folder import RunFolder

MAX_EXAMPLES = 6
# Classes whose clips are kept: 1 MB each for clips of 5 s.
MAX_CLASSES = 32


@dataclass(frozen=True)
class Example:
    """A real clip."""

    clip_id: str
    clip: ServedClip


class Examples:
    """Real clips of the classes of runs; each class is read when it is first needed."""

    def __init__(self, runs: Mapping[str, Path]):
        """Take the runs by name."""
        self._runs = runs
        self._lock = threading.Lock()
        self._clips: OrderedDict[tuple[str, str], list[Example]] = OrderedDict()

    def get(self, name: str, label: str) -> list[Example]:
        """Return up to `MAX_EXAMPLES` clips of a class; none if the dataset of the run is gone.

        Takes up to seconds; several threads may call it.
        """
        key = name, label
        with self._lock:
            if key not in self._clips:
                try:
                    self._clips[key] = _read_examples(self._runs[name], label)
                except (UserError, OSError) as error:
                    logger.warning("no real clips of %s: %s", name, error)
                    return []
                while len(self._clips) > MAX_CLASSES:
                    self._clips.popitem(last=False)
            self._clips.move_to_end(key)
            return self._clips[key]


def _read_examples(run: Path, label: str) -> list[Example]:
    """Read clips of a class.

    Raises:
        UserError: the dataset is gone or damaged.
    """
    content = RunFolder(member_runs(run)[0]).read_config(("shards",)) or {}
    if "shards" not in content:
        return []
    folder = to_path(Path(content["shards"]))
    manifest = open_shards(folder)
    table = read_rows(folder).table
    rows = _rows_of(table, label, manifest.multi_label)
    mels = _read_mels(folder, manifest, rows)
    return [
        _make_example(table.iloc[row], mel, manifest.features)
        for row, mel in zip(rows.tolist(), mels, strict=True)
    ]


def _rows_of(table: pd.DataFrame, label: str, multi_label: bool) -> np.ndarray:
    """Return evenly spaced rows of a class, of clips that are not augmented."""
    has_label = (
        table["label"].map(lambda text: label in split_labels(text))
        if multi_label
        else table["label"] == label
    )
    rows = np.flatnonzero(has_label.to_numpy(bool) & (table["copy"] == 0).to_numpy())
    return rows[evenly_spaced(len(rows), MAX_EXAMPLES)]


def _read_mels(folder: Path, manifest: ShardManifest, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the spectrograms of ascending rows, float32; a shard is read once for all of its rows."""
    ends = np.cumsum([shard.rows for shard in manifest.shards])
    indices = np.searchsorted(ends, rows, side="right")
    for index in np.unique(indices).tolist():
        shard = manifest.shards[index]
        mels = mel_values(read_shard(folder / shard.name, ["mel"]), manifest.features.shape)
        for row in rows[indices == index] - (ends[index] - shard.rows):
            yield np.asarray(mels[row], np.float32)


def _make_example(row: pd.Series, mel: np.ndarray, features: FeatureConfig) -> Example:
    """Return a clip: from its file, or if that is gone or has changed, from its spectrogram."""
    samples = row_samples(row, mel, features)
    if samples is None:
        samples = _vocode(mel, features)
    wav = encode_wav(np.clip(samples, -1.0, 1.0), features.mel.sample_rate)
    return Example(str(row["clip_id"]), ServedClip(wav, mel_png(mel)))


def _vocode(mel: np.ndarray, features: FeatureConfig) -> np.ndarray:
    samples: np.ndarray = mels_to_samples(mel[None], features, Vocoder(features.mel), [0])[0]
    return samples
