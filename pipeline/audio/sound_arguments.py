"""Sounds and settings that a Python program passes: checked, and converted where the meaning is clear."""

from __future__ import annotations

import numbers
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeGuard, get_args, get_origin

import numpy as np

from pipeline.audio.decode import AudioDecodeError
from pipeline.audio.features import ClipSource, FeatureConfig
from pipeline.io.arguments import check_number, shown_value
from pipeline.io.storage import user_path

# Rates of samples in Hz: beyond them resampling takes the memory of the computer.
MIN_RATE, MAX_RATE = 100, 10_000_000
_SOURCE_TYPES = tuple(get_origin(kind) or kind for kind in get_args(ClipSource))


def is_samples(sound: Any) -> TypeGuard[np.ndarray]:
    """Return whether a sound is given as samples: an array, a tensor or a list, rather than as a file."""
    if isinstance(sound, (list, tuple)):
        return all(isinstance(value, numbers.Real) for value in sound[:1])
    return hasattr(sound, "__array__")


def check_source(source: Any) -> ClipSource:
    """Return an audio file, given as its path, URI or content.

    Raises:
        ValueError: another type.
        UserError: a URI of an unsupported kind.
    """
    if isinstance(source, (bytearray, memoryview)):
        return bytes(source)
    if not isinstance(source, _SOURCE_TYPES):
        hint = "; samples are classified by classify_samples or predict" if is_samples(source) else ""
        raise ValueError(
            f"audio file {shown_value(source)}: expected a path or URI, or the content of a file as "
            f"bytes{hint}"
        )
    if isinstance(source, str) and "://" in source:
        user_path(source)
    return source


@contextmanager
def note_source(source: ClipSource) -> Iterator[None]:
    """Add the path of an audio file to errors, which a traceback shows below their reason."""
    try:
        yield
    except AudioDecodeError as error:
        error.add_note(source_name(source))
        raise


def source_name(source: ClipSource) -> str:
    """Return the path of an audio file, or of content without one the number of its bytes."""
    if isinstance(source, bytes):
        return f"<{len(source)} bytes>"
    return source if isinstance(source, str) else str(getattr(source, "path", source))


def refuse_rate(sample_rate: Any) -> None:
    """Raise `ValueError` if a rate is given with an audio file, which has a rate of its own."""
    if sample_rate is not None:
        raise ValueError(
            f"sample_rate {shown_value(sample_rate)}: is for samples, and a file has its own; leave it out"
        )


def check_samples(samples: Any, sample_rate: Any) -> np.ndarray:
    """Return mono samples, of any floating point type, as a float32 array that may be written to.

    Raises:
        ValueError: no samples, several channels, values that are not finite, or no usable rate.
    """
    if sample_rate is None:
        raise ValueError("sample_rate None: give the rate of the samples in Hz, such as 22050")
    check_number("sample_rate", sample_rate, MIN_RATE, MAX_RATE, "Hz")
    if hasattr(samples, "detach"):  # a tensor, maybe with a gradient, maybe of a GPU
        samples = samples.detach().cpu()
    array = np.asarray(samples)
    if array.dtype.kind in "iu":
        full_scale = f" / {2 ** (8 * array.dtype.itemsize - 1)}" if array.dtype.kind == "i" else ""
        raise ValueError(
            f"samples of type {array.dtype}: expected floating point in [-1, 1]; divide them by full scale, "
            f"as samples{full_scale or ' / 127.5 - 1'}"
        )
    if array.dtype.kind != "f":
        raise ValueError(f"samples of type {array.dtype}: expected floating point in [-1, 1]")
    if array.ndim != 1 or not array.size:
        raise ValueError(
            f"samples of shape {array.shape}: expected mono (num_samples,), at least one; the mean over "
            "channels is mono"
        )
    with np.errstate(over="ignore"):
        array = np.require(array, np.float32, ["C_CONTIGUOUS", "WRITEABLE"])
    if not np.isfinite(array).all():
        first = int(np.flatnonzero(~np.isfinite(array))[0])
        raise ValueError(f"samples with {array[first]} at index {first}: expected finite values; replace it")
    return array


def check_features(features: Any) -> FeatureConfig | None:
    """Return settings of spectrograms, or None.

    Raises:
        ValueError: another type.
    """
    if features is None or isinstance(features, FeatureConfig):
        return features
    raise ValueError(
        f"features {shown_value(features)}: expected melray.FeatureConfig, such as classifier.features"
    )


def check_mels(mels: Any, features: FeatureConfig) -> np.ndarray:
    """Return spectrograms of a model's settings, of any floating point type.

    Raises:
        ValueError: another shape or type.
    """
    array = np.asarray(mels)
    n_mels, num_frames = features.shape
    if array.dtype.kind != "f" or array.ndim != 3 or array.shape[1:] != features.shape:
        raise ValueError(
            f"mels of shape {array.shape} and type {array.dtype}: expected spectrograms in dB of shape "
            f"(N, {n_mels}, {num_frames}), such as melray.spectrogram(sound, classifier.features)[None]"
        )
    return array
