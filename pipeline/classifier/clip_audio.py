"""Audio of clips in a report, read from their files again, where these are still there."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.audio.clip_files import is_row
from pipeline.audio.decode import AudioDecodeError
from pipeline.audio.features import FeatureConfig, load_clip, spectrogram
from pipeline.audio.recordings import read_windows
from pipeline.audio.waveform import fix_length
from pipeline.data.dataset import ShardDataset
from pipeline.io.errors import UserError
from pipeline.io.storage import is_store_uri
from pipeline.report.clips import audio_data_uri

# Mean difference of the spectrograms in dB from which on a file is another one than at extraction.
MAX_DIFFERENCE_DB = 0.5


def audio_facts(dataset: ShardDataset) -> dict[str, str]:
    """Return a fact for the top of a report if it has no players because of where the audio is."""
    paths = dataset.table["path"]
    if len(paths) and _is_remote_row(paths.iloc[0]):
        return {"audio": "not played: it is inside Parquet files in an object store"}
    return {}


def _is_remote_row(path: str) -> bool:
    return is_store_uri(path) and is_row(path)


def row_audio(dataset: ShardDataset, row: int) -> str | None:
    """Return the audio of a row of a dataset as a data URI.

    None if its file is gone, cannot be read, or has changed since extraction, which its spectrogram shows.
    """
    features = dataset.features
    samples = row_samples(dataset.table.iloc[row], dataset.mels[row], features)
    return None if samples is None else audio_data_uri(samples, features.mel.sample_rate)


def row_samples(row: pd.Series, mel: np.ndarray, features: FeatureConfig) -> np.ndarray | None:
    """Return the samples of a row of a dataset `[shape=(features.num_samples,)]`; None as `row_audio`.

    Args:
        row: its columns.
        mel: its spectrogram in dB `[shape=(n_mels, num_frames)]`.
        features: settings of the spectrograms.
    """
    try:
        samples = read_row(row, features)
    except (AudioDecodeError, UserError, OSError):
        return None
    if samples is None or not samples.size:
        return None
    stored = np.asarray(mel, np.float32)
    if not np.abs(spectrogram(samples, features) - stored).mean() <= MAX_DIFFERENCE_DB:
        return None
    return fix_length(samples, features.num_samples)


def read_row(row: pd.Series, features: FeatureConfig) -> np.ndarray | None:
    """Return the samples of a clip or of a window; None of a window or a Parquet row in an object store.

    For a few seconds, a long recording or a row group would be downloaded.

    Raises:
        AudioDecodeError, UserError, OSError: the file is gone, or cannot be read.
    """
    path, start = row["path"], row.get("start")
    if _is_remote_row(path) or (start is not None and is_store_uri(path)):
        return None
    if start is None:
        return load_clip(path, features)
    samples = next(iter(read_windows(path, [start], features.seconds, features.mel.sample_rate)))
    return samples if isinstance(samples, np.ndarray) else None
