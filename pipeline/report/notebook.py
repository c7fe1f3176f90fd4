"""Sounds and results as HTML for the output of a notebook's cell; it works in light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from pipeline.report.clips import audio_data_uri, decibel_scale, spectrogram

if TYPE_CHECKING:
    from pipeline.audio.mel import MelConfig

IMAGE_SIZE = (320, 128)
_BAR_PIXELS = 160


def clip_html(
    title: str,
    mel: np.ndarray,
    config: MelConfig,
    samples: np.ndarray,
    bars: Sequence[tuple[str, float]] = (),
) -> str:
    """Return a clip with its spectrogram, a player, and probabilities as bars.

    Args:
        title: one line above it.
        mel: in dB `[shape=(n_mels, num_frames)]`.
        config: configuration of the spectrogram, for the axes.
        samples: in [-1, 1], at the sample rate of `config` `[shape=(num_samples,)]`.
        bars: names and probabilities.
    """
    audio = audio_data_uri(samples, config.sample_rate)
    rows = "".join(_bar(name, probability) for name, probability in bars)
    return (
        f'<div style="font-size:13px"><div><b>{escape(title)}</b></div>'
        '<div style="display:flex;gap:24px;align-items:center;flex-wrap:wrap">'
        f"<div>{spectrogram_html(mel, config, title)}"
        f'<audio controls preload="none" style="width:{IMAGE_SIZE[0]}px;height:32px" src="{audio}">'
        "</audio></div>"
        f'<table style="border-collapse:collapse">{rows}</table></div></div>'
    )


def spectrogram_html(mel: np.ndarray, config: MelConfig, description: str) -> str:
    """Return the image of a spectrogram with its axes in kHz and seconds; arguments as `clip_html`."""
    width, height = IMAGE_SIZE
    view = spectrogram(mel, config, decibel_scale([mel]))
    label = "position:absolute;font-size:10px;line-height:1;opacity:.75;"
    frequencies = "".join(
        f'<span style="{label}left:{width + 4}px;bottom:calc({position}% - 5px)">{text}</span>'
        for position, text in view.frequencies
    )
    times = "".join(
        f'<span style="{label}top:{height + 3}px;left:{position}%;transform:translateX(-50%)">{text}</span>'
        for position, text in view.times
    )
    return (
        f'<div style="position:relative;width:{width}px;height:{height}px;margin:4px 32px 16px 0">'
        f'<img alt="Spectrogram: {escape(description)}" src="{view.image}" '
        f'style="width:{width}px;height:{height}px;image-rendering:pixelated;margin:0">{frequencies}{times}</div>'
    )


def _bar(name: str, probability: float) -> str:
    pixels = round(_BAR_PIXELS * float(np.nan_to_num(probability)))
    return (
        f'<tr style="background:none"><td style="text-align:right">{escape(name)}</td>'
        f'<td style="text-align:left;width:{_BAR_PIXELS}px"><div style="background:#4c78a8;height:10px;'
        f'width:{max(1, pixels)}px"></div></td><td style="text-align:right">{probability:.1%}</td></tr>'
    )
