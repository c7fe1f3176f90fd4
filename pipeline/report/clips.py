"""Clips on a page: spectrograms as small palette PNGs with their axes, and audio, both as data URIs."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import soundfile
from librosa import hz_to_mel
from matplotlib import colormaps
from matplotlib.ticker import MaxNLocator
from PIL import Image

if TYPE_CHECKING:
    from pipeline.audio.mel import MelConfig

COLORMAP = "magma"
# Steps of 1.25 dB over 80 dB: they look the same as 256 colors, in a third less space.
NUM_COLORS = 64
# Range below the maximum level, in dB.
SPAN_DB = 80.0
# Images are about 300 pixels wide on a page; larger spectrograms are averaged.
MAX_BANDS, MAX_FRAMES = 160, 400
# Minimum distance of two frequency ticks, as a fraction of the axis.
MIN_TICK_DISTANCE = 0.115

Scale = tuple[float, float]
"""dB values of the darkest and the lightest color."""


def decibel_scale(mels: Iterable[np.ndarray], span: float = SPAN_DB) -> Scale:
    """Return one scale for spectrograms `[shape=(n_mels, num_frames)]`: `span` dB up to the maximum level.

    The maximum is a multiple of 5 dB, from the 99.9th percentile, so that a click does not darken all images.
    """
    levels = [float(np.percentile(finite, 99.9)) for mel in mels if (finite := _finite(mel)).size]
    high = 5.0 * math.ceil(max(levels, default=0.0) / 5.0)
    return high - span, high


@dataclass(frozen=True)
class Spectrogram:
    """A spectrogram for a page: an image and its axes as pairs of position in % and text."""

    image: str
    """PNG as a data URI."""
    frequencies: list[tuple[str, str]]
    """From the bottom."""
    times: list[tuple[str, str]]
    """From the left."""


def spectrogram(mel: np.ndarray, config: MelConfig, scale: Scale) -> Spectrogram:
    """Return the image and the axes of a spectrogram.

    Args:
        mel: in dB `[shape=(n_mels, num_frames)]`.
        config: configuration of the spectrogram, for the axes.
        scale: dB values of the darkest and the lightest color.
    """
    bands, frames = mel.shape
    frequencies = [
        (f"{100 * position:.1f}", f"{hertz / 1000:g}k" if hertz >= 1000 else f"{hertz:g}")
        for hertz, position in frequency_ticks(config, bands)
    ]
    times = [(f"{100 * position:.1f}", f"{seconds:g}") for seconds, position in time_ticks(config, frames)]
    return Spectrogram(spectrogram_data_uri(mel, scale), frequencies, times)


def spectrogram_data_uri(
    mel: np.ndarray, scale: Scale, max_shape: tuple[int, int] = (MAX_BANDS, MAX_FRAMES)
) -> str:
    """Return a PNG of a spectrogram as a data URI; arguments as `pixel_png`."""
    return "data:image/png;base64," + base64.b64encode(pixel_png(mel, scale, max_shape)).decode()


def pixel_png(mel: np.ndarray, scale: Scale, max_shape: tuple[int, int]) -> bytes:
    """Return a PNG of a spectrogram: a pixel per value, up to `max_shape`; low bands below."""
    low, high = scale
    values = np.nan_to_num(_reduce(np.asarray(mel, np.float32), max_shape), nan=low, posinf=high, neginf=low)
    steps = np.clip((values - low) / (high - low) * NUM_COLORS, 0, NUM_COLORS - 1).astype(np.uint8)
    # Palette images take a third of the space of RGB.
    image = Image.fromarray(np.ascontiguousarray(steps[::-1]))
    image.putpalette(_palette())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=9)
    return buffer.getvalue()


@dataclass(frozen=True)
class ColorBar:
    """The legend of the colors of spectrograms."""

    image: str
    """PNG as a data URI, dark to light."""
    values: list[str]
    """Values in dB, evenly spaced from the left end to the right."""
    description: str


def color_bar(scale: Scale) -> ColorBar:
    """Return the legend of a scale."""
    low, high = scale
    ramp = spectrogram_data_uri(np.linspace(low, high, 4 * NUM_COLORS)[None, :], scale)
    values = [f"{value:.0f}".replace("-", "\u2212") for value in np.linspace(low, high, 5)]
    return ColorBar(ramp, values, f"Colors from {low:.0f} dB (dark) to {high:.0f} dB (light)")


def frequency_ticks(config: MelConfig, bands: int) -> list[tuple[float, float]]:
    """Return round frequencies in Hz and their positions on the mel axis, 0 (bottom) to 1 (top)."""
    low = hz_to_mel(config.fmin)
    step = (hz_to_mel(config.sample_rate / 2 if config.fmax is None else config.fmax) - low) / (bands + 1)
    ticks: list[tuple[float, float]] = []
    # Powers of two times 1 kHz are easiest to read on a logarithmic axis.
    for hertz in (0, 64, 128, 256, 512, 1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 128_000):
        # The center of band i is i + 1 steps above the lower edge, and the band is plotted from i to i + 1.
        position = float((hz_to_mel(hertz) - low) / step - 0.5) / bands
        if 0.0 <= position <= 1.0 and (not ticks or position - ticks[-1][1] >= MIN_TICK_DISTANCE):
            ticks.append((float(hertz), position))
    return ticks


def time_ticks(config: MelConfig, frames: int) -> list[tuple[float, float]]:
    """Return round times in seconds and their positions, 0 (left) to 1 (right)."""
    per_frame = config.hop_length / config.sample_rate
    values = MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(0.0, frames * per_frame)
    # Frame i is centered on its time and plotted from i to i + 1.
    positions = [(float(f"{seconds:.9g}"), (seconds / per_frame + 0.5) / frames) for seconds in values]
    return [(seconds, position) for seconds, position in positions if 0.0 < position <= 1.0]


def _finite(mel: np.ndarray) -> np.ndarray:
    values = np.asarray(mel, np.float32)
    return values[np.isfinite(values)]


def _reduce(mel: np.ndarray, max_shape: tuple[int, int]) -> np.ndarray:
    """Average blocks along both axes, so that neither is longer than in `max_shape`."""
    for axis, size in enumerate(max_shape):
        length = mel.shape[axis]
        if length > size:
            edges = np.linspace(0, length, size + 1).round().astype(int)
            counts = np.diff(edges)
            mel = np.add.reduceat(mel, edges[:-1], axis=axis) / (counts[:, None] if axis == 0 else counts)
    return mel


@cache
def _palette() -> bytes:
    colors = colormaps[COLORMAP](np.linspace(0.0, 1.0, NUM_COLORS))[:, :3]
    return (255 * colors).round().astype(np.uint8).tobytes()


# Sample rates of MP3 in Hz; none if libsndfile lacks MP3.
MP3_RATES = (
    (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
    if soundfile.check_format("MP3")
    else ()
)
# Compression level of libsndfile, 0 to 1, at a variable bit rate: 5 s at 22,050 Hz take about 30 kB, 1/7 of
# WAV, and the spectrogram stays within 0.7 dB on average. A constant bit rate that is as small loses the
# header with the length.
COMPRESSION = 0.1


def audio_data_uri(samples: np.ndarray, rate: int) -> str:
    """Encode mono samples as a data URI: MP3, or 16-bit WAV at a sample rate that MP3 lacks.

    Args:
        samples: in [-1, 1] `[shape=(num_samples,)]`.
        rate: sample rate in Hz.
    """
    # The MP3 encoder crashes the process on values that are not finite or far beyond full scale.
    samples = np.clip(np.nan_to_num(np.asarray(samples, np.float32)), -1.0, 1.0)
    buffer = io.BytesIO()
    if rate in MP3_RATES:
        soundfile.write(
            buffer, samples, rate, format="MP3", bitrate_mode="VARIABLE", compression_level=COMPRESSION
        )
        mime_type = "audio/mpeg"
    else:
        soundfile.write(buffer, samples, rate, format="WAV", subtype="PCM_16")
        mime_type = "audio/wav"
    return f"data:{mime_type};base64,{base64.b64encode(buffer.getvalue()).decode()}"
