"""Sounds that a Python program passes, as samples that a model can use: resampled and trimmed."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.audio.decode import OnWarning, ignore_warning
from pipeline.audio.features import FeatureConfig, load_clip, trim_ends
from pipeline.audio.sound_arguments import check_samples, check_source, is_samples, note_source, refuse_rate
from pipeline.audio.waveform import resample


def read_sound(
    sound: Any, sample_rate: float | None, features: FeatureConfig, on_warning: OnWarning = ignore_warning
) -> np.ndarray:
    """Return the samples of a sound of either kind, as `read_file` and `prepare_samples`.

    Args:
        sound: path or URI of an audio file, its content as bytes, or mono samples `[shape=(num_samples,)]`.
        sample_rate: rate of samples in Hz; None for a file, which has its own.
        features: settings of the spectrograms.
        on_warning: called with each reason why the samples of a file may not be what they should be.

    Raises:
        AudioDecodeError: the file has no usable audio.
        UserError: its object store cannot be reached.
        ValueError: as `prepare_samples`; or a file with a rate.
    """
    if is_samples(sound):
        return prepare_samples(sound, sample_rate, features)
    source = check_source(sound)
    refuse_rate(sample_rate)
    return read_file(source, features, on_warning)


def read_file(source: Any, features: FeatureConfig, on_warning: OnWarning = ignore_warning) -> np.ndarray:
    """Return the samples of an audio file, of any length, resampled and trimmed by the settings.

    Raises:
        AudioDecodeError: the file has no usable audio.
        UserError: its object store cannot be reached.
        ValueError: no path, URI or content.
    """
    source = check_source(source)
    with note_source(source):
        return load_clip(source, features, on_warning=on_warning)


def prepare_samples(samples: Any, sample_rate: float | None, features: FeatureConfig) -> np.ndarray:
    """Return samples of any rate resampled and trimmed by the settings.

    Raises:
        ValueError: no samples, several channels, values that are not finite, or no usable rate.
    """
    samples = check_samples(samples, sample_rate)
    return trim_ends(resample(samples, float(sample_rate or 0), features.mel.sample_rate), features)
