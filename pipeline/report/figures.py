"""Spectrogram grids of several classes as PNG, images of single spectrograms, and the training animation."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.audio.mel import MelConfig
from pipeline.io.files import write_atomically
from pipeline.report.clips import COLORMAP, Scale, decibel_scale, frequency_ticks, time_ticks
from pipeline.report.fonts import readable_texts
from pipeline.report.selection import evenly_spaced

# Size of a spectrogram in inches, and dots per inch.
CELL, DPI = (2.3, 1.05), 80
# Margins in inches: left and right, top and bottom; and the gap between two rows.
SIDES, ENDS, GAP = (0.6, 0.85), (0.55, 0.45), 0.25
# Rows of a grid: more classes are represented by this many. Images have at most 65,535 pixels, and each row
# takes 0.1 s and 104 pixels.
MAX_ROWS = 50
FRAME_MILLISECONDS = 700
MAX_WIDTH = 900


def spectrogram_grid_png(
    mels: np.ndarray, names: Sequence[str], config: MelConfig, scale: Scale, title: str
) -> bytes:
    """Return a PNG of a grid of spectrograms: a row per class, one color scale, axes in seconds and Hz.

    Args:
        mels: spectrograms in dB `[shape=(rows, columns, n_mels, num_frames)]`; of more than `MAX_ROWS` rows,
            evenly spaced ones are shown.
        names: names of the rows.
        config: configuration of the spectrograms, for the axes.
        scale: dB values of the darkest and the lightest color.
        title: title above the grid.
    """
    # Without pyplot, which keeps global state and may need a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if len(mels) > MAX_ROWS:
        shown = evenly_spaced(len(mels), MAX_ROWS)
        title += f" ({MAX_ROWS} of {len(mels)} classes)"
        mels, names = mels[shown], [names[i] for i in shown]
    rows, columns, bands, frames = mels.shape
    (title, *names), font = readable_texts([title, *names])
    width, height = CELL[0] * columns + sum(SIDES), (CELL[1] + GAP) * rows + sum(ENDS)
    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    # Explicit margins and independent axes: automatic layout and shared axes take minutes for 50 classes.
    edges = {
        "left": SIDES[0] / width,
        "right": 1 - SIDES[1] / width,
        "top": 1 - ENDS[0] / height,
        "bottom": ENDS[1] / height,
    }
    axes = figure.subplots(
        rows, columns, squeeze=False, gridspec_kw=edges | {"hspace": GAP / CELL[1], "wspace": 0.06}
    )
    for (row, column), ax in np.ndenumerate(axes):
        image = _draw_spectrogram(ax, mels[row, column], scale)
        _label_axes(ax, config, (bands, frames), column == 0, row == rows - 1)
    for row, name in enumerate(names):
        axes[row, 0].set_title(name, loc="left", font=font, fontsize=8, pad=3, parse_math=False)
    axes[rows // 2, 0].set_ylabel("Hz", fontsize=7)
    axes[-1, columns // 2].set_xlabel("seconds", fontsize=7)
    figure.suptitle(title, font=font, fontsize=10, parse_math=False, y=1 - 0.1 / height, va="top")
    bar = figure.add_axes(
        (1 - (SIDES[1] - 0.15) / width, ENDS[1] / height, 0.12 / width, min(3.0, height - sum(ENDS)) / height)
    )
    figure.colorbar(image, cax=bar, label="dB").ax.tick_params(labelsize=7)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def spectrogram_png(mel: np.ndarray, config: MelConfig, title: str) -> bytes:
    """Return a PNG of a spectrogram in dB `[shape=(n_mels, num_frames)]` with axes and a color scale."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scale = decibel_scale([mel])
    # Fixed margins: automatic layout takes five times as long as the image.
    figure = Figure(figsize=(5, 2.6), dpi=DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.11, 0.16, 0.76, 0.73))
    image = _draw_spectrogram(axes, mel, scale, interpolation="nearest")
    hertz, seconds = frequency_ticks(config, mel.shape[0]), time_ticks(config, mel.shape[1])
    axes.set_yticks([position for _, position in hertz], [f"{value:g}" for value, _ in hertz], fontsize=7)
    axes.set_xticks([position for _, position in seconds], [f"{value:g}" for value, _ in seconds], fontsize=7)
    axes.set_ylabel("Hz", fontsize=8)
    axes.set_xlabel("seconds", fontsize=8)
    (title,), font = readable_texts([title])
    axes.set_title(title, font=font, fontsize=9, parse_math=False)
    figure.colorbar(image, cax=figure.add_axes((0.89, 0.16, 0.02, 0.73))).set_label("dB", fontsize=7)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw_spectrogram(axes: Any, mel: np.ndarray, scale: Scale, **options: Any) -> Any:
    """Draw a spectrogram on matplotlib axes from 0 to 1; return the image, for a color bar."""
    return axes.imshow(
        mel,
        origin="lower",
        aspect="auto",
        cmap=COLORMAP,
        vmin=scale[0],
        vmax=scale[1],
        extent=(0, 1, 0, 1),
        **options,
    )


def _label_axes(axes: Any, config: MelConfig, shape: tuple[int, int], is_left: bool, is_bottom: bool) -> None:
    """Set the ticks of a spectrogram `(n_mels, num_frames)` in a grid, with numbers only at its edges."""
    hertz, seconds = frequency_ticks(config, shape[0])[::2], time_ticks(config, shape[1])
    axes.set_yticks(
        [position for _, position in hertz],
        [f"{value:g}" if is_left else "" for value, _ in hertz],
        fontsize=6,
    )
    axes.set_xticks(
        [position for _, position in seconds],
        [f"{value:g}" if is_bottom else "" for value, _ in seconds],
        fontsize=6,
    )


def write_animation(path: Path, images: Sequence[Path]) -> None:
    """Write image files of equal size as one animated GIF; the last frame is shown longest."""
    frames = []
    for source in images:
        with source.open("rb") as file, Image.open(file) as image:
            factor = min(1.0, MAX_WIDTH / image.width)
            resized = image.convert("RGB").resize(
                (round(image.width * factor), round(image.height * factor)), Image.Resampling.LANCZOS
            )
        frames.append(resized.quantize(64))
    durations = [FRAME_MILLISECONDS] * (len(frames) - 1) + [4 * FRAME_MILLISECONDS]
    write_atomically(
        path,
        lambda file: frames[0].save(
            file, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=True
        ),
    )
