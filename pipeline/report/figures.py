"""Spectrograms of several classes as one picture: a row a class, one scale of colours, axes in seconds and hertz."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.audio.mel import MelConfig
from pipeline.io.files import write_atomically
from pipeline.report.clips import COLORMAP, Scale, decibel_scale, frequency_ticks, time_ticks

# Inches of one spectrogram, and dots an inch.
CELL, DPI = (2.3, 1.05), 80
# Inches left and right of them all, above and below, and between two rows.
SIDES, ENDS, GAP = (0.6, 0.85), (0.55, 0.45), 0.25
FRAME_MILLISECONDS = 700
MAX_WIDTH = 900


def spectrogram_grid_png(
    mels: np.ndarray, names: Sequence[str], config: MelConfig, scale: Scale, title: str
) -> bytes:
    """A PNG of spectrograms in dB `[shape=(rows, columns, n_mels, num_frames)]`, each row with its name.

    Args:
        mels: what is drawn.
        names: of the rows.
        config: how the spectrograms were made; gives the axes.
        scale: dB of the darkest and of the lightest colour.
        title: stands above all.
    """
    # Without pyplot: no state that threads or sessions share, and no display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, columns, bands, frames = mels.shape
    width, height = CELL[0] * columns + sum(SIDES), (CELL[1] + GAP) * rows + sum(ENDS)
    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    # Margins in inches by hand, and axes that share nothing: matplotlib's ways take minutes for fifty classes.
    edges = {
        "left": SIDES[0] / width,
        "right": 1 - SIDES[1] / width,
        "top": 1 - ENDS[0] / height,
        "bottom": ENDS[1] / height,
    }
    axes = figure.subplots(
        rows, columns, squeeze=False, gridspec_kw=edges | {"hspace": GAP / CELL[1], "wspace": 0.06}
    )
    hertz, seconds = frequency_ticks(config, bands)[::2], time_ticks(config, frames)
    for (row, column), ax in np.ndenumerate(axes):
        picture = ax.imshow(
            mels[row, column],
            origin="lower",
            aspect="auto",
            cmap=COLORMAP,
            vmin=scale[0],
            vmax=scale[1],
            extent=(0, 1, 0, 1),
        )
        ax.set_yticks(
            [place for _, place in hertz],
            [f"{value:g}" if column == 0 else "" for value, _ in hertz],
            fontsize=6,
        )
        ax.set_xticks(
            [place for _, place in seconds],
            [f"{value:g}" if row == rows - 1 else "" for value, _ in seconds],
            fontsize=6,
        )
    for row, name in enumerate(names):
        axes[row, 0].set_title(name, loc="left", fontsize=8, pad=3, parse_math=False)
    axes[rows // 2, 0].set_ylabel("Hz", fontsize=7)
    axes[-1, columns // 2].set_xlabel("seconds", fontsize=7)
    figure.suptitle(title, fontsize=10, parse_math=False, y=1 - 0.1 / height, va="top")
    bar = figure.add_axes(
        (1 - (SIDES[1] - 0.15) / width, ENDS[1] / height, 0.12 / width, min(3.0, height - sum(ENDS)) / height)
    )
    figure.colorbar(picture, cax=bar, label="dB").ax.tick_params(labelsize=7)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def spectrogram_png(mel: np.ndarray, config: MelConfig, title: str) -> bytes:
    """A PNG of one spectrogram in dB `[shape=(n_mels, num_frames)]`, with axes and its own scale of colours."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scale = decibel_scale([mel])
    # Fixed margins: finding good ones takes five times as long as the picture.
    figure = Figure(figsize=(5, 2.6), dpi=DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.11, 0.16, 0.76, 0.73))
    image = axes.imshow(
        mel,
        origin="lower",
        aspect="auto",
        cmap=COLORMAP,
        vmin=scale[0],
        vmax=scale[1],
        extent=(0, 1, 0, 1),
        interpolation="nearest",
    )
    hertz, seconds = frequency_ticks(config, mel.shape[0]), time_ticks(config, mel.shape[1])
    axes.set_yticks([place for _, place in hertz], [f"{value:g}" for value, _ in hertz], fontsize=7)
    axes.set_xticks([place for _, place in seconds], [f"{value:g}" for value, _ in seconds], fontsize=7)
    axes.set_ylabel("Hz", fontsize=8)
    axes.set_xlabel("seconds", fontsize=8)
    axes.set_title(title, fontsize=9, parse_math=False)
    figure.colorbar(image, cax=figure.add_axes((0.89, 0.16, 0.02, 0.73))).set_label("dB", fontsize=7)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def write_animation(path: Path, pictures: Sequence[Path]) -> None:
    """Joins pictures of equal size into one animated GIF; the last one stands longest."""
    frames = []
    for picture in pictures:
        with picture.open("rb") as file, Image.open(file) as image:
            factor = min(1.0, MAX_WIDTH / image.width)
            small = image.convert("RGB").resize(
                (round(image.width * factor), round(image.height * factor)), Image.Resampling.LANCZOS
            )
        frames.append(small.quantize(64))
    times = [FRAME_MILLISECONDS] * (len(frames) - 1) + [4 * FRAME_MILLISECONDS]
    write_atomically(
        path,
        lambda file: frames[0].save(
            file, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0, optimize=True
        ),
    )
