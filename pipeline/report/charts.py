"""Line charts as inline SVG, coloured by the page's style sheet, and what every chart needs: ticks, text and axes."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.io.console import duration
from pipeline.report.page import escape

# Size of a chart and its plotting area, in the units of its view box; a chart is shown about this many pixels wide.
WIDTH, HEIGHT = 340, 230
LEFT, RIGHT, TOP, BOTTOM = 48, 332, 12, 188
# Above this many points there are lines only, and above the other one a line is thinned.
MAX_DOTS, MAX_POINTS = 40, 600
NUM_STYLES = 4


@dataclass(frozen=True)
class Series:
    """A line: `y` over `x`, of equal length; a value that is None or not finite leaves a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]

    def points(self) -> list[tuple[float, float] | None]:
        """The points in order, None where there is a gap; every k-th one, and the last, of very many."""
        step = max(1, math.ceil(len(self.x) / MAX_POINTS))
        pairs = [
            (x, y) if y is not None and math.isfinite(y) else None
            for x, y in zip(self.x, self.y, strict=True)
        ]
        return pairs[:-1:step] + pairs[-1:]


def line_chart(
    title: str,
    series: Sequence[Series],
    x_label: str,
    y_text: Callable[[float], str] | None = None,
    y_range: tuple[float, float] | None = None,
    mark: float | None = None,
) -> str:
    """A figure with its title, legend, axes and lines.

    Args:
        title: what is shown, with its unit if any.
        series: up to four lines, told apart by colour and dash; further ones repeat the styles.
        x_label: what x counts, such as `epoch`.
        y_text: how a value is written; by default in a few digits.
        y_range: lowest and highest value of the axis; by default that of the values.
        mark: an x to be marked by an upright line.
    """
    y_text = y_text or format_number
    drawn = [(one, [point for point in one.points() if point]) for one in series]
    values = [point for _, points in drawn for point in points]
    if not values:
        return f'<figure class="chart"><figcaption><b>{escape(title)}</b></figcaption><p class="note">No values.</p></figure>'
    x_ticks = ticks(
        min(x for x, _ in values),
        max(x for x, _ in values),
        7,
        whole=all(float(x).is_integer() for x, _ in values),
    )
    y_ticks = ticks(*(y_range or (min(y for _, y in values), max(y for _, y in values))), 5)
    x_span = min(x for x, _ in values), max(x for x, _ in values)
    y_span = y_range or (y_ticks[0], y_ticks[-1])
    place = _AxisScale(x_span, y_span)
    upright = f'<path class="ideal" d="M{place.x(mark):.1f} {TOP}V{BOTTOM}"/>' if mark is not None else ""
    lines = "".join(_line(i, one, place, x_label, y_text) for i, one in enumerate(series))
    said = "; ".join(_in_words(one.name, points, x_label, y_text) for one, points in drawn)
    keys = "".join(legend_key(one.name, i) for i, one in enumerate(series)) if len(series) > 1 else ""
    return (
        f'<figure class="chart"><figcaption><b>{escape(title)}</b> {keys}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(f"{title}. {said}.")}">'
        f"{_axes(place, x_ticks, y_ticks, x_label, y_text)}{upright}{lines}</svg></figure>"
    )


@dataclass(frozen=True)
class _AxisScale:
    """From values to places in the plotting area."""

    x_span: tuple[float, float]
    y_span: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.x_span
        return LEFT + 8 + (RIGHT - LEFT - 16) * ((value - low) / (high - low) if high > low else 0.5)

    def y(self, value: float) -> float:
        low, high = self.y_span
        return BOTTOM - (BOTTOM - TOP) * ((value - low) / (high - low) if high > low else 0.5)


def _axes(
    place: _AxisScale,
    x_ticks: list[float],
    y_ticks: list[float],
    x_label: str,
    y_text: Callable[[float], str],
) -> str:
    parts = []
    for value in y_ticks:
        y = place.y(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(y_text(value))}</text>')
    for value in x_ticks:
        if place.x_span[0] <= value <= place.x_span[1]:
            x = place.x(value)
            parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{BOTTOM}" y2="{BOTTOM + 4}"/>')
            parts.append(
                f'<text x="{x:.1f}" y="{BOTTOM + 18}" text-anchor="middle">{escape(format_number(value))}</text>'
            )
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{RIGHT}" y1="{BOTTOM}" y2="{BOTTOM}"/>')
    parts.append(
        f'<text x="{(LEFT + RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>'
    )
    return "".join(parts)


