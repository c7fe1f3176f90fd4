"""From the bytes of a sound to its spectrograms: what a worker process of a replica does.

Bytes are not trusted. The length of a sound is checked before it is decoded, by its header or, where that
has none, by decoding block by block without keeping the samples; no decoder returns more samples than the
header declares. A decoder that hangs is ended by its replica.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from cluster.serving.messages import Rejection, Sound, SoundImage
from pipeline.audio.decode import AudioDecodeError
from pipeline.audio.features import FeatureConfig, load_clip, spectrogram
from pipeline.audio.file_types import unsupported_reason
from pipeline.audio.recordings import Recording, read_recording, read_windows, window_spectrograms
from pipeline.data.windows import window_count, window_starts
from pipeline.distributed.worker import disable_malloc_trim, release_memory
from pipeline.report.clips import MAX_BANDS, spectrogram_data_uri
from pipeline.report.recording_media import read_media
from pipeline.report.tiles import contrast_scale, mean_columns

# Sounds up to this many lengths of a clip are classified as a whole, like the clips of a dataset.
WHOLE_LENGTHS = 1.5
# So are sounds up to this many lengths that are as short once the silence around them is trimmed.
MAX_TRIMMED_LENGTHS = 12.0
# Their spectrograms take about 0.1 MB each.
MAX_WINDOWS = 2000
MAX_IMAGE_COLUMNS = 4096
# Files after which memory is given back to the system.
LARGE_BYTES = 8_000_000
MAX_WARNINGS = 20


@dataclass(frozen=True)
class SoundSpectrograms:
    """Spectrograms of a sound."""

    recording: Recording
    mels: np.ndarray
    """Of what can be read of it, in dB, float16 `[shape=(N, n_mels, num_frames)]`."""
    starts: list[float] | None = None
    """Start of each window in seconds, also of unreadable ones; None: it is one clip."""
    hop: float = 0.0
    readable: list[int] = field(default_factory=list)
    """Indices of the windows that `mels` are of."""
    warnings: list[str] = field(default_factory=list)
    image: SoundImage | None = None


def analyze(sound: Sound, features: FeatureConfig, max_seconds: float) -> SoundSpectrograms | Rejection:
    """Decode a sound of up to `max_seconds`, and compute its spectrograms."""
    disable_malloc_trim()
    try:
        result = _analyze(sound, features, max_seconds)
        if isinstance(result, SoundSpectrograms) and sound.wants_image:
            return replace(result, image=_image(sound.content, result.recording, features))
        return result
    except AudioDecodeError as error:
        return Rejection(422, unsupported_reason(sound.name, sound.content) or str(error))
    finally:
        if len(sound.content) > LARGE_BYTES:
            release_memory()


def _analyze(sound: Sound, features: FeatureConfig, max_seconds: float) -> SoundSpectrograms | Rejection:
    try:
        recording = read_recording(sound.content, max_seconds)
    except AudioDecodeError:
        load_clip(sound.content, features)  # raises the reason that `melray predict` gives
        raise
    if recording.seconds > max_seconds:
        return Rejection(413, f"longer than the {max_seconds:g} s that this server accepts")
    if sound.hop is None and recording.seconds <= WHOLE_LENGTHS * features.seconds:
        return _whole(sound.content, recording, features)
    if sound.hop is None and (trimmed := _trimmed(sound.content, recording, features)) is not None:
        return trimmed
    hop = features.seconds / 2 if sound.hop is None else sound.hop
    if hop > features.seconds:
        return Rejection(422, f"hop {hop:g}: leaves gaps between windows of {features.seconds:g} s; lower it")
    if window_count(recording.seconds, features.seconds, features.seconds) > MAX_WINDOWS:
        longest = MAX_WINDOWS * features.seconds
        return Rejection(
            413,
            f"longer than {longest:g} s, which are {MAX_WINDOWS:,} windows; use `melray predict --window`",
        )
    count = window_count(recording.seconds, features.seconds, hop)
    if count > MAX_WINDOWS:
        return Rejection(422, f"hop {hop:g}: {count:,} windows, more than {MAX_WINDOWS:,}; raise it")
    # Of a short sound there is one window, but its events are on a grid of the hop.
    if features.seconds / hop > MAX_WINDOWS:
        least = features.seconds / MAX_WINDOWS
        return Rejection(422, f"hop {hop:g}: less than {least:g} s, 1/{MAX_WINDOWS:,} of a clip; raise it")
    return _windows(sound.content, recording, features, hop)


def _whole(content: bytes, recording: Recording, features: FeatureConfig) -> SoundSpectrograms:
    warnings: list[str] = []
    samples = load_clip(content, features, on_warning=warnings.append)
    return SoundSpectrograms(recording, spectrogram(samples, features)[None], warnings=warnings)


def _trimmed(content: bytes, recording: Recording, features: FeatureConfig) -> SoundSpectrograms | None:
    """Return a sound with silence around it as one clip; None if it is too long for that.

    In windows, silence that the model was never trained on would have its part in the mean.
    """
    if features.trim_db is None or recording.seconds > MAX_TRIMMED_LENGTHS * features.seconds:
        return None
    warnings: list[str] = []
    try:
        samples = load_clip(content, features, on_warning=warnings.append)
    except AudioDecodeError:  # some of its windows may be readable
        return None
    if samples.size > WHOLE_LENGTHS * features.num_samples:
        return None
    return SoundSpectrograms(recording, spectrogram(samples, features)[None], warnings=warnings)


def _windows(content: bytes, recording: Recording, features: FeatureConfig, hop: float) -> SoundSpectrograms:
    """Compute the spectrograms of all windows.

    Raises:
        AudioDecodeError: none of them can be read.
    """
    starts = window_starts(recording.seconds, features.seconds, hop)
    warnings: list[str] = []
    rate = features.mel.sample_rate
    outcomes = read_windows(content, starts, features.seconds, rate, on_warning=warnings.append)
    mels, readable, errors = window_spectrograms(outcomes, features)
    if not readable:
        raise errors[0]
    if errors:
        warnings.append(f"{len(errors)} of {len(starts)} windows cannot be read: {errors[0]}")
    shown = list(dict.fromkeys(warnings))[-MAX_WARNINGS:]
    return SoundSpectrograms(recording, mels, starts, hop, readable, shown)


def _image(content: bytes, recording: Recording, features: FeatureConfig) -> SoundImage | None:
    """Return the image of a sound; None of one that can be decoded as a whole, but not in blocks."""
    try:
        columns = read_media(content, recording, features.mel, max_audio_bytes=0).columns
    except AudioDecodeError:
        return None
    factor = -(-columns.columns.shape[1] // MAX_IMAGE_COLUMNS)
    image = mean_columns(columns.columns, factor)
    width = image.shape[1]
    png = spectrogram_data_uri(image, contrast_scale(image), (MAX_BANDS, width))
    return SoundImage(png, width * factor * columns.column_seconds)
