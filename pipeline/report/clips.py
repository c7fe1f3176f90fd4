"""Spectrograms as pictures for a page: an inline SVG with axes in seconds and hertz around a small palette PNG."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import soundfile
from matplotlib import colormaps
from PIL import Image

from pipeline.report.charts import format_number, ticks
from pipeline.report.page import escape

if TYPE_CHECKING:
    from pipeline.audio.mel import MelConfig


COLORMAP = "magma"
# Steps of 1.25 dB over 80 dB: no difference is seen to 256 colours, and the file is a third smaller.
NUM_COLOURS = 64
# Range shown below the loudest value, in dB.
SPAN_DB = 80.0
# A picture is shown some 300 pixels wide; more than this is averaged away.
MAX_BANDS, MAX_FRAMES = 160, 400
# Size of a picture and its plotting area, in the units of its view box.
WIDTH, HEIGHT = 320, 190
LEFT, RIGHT, TOP, BOTTOM = 36, 306, 18, 166
# Least distance of two frequency ticks, in the same units.
TICK_DISTANCE = 17

Scale = tuple[float, float]
"""The dB values of the darkest and the lightest colour."""


def decibel_scale(mels: Iterable[np.ndarray], span: float = SPAN_DB) -> Scale:
    """One scale for all of `mels` `[shape=(n_mels, num_frames)]`: `span` dB below the loudest, on multiples of 5 dB.

    Values are taken as loudest at the 99.9th percentile, so that a click does not darken every picture.
    """
    levels = [float(np.percentile(finite, 99.9)) for mel in mels if (finite := _finite(mel)).size]
    high = 5.0 * math.ceil(max(levels, default=0.0) / 5.0)
    return high - span, high


def spectrogram_svg(mel: np.ndarray, config: MelConfig, scale: Scale, alt: str) -> str:
    """An SVG of a spectrogram with its axes.

    Args:
        mel: in dB `[shape=(n_mels, num_frames)]`.
        config: how it was made; gives the axes.
        scale: dB values of the darkest and the lightest colour.
        alt: what the picture shows, for those who cannot see it.
    """
    bands, frames = mel.shape
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" font-size="11" role="img" aria-label="{escape(alt)}">',
        f'<image x="{LEFT}" y="{TOP}" width="{RIGHT - LEFT}" height="{BOTTOM - TOP}" preserveAspectRatio="none"'
        f' href="{spectrogram_data_uri(mel, scale)}"/>',
        f'<text x="{LEFT - 7}" y="10" text-anchor="end">Hz</text>',
    ]
    for hertz, place in frequency_ticks(config, bands):
        y = BOTTOM - (BOTTOM - TOP) * place
        parts.append(f'<path class="axis" d="M{LEFT - 4} {y:.1f}h4"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{_hertz(hertz)}</text>')
    shown = time_ticks(config, frames)
    for seconds, place in shown:
        x = LEFT + (RIGHT - LEFT) * place
        unit = " s" if seconds == shown[-1][0] else ""
        parts.append(f'<path class="axis" d="M{x:.1f} {BOTTOM}v4"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{BOTTOM + 16}" text-anchor="middle">{format_number(seconds)}{unit}</text>'
        )
    return "".join([*parts, "</svg>"])


def gallery_figure(
    html: str, name: str, mel: np.ndarray, config: MelConfig, scale: Scale, alt: str, below: str = ""
) -> str:
    """A spectrogram under its caption `html`, with the clip's name small; `below` is HTML that goes with it."""
    caption = f'<figcaption>{html}<span class="sub">{escape(name)}</span></figcaption>'
    return f"<figure>{caption}{spectrogram_svg(mel, config, scale, alt)}{below}</figure>"


def spectrogram_data_uri(
    mel: np.ndarray, scale: Scale, most: tuple[int, int] = (MAX_BANDS, MAX_FRAMES)
) -> str:
    """A PNG of a spectrogram as a data URI, one pixel per value, or `most` of a larger one; low frequencies below."""
    low, high = scale
    values = np.nan_to_num(_reduce(np.asarray(mel, np.float32), most), nan=low, posinf=high, neginf=low)
    steps = np.clip((values - low) / (high - low) * NUM_COLOURS, 0, NUM_COLOURS - 1).astype(np.uint8)
    # Palette pictures take a third of the space of RGB.
    image = Image.fromarray(np.ascontiguousarray(steps[::-1]))
    image.putpalette(_palette())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=9)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def color_bar(scale: Scale) -> str:
    """A legend of the colours, in dB."""
    low, high = scale
    ramp = spectrogram_data_uri(np.linspace(low, high, 4 * NUM_COLOURS)[None, :], scale)
    left, right = 16, 216
    parts = [
        '<svg class="fixed ramp" width="260" height="34" viewBox="0 0 260 34" font-size="11" role="img"'
        f' aria-label="Colours from {low:.0f} dB, dark, to {high:.0f} dB, light">',
        f'<image x="{left}" y="2" width="{right - left}" height="10" preserveAspectRatio="none" href="{ramp}"/>',
    ]
    for value in np.linspace(low, high, 5):
        x = left + (right - left) * (value - low) / (high - low)
        text = f"{value:.0f}".replace("-", "\u2212")
        parts.append(f'<text x="{x:.1f}" y="26" text-anchor="middle">{text}</text>')
    return "".join([*parts, f'<text x="{right + 20}" y="26">dB</text></svg>'])