def _line(index: int, series: Series, place: _AxisScale, x_label: str, y_text: Callable[[float], str]) -> str:
    """One line with dots; a point between two gaps is a dot in any case, or it would not be seen."""
    points = series.points()
    path, dots = [], []
    for i, point in enumerate(points):
        if point is None:
            continue
        x, y = place.x(point[0]), place.y(point[1])
        alone = (i == 0 or points[i - 1] is None) and (i + 1 == len(points) or points[i + 1] is None)
        path.append(f"{'M' if i == 0 or points[i - 1] is None else 'L'}{x:.1f} {y:.1f}")
        if alone or len(points) <= MAX_DOTS:
            said = escape(f"{series.name}, {x_label} {format_number(point[0])}: {y_text(point[1])}")
            dots.append(
                f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="{4 if alone else 3}"><title>{said}</title></circle>'
            )
    return f'<g class="s{index % NUM_STYLES}"><path class="line" d="{"".join(path)}"/>{"".join(dots)}</g>'


def _in_words(
    name: str, points: list[tuple[float, float]], x_label: str, y_text: Callable[[float], str]
) -> str:
    if not points:
        return f"{name}: no values"
    (x0, y0), (x1, y1) = points[0], points[-1]
    start = f"{name}: {y_text(y0)} at {x_label} {format_number(x0)}"
    return start if len(points) == 1 else f"{start}, {y_text(y1)} at {x_label} {format_number(x1)}"


def legend_key(name: str, index: int) -> str:
    """An entry of a legend, in the style of the line with this index."""
    line = '<svg viewBox="0 0 26 12" aria-hidden="true"><path class="line" d="M2 6H24"/></svg>'
    return f'<span class="key s{index % NUM_STYLES}">{line}{escape(name)}</span>'


def ticks(low: float, high: float, count: int, whole: bool = False) -> list[float]:
    """About `count` round values that enclose [low, high], 1, 2 or 5 times a power of ten apart."""
    if high <= low:
        if whole:
            return [low]
        low, high = (low - abs(low) / 2, high + abs(high) / 2) if low else (0.0, 1.0)
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
    if whole:
        step = max(1.0, step)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    # Rounded, so that 3 x 0.1 is written 0.3.
    return [float(f"{step * i:.12g}") for i in range(first, last + 1)]


def format_number(value: float) -> str:
    """A number in three or so digits: `0.25`, `12`, `1.2k`, `3e-4`."""
    if value and abs(value) < 0.01:
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    if abs(value) >= 10_000:
        return f"{value / 1000:.3g}k" if abs(value) < 1e6 else f"{value / 1e6:.3g}M"
    return f"{value:.4g}"


def text_width(text: str, size: float) -> float:
    """Estimated width of a text of `size` pixels: wide East Asian characters take a full em, others 0.55."""
    return size * sum(1.0 if unicodedata.east_asian_width(char) in "WF" else 0.55 for char in text)


def truncate_text(text: str, max_width: float, size: float) -> str:
    """The text, or as much of its start as fits, with an ellipsis."""
    if text_width(text, size) <= max_width:
        return text
    while text and text_width(text + "…", size) > max_width:
        text = text[:-1]
    return text.rstrip() + "…"


History = Sequence[Mapping[str, Any]]


def lines(history: History, **names: str) -> list[Series]:
    """For each key of an epoch's entry a line with this name, over the epochs that have a value of it; none without values."""
    found = []
    for key, name in names.items():
        points = [(entry["epoch"], entry[key]) for entry in history if entry.get(key) is not None]
        if points:
            found.append(Series(name, [epoch for epoch, _ in points], [value for _, value in points]))
    return found


def best_epoch(history: History) -> int | None:
    """The epoch whose weights were kept: the last that was the best so far."""
    return max((entry["epoch"] for entry in history if entry.get("best")), default=None)


def describe_epochs(history: History) -> str:
    """`12 epochs in 3 min 20 s`."""
    taken = duration(sum(entry.get("seconds") or 0.0 for entry in history))
    return f"{len(history)} epoch{'' if len(history) == 1 else 's'} in {taken}"
