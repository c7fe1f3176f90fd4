"""Sounds as arrays, for programs and notebooks: files decoded, spectrograms, loudness."""

from __future__ import annotations

import math

import numpy as np

from pipeline.audio.feature_defaults import ClipFormat, resolve_features
from pipeline.audio.feature_settings import FeatureSettings
from pipeline.audio.features import ClipSource, FeatureConfig, load_clip
from pipeline.audio.features import spectrogram as clip_spectrogram
from pipeline.audio.mel import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, MelConfig
from pipeline.audio.recordings import read_recording
from pipeline.audio.sound_arguments import (
    check_features,
    check_samples,
    check_source,
    is_samples,
    note_source,
    refuse_rate,
    source_name,
)
from pipeline.audio.sound_samples import read_sound
from pipeline.audio.waveform import resample


def load_audio(source: ClipSource, sample_rate: int | None = None) -> tuple[np.ndarray, int]:
    """Decode an audio file of any supported format to mono.

    Example:
        >>> samples, rate = melray.load_audio("dog.flac")

    Args:
        source: path or URI of the file, or its content as bytes.
        sample_rate: resample to this rate in Hz (default: that of the file).

    Returns:
        Samples in [-1, 1], float32 `[shape=(num_samples,)]`, and their sample rate in Hz.

    Raises:
        AudioDecodeError: the file has no usable audio.
        UserError: its object store cannot be reached.
        ConfigError: a rate below 1000 Hz, or above 384,000 Hz.
        ValueError: no path, URI or content; or no rate for a file whose own is out of that range.
    """
    source = check_source(source)
    with note_source(source):
        rate = read_recording(source).sample_rate if sample_rate is None else sample_rate
        if sample_rate is None and not MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE:
            raise ValueError(
                f"{source_name(source)} has a sample rate of {rate:,} Hz: give load_audio the one to resample"
                f" to, {MIN_SAMPLE_RATE:,} to {MAX_SAMPLE_RATE:,}"
            )
        config = FeatureConfig(mel=MelConfig(sample_rate=rate), trim_db=None)
        return load_clip(source, config), config.mel.sample_rate


def spectrogram(
    sound: ClipSource | np.ndarray, features: FeatureConfig | None = None, sample_rate: float | None = None
) -> np.ndarray:
    """Compute the log-mel spectrogram of a sound, as training and prediction see it.

    Example:
        >>> melray.spectrogram("dog.flac").shape
        (128, 216)
        >>> melray.spectrogram("dog.flac", classifier.features).shape
        (128, 216)

    Args:
        sound: path or URI of an audio file, its content as bytes, or mono samples `[shape=(num_samples,)]`.
        features: settings, such as `classifier.features` or `dataset.features`: the sound is resampled,
            trimmed and cropped or padded by them (default: the whole sound at its own rate of up to
            22,050 Hz).
        sample_rate: rate of samples in Hz; not for a file, which has its own.

    Returns:
        dB, float16 `[shape=(n_mels, num_frames)]`.

    Raises:
        AudioDecodeError: the file has no usable audio.
        UserError: its object store cannot be reached.
        ValueError: samples without a rate, of several channels, or values that are not finite; a file
            with a rate; or no settings.
    """
    features = check_features(features)
    if features is not None:
        return clip_spectrogram(read_sound(sound, sample_rate, features), features)
    if is_samples(sound):
        samples, rate = check_samples(sound, sample_rate), float(sample_rate or 0)
    else:
        source = check_source(sound)
        refuse_rate(sample_rate)
        samples, rate = load_audio(source, _rate_of(source))
    features = _whole_sound(samples.size / rate, rate)
    return clip_spectrogram(resample(samples, rate, features.mel.sample_rate), features)


def _rate_of(source: ClipSource) -> int:
    """Return the sample rate of a file in Hz, within the range that `load_audio` decodes to."""
    with note_source(source):
        return min(max(read_recording(source).sample_rate, MIN_SAMPLE_RATE), MAX_SAMPLE_RATE)


def _whole_sound(seconds: float, rate: float) -> FeatureConfig:
    """Return settings as `melray extract` chooses them for clips of a rate, with the length of a sound."""
    chosen = resolve_features(FeatureSettings(trim_db=None), lambda: [ClipFormat(rate, min(seconds, 5.0))])
    return chosen.model_copy(update={"seconds": seconds})


def loudness(samples: np.ndarray, sample_rate: float) -> float:
    """Return the level of the loudest 0.4 s in dB RMS, 0 for full scale; minus infinity for silence.

    Example:
        >>> melray.loudness(samples, 22_050)
        -23.4

    Args:
        samples: mono, in [-1, 1] `[shape=(num_samples,)]`.
        sample_rate: their rate in Hz.

    Raises:
        ValueError: no samples, several channels, or values that are not finite.
    """
    import torch  # slow to import

    from pipeline.audio.loudness import max_power

    power = float(max_power(torch.from_numpy(check_samples(samples, sample_rate))[None], sample_rate)[0])
    return 10 * math.log10(power) if power > 0 else -math.inf


def normalize_loudness(samples: np.ndarray, sample_rate: float) -> np.ndarray:
    """Amplify a quiet sound until its loudest 0.4 s are at -26 dB RMS, and attenuate one that clips.

    Example:
        >>> samples = melray.normalize_loudness(samples, 22_050)

    Args:
        samples: mono, in [-1, 1] `[shape=(num_samples,)]`.
        sample_rate: their rate in Hz.

    Returns:
        float32 `[shape=(num_samples,)]`, with a peak of at most 0.97.

    Raises:
        ValueError: no samples, several channels, or values that are not finite.
    """
    import torch  # slow to import

    from pipeline.audio import loudness as tensors

    batch_BN = torch.from_numpy(check_samples(samples, sample_rate))[None]
    normalized: np.ndarray = tensors.normalize_loudness(batch_BN, round(sample_rate))[0].numpy()
    return normalized