def frequency_ticks(config: MelConfig, bands: int) -> list[tuple[float, float]]:
    """Round frequencies in Hz and their places on the mel axis, from 0 at the lower edge to 1 at the upper."""
    low = _mel(config.fmin)
    step = (_mel(config.sample_rate / 2 if config.fmax is None else config.fmax) - low) / (bands + 1)
    least = TICK_DISTANCE / (BOTTOM - TOP)
    chosen: list[tuple[float, float]] = []
    # Powers of two times 1 kHz read best where the scale is logarithmic.
    for hertz in (0, 64, 128, 256, 512, 1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 128_000):
        # Band i is centred i + 1 steps above the lower edge, and drawn from i to i + 1.
        place = ((_mel(hertz) - low) / step - 0.5) / bands
        if 0.0 <= place <= 1.0 and (not chosen or place - chosen[-1][1] >= least):
            chosen.append((float(hertz), place))
    return chosen


def time_ticks(config: MelConfig, frames: int) -> list[tuple[float, float]]:
    """Round times in seconds and their places, from 0 at the left edge to 1 at the right."""
    per_frame = config.hop_length / config.sample_rate
    # Frame i is centred on its time, and drawn from i to i + 1.
    places = [
        (seconds, (seconds / per_frame + 0.5) / frames) for seconds in ticks(0.0, frames * per_frame, 6)
    ]
    return [(seconds, place) for seconds, place in places if place <= 1.0]


def _mel(hertz: float) -> float:
    """Slaney's mel scale, the one of librosa: linear up to 1 kHz, logarithmic above."""
    return 3.0 * hertz / 200.0 if hertz < 1000.0 else 15.0 + 27.0 * math.log(hertz / 1000.0) / math.log(6.4)


def _hertz(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def _finite(mel: np.ndarray) -> np.ndarray:
    values = np.asarray(mel, np.float32)
    return values[np.isfinite(values)]


def _reduce(mel: np.ndarray, most: tuple[int, int]) -> np.ndarray:
    """Means over blocks along both axes, so that neither is longer than `most`."""
    for axis, size in enumerate(most):
        length = mel.shape[axis]
        if length > size:
            edges = np.linspace(0, length, size + 1).round().astype(int)
            counts = np.diff(edges)
            mel = np.add.reduceat(mel, edges[:-1], axis=axis) / (counts[:, None] if axis == 0 else counts)
    return mel


@lru_cache(maxsize=1)
def _palette() -> bytes:
    colours = colormaps[COLORMAP](np.linspace(0.0, 1.0, NUM_COLOURS))[:, :3]
    return (255 * colours).round().astype(np.uint8).tobytes()


# The rates that MP3 knows, in Hz; a libsndfile without MP3 takes none.
MP3_RATES = (
    (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
    if soundfile.check_format("MP3")
    else ()
)
# Of libsndfile, from 0 to 1, with a variable bit rate: five seconds at 22,050 Hz take some 30 kB, a seventh of WAV, and their
# spectrogram stays within 0.7 dB on average. A constant one that is as small loses the header that tells the length.
COMPRESSION = 0.1


def audio_player(samples: np.ndarray, rate: int, label: str) -> str:
    """The browser's own player, which is worked by keyboard too.

    Args:
        samples: mono, in [-1, 1] `[shape=(num_samples,)]`.
        rate: in Hz.
        label: what is to be heard, for those who cannot see it.
    """
    return f'<audio controls preload="none" aria-label="{escape(label)}" src="{audio_data_uri(samples, rate)}"></audio>'


def audio_data_uri(samples: np.ndarray, rate: int) -> str:
    """Mono samples in [-1, 1] `[shape=(num_samples,)]` as a data URI: MP3, or 16-bit WAV at a rate in Hz that MP3 lacks."""
    # The MP3 encoder ends the whole process on values that are not finite or far beyond full scale.
    samples = np.clip(np.nan_to_num(np.asarray(samples, np.float32)), -1.0, 1.0)
    buffer = io.BytesIO()
    if rate in MP3_RATES:
        soundfile.write(
            buffer, samples, rate, format="MP3", bitrate_mode="VARIABLE", compression_level=COMPRESSION
        )
        kind = "audio/mpeg"
    else:
        soundfile.write(buffer, samples, rate, format="WAV", subtype="PCM_16")
        kind = "audio/wav"
    return f"data:{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
