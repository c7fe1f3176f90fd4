"""Log-mel spectrograms of a clip and its augmented copies: from an audio file to the rows of a shard."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from models.config import flat_values
from pipeline.audio.augment import AUGMENTATIONS, AugmentConfig, row_rng, sample_augmentations
from pipeline.audio.clip_files import FetchedFile, is_fetched
from pipeline.audio.decode import (
    AudioDecodeError,
    DecodeConfig,
    OnWarning,
    decode,
    ignore_warning,
)
from pipeline.audio.feature_settings import FeatureSettings
from pipeline.audio.file_types import unsupported_reason
from pipeline.audio.mel import MelConfig, log_mel
from pipeline.audio.waveform import fix_length, trim_silence
from pipeline.io.errors import UserError, explain_os_error

# Part of the fingerprint; raise it when the same settings produce different spectrograms.
SIGNAL_VERSION = 2
# Maximum input of an augmentation in clip lengths: enough for the samples that the highest speed consumes.
MAX_AUGMENTED_LENGTH = 1.5


class FeatureConfig(FeatureSettings):
    """Spectrogram settings, all of them known."""

    mel: MelConfig = MelConfig()
    """Log-mel spectrogram."""
    seconds: float = Field(5.0, ge=0.001, le=600)
    """Clip length in seconds; longer clips are cropped, shorter ones zero-padded."""

    @property
    def num_samples(self) -> int:
        """Number of samples of a clip."""
        return round(self.seconds * self.mel.sample_rate)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape `(n_mels, num_frames)` of a spectrogram."""
        return self.mel.n_mels, self.mel.num_frames(self.num_samples)

    @property
    def fingerprint(self) -> str:
        """Hash of the settings and `SIGNAL_VERSION`, 16 hexadecimal digits; equal for equal spectrograms."""
        text = json.dumps([SIGNAL_VERSION, self.to_dict()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def feature_mismatch(features: FeatureConfig, expected: FeatureConfig, owner: str) -> str | None:
    """Return the first different setting as `key = value (<owner> expected)`, or None if all are equal."""
    values, expected_values = flat_values(features.to_dict()), flat_values(expected.to_dict())
    return next(
        (
            f"{key} = {value} ({owner} {expected_values[key]})"
            for key, value in values.items()
            if value != expected_values[key]
        ),
        None,
    )


@dataclass(frozen=True)
class Spectrogram:
    """One shard row of a clip.

    `mel` is in dB, float16 `[shape=(n_mels, num_frames)]`; copy 0 is the original clip.
    """

    copy: int
    strength: float
    augmentation: str
    mel: np.ndarray


# Path or URI of an audio file, its content, or a file that has been read. The location of a row of a Parquet
# file is a path too.
ClipSource = str | os.PathLike[str] | bytes | FetchedFile


def load_clip(
    source: ClipSource,
    config: FeatureConfig,
    min_complete: float = DecodeConfig().min_complete,
    on_warning: OnWarning = ignore_warning,
) -> np.ndarray:
    """Return decoded, resampled and trimmed samples `[shape=(num_samples,)]` of any length.

    `min_complete` and `on_warning` are those of `decode`.

    Raises:
        AudioDecodeError: the file has no usable audio.
        UserError: the object store cannot be reached.
    """
    data = _decodable(source)
    try:
        samples = decode(data, config.mel.sample_rate, min_complete, on_warning)
    except AudioDecodeError as error:
        raise AudioDecodeError(_unsupported_reason(source, data) or str(error)) from None
    return trim_ends(samples, config)


def trim_ends(samples: np.ndarray, config: FeatureConfig) -> np.ndarray:
    """Return samples without silence at their ends, if the settings say so `[shape=(num_samples,)]`."""
    return samples if config.trim_db is None else trim_silence(samples, config.trim_db)


def _decodable(source: ClipSource) -> str | os.PathLike[str] | bytes:
    """Return a local path or the content of a file, which `decode` reads.

    An unreachable object store is no property of the clip, so that is another error.
    """
    if isinstance(source, (str, os.PathLike)) and is_fetched(os.fspath(source)):
        source = FetchedFile.fetch(os.fspath(source))
    if not isinstance(source, FetchedFile):
        return source
    with report_source_errors(source.path):
        return source.read()


@contextmanager
def report_source_errors(name: str) -> Iterator[None]:
    """Raise an error of the object that is read as `AudioDecodeError`, one of its store as `UserError`.

    `name` is the URI of the object, or the location of a row of a Parquet file.
    """
    try:
        yield
    except FileNotFoundError:
        raise AudioDecodeError("no such file") from None
    except OSError as error:
        raise UserError(explain_os_error(error, f"reading {name}")) from error
    except ValueError as error:  # a key that the storage layer does not accept, or a damaged row
        raise AudioDecodeError(f"unreadable: {error}") from None


def _unsupported_reason(source: ClipSource, data: str | os.PathLike[str] | bytes) -> str | None:
    if isinstance(source, bytes):
        return None
    path = source.path if isinstance(source, FetchedFile) else os.fspath(source)
    return unsupported_reason(path, data if isinstance(data, bytes) else None)


def spectrogram(
    samples: np.ndarray, config: FeatureConfig, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Compute the log-mel spectrogram of samples cropped or padded to the clip length.

    Returns:
        dB, float16 `[shape=(n_mels, num_frames)]`.
    """
    return log_mel(config.mel)(fix_length(samples, config.num_samples, rng)).astype(np.float16)


def split_windows(samples: np.ndarray, config: FeatureConfig, max_windows: int) -> list[np.ndarray]:
    """Split samples into evenly spaced windows of the clip length, from the first sample to the last.

    Returns the smallest number of windows that cover the samples, but at most `max_windows`. A single window
    is the center crop.
    """
    count = min(max_windows, -(-samples.size // config.num_samples))
    if count <= 1:
        return [fix_length(samples, config.num_samples)]
    starts = np.linspace(0, samples.size - config.num_samples, count).round().astype(int)
    return [samples[start : start + config.num_samples] for start in starts]


def spectrogram_rows(
    source: ClipSource,
    clip_id: str,
    features: FeatureConfig,
    augment: AugmentConfig,
    min_complete: float = DecodeConfig().min_complete,
    on_warning: OnWarning = ignore_warning,
) -> Iterator[Spectrogram]:
    """Yield the spectrogram of a clip, then those of its augmented copies.

    `min_complete` and `on_warning` are those of `decode`.

    Raises:
        AudioDecodeError: the file has no usable audio; raised before the first row.
        UserError: the object store cannot be reached; raised before the first row.
    """
    yield from sample_rows(load_clip(source, features, min_complete, on_warning), clip_id, features, augment)


def sample_rows(
    samples: np.ndarray, clip_id: str, features: FeatureConfig, augment: AugmentConfig
) -> Iterator[Spectrogram]:
    """Yield the spectrogram of samples `[shape=(num_samples,)]`, then those of their augmented copies."""
    yield Spectrogram(0, 0.0, "unchanged", spectrogram(samples, features))
    for copy in range(1, augment.copies + 1):
        rng = row_rng(augment.seed, clip_id, copy)
        names = sample_augmentations(augment, rng)
        strength = 1.0 - float(rng.random())
        augmented = _augmentation_window(samples, names, features, rng)
        for name in names:
            if name == "time_shift":  # circular, so it must happen within the final clip length
                augmented = fix_length(augmented, features.num_samples, rng)
            augmented = AUGMENTATIONS[name](augmented, features.mel.sample_rate, strength, rng)
        yield Spectrogram(copy, strength, "+".join(names), spectrogram(augmented, features, rng))


def _augmentation_window(
    samples: np.ndarray, names: Sequence[str], features: FeatureConfig, rng: np.random.Generator
) -> np.ndarray:
    """Return the random crop of a long clip to which augmentations are applied."""
    if names == ["time_shift"]:
        return samples
    max_samples = int(MAX_AUGMENTED_LENGTH * features.num_samples)
    return samples if samples.size <= max_samples else fix_length(samples, max_samples, rng)
