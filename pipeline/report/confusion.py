"""Charts of a classifier as inline SVG: the confusion matrix as a heat map, and the reliability diagram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.report.charts import text_width, truncate_text
from pipeline.report.page import escape, percent, scroll

# A cell is as large as lets the matrix fill this width, within limits: the smallest one still takes three digits.
MATRIX_WIDTH, MIN_CELL, MAX_CELL = 620, 18, 62
# Room for the names of few and of many classes; 50 classes and their names then fit the page.
LABEL_WIDTHS = 170, 120
# Up to here the names of columns stand at a slant, which reads better; beyond they would overlap.
MAX_SLANTED = 20
# On a narrow screen the matrix shrinks to this much, and scrolls below.
MIN_SCALE = 0.7
# Opacities of the strongest cell with an ordinary count and of the weakest with an inverted one: between them neither
# colour of text has a contrast of 4.5.
WEAK, STRONG = 0.58, 0.8
COLOR_NOTE = (
    "blue is right, orange is wrong, stronger for a larger share of the row, most of all from half of it"
)


def confusion_chart(
    confusion: Sequence[Sequence[int]],
    class_names: Sequence[str],
    row: str = "true class",
    column: str = "predicted",
) -> str:
    """A heat map of counts: blue on the diagonal, vermilion where the answer is wrong.

    The strength of a cell is its share of the row; a cell without a count is left empty.

    Args:
        confusion: counts `[shape=(C, C)]`, rows the truth, columns the answer.
        class_names: of rows and columns alike.
        row: what a row is, in a word or two.
        column: what a column is.
    """
    counts = np.asarray(confusion, dtype=np.int64)
    num_classes = len(class_names)
    cell = min(MAX_CELL, max(MIN_CELL, MATRIX_WIDTH / num_classes))
    size = 12 if num_classes <= MAX_SLANTED else 11
    slanted = num_classes <= MAX_SLANTED
    labels = [truncate_text(name, LABEL_WIDTHS[0 if slanted else 1], size) for name in class_names]
    room = max(text_width(label, size) for label in labels)
    left, top = room + 34, (room * 0.71 if slanted else room) + 40
    side = cell * num_classes
    width, height = left + side + (room * 0.71 if slanted else 8), top + side + 4
    said = f"Confusion matrix of {num_classes} classes: {int(np.trace(counts))} of {int(counts.sum())} clips right."
    parts = [
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" style="max-width:{width:.0f}px;min-width:{MIN_SCALE * width:.0f}px"'
        f' role="img" aria-label="{escape(said)}">',
        f'<text x="{left:.0f}" y="14">{escape(column)} →</text>',
        f'<text transform="translate(12 {top:.1f}) rotate(-90)" text-anchor="end">← {escape(row)}</text>',
        *_grid(left, top, cell, num_classes),
        *_names(class_names, labels, left, top, cell, size, slanted),
        *_cells(counts, class_names, left, top, cell),
        "</svg>",
    ]
    return scroll("".join(parts), "Confusion matrix")


def top_confusions(confusion: Sequence[Sequence[int]], class_names: Sequence[str], most: int = 3) -> str:
    """The most frequent mistakes in words; empty where there is none."""
    counts = np.array(confusion, dtype=np.int64)
    np.fill_diagonal(counts, 0)
    worst = [
        divmod(int(i), len(class_names))
        for i in np.argsort(-counts, axis=None, kind="stable")[:most]
        if counts.flat[i]
    ]
    return ", ".join(f"{class_names[t]} taken for {class_names[p]} ({counts[t, p]})" for t, p in worst)


def _grid(left: float, top: float, cell: float, num_classes: int) -> list[str]:
    side = cell * num_classes
    lines = []
    for i in range(num_classes + 1):
        x, y = left + i * cell, top + i * cell
        lines.append(f'<path class="grid" d="M{x:.1f} {top:.1f}v{side:.1f}M{left:.1f} {y:.1f}h{side:.1f}"/>')
    return lines


def _names(
    names: Sequence[str],
    labels: Sequence[str],
    left: float,
    top: float,
    cell: float,
    size: int,
    slanted: bool,
) -> list[str]:
    parts = []
    for i, (name, label) in enumerate(zip(names, labels, strict=True)):
        middle = (i + 0.5) * cell
        text = f"{escape(label)}<title>{escape(name)}</title></text>"
        row = f'x="{left - 8:.1f}" y="{top + middle + 4:.1f}" text-anchor="end"'
        at, turn = (left + middle, -45) if slanted else (left + middle + 4, -90)
        column = f'transform="translate({at:.1f} {top - 8:.1f}) rotate({turn})"'
        parts += [f'<text class="label" font-size="{size}" {place}>{text}' for place in (row, column)]
    return parts


def _cells(counts: np.ndarray, names: Sequence[str], left: float, top: float, cell: float) -> list[str]:
    rows = counts.sum(axis=1)
    longest = max(len(_count(int(value))) for value in counts.flat)
    size = min(14.0, 0.48 * cell, (cell - 3) / (0.6 * longest))
    parts = []
    # Empty cells are most of a large matrix, and left out of the file.
    for truth, said in zip(*np.nonzero(counts), strict=True):
        count, share = int(counts[truth, said]), counts[truth, said] / rows[truth]
        opacity = _opacity(share)
        x, y = left + said * cell, top + truth * cell
        kind, on = ("right" if truth == said else "wrong"), (" on" if opacity >= STRONG else "")
        tip = escape(f"{names[truth]} taken for {names[said]}: {count} of {rows[truth]} ({percent(share)})")
        box = f'x="{x + 0.5:.1f}" y="{y + 0.5:.1f}" width="{cell - 1:.1f}" height="{cell - 1:.1f}"'
        text = f'<text class="count{on}" font-size="{size:.1f}" x="{x + cell / 2:.1f}" y="{y + cell / 2:.1f}">{_count(count)}</text>'
        parts.append(
            f'<g><title>{tip}</title><rect class="cell-{kind}" fill-opacity="{opacity:.2f}" {box}/>{text}</g>'
        )
    return parts


def _opacity(share: float) -> float:
    """Of a cell with this share of its row: it rises faster at first, so that a single clip of many is still seen."""
    if share < 0.5:
        return 0.07 + (WEAK - 0.07) * (2 * share) ** 0.75
    return STRONG + (1 - STRONG) * (2 * share - 1)


def _count(value: int) -> str:
    return (
        str(value)
        if value < 10_000
        else f"{value / 1000:.0f}k"
        if value < 1_000_000
        else f"{value / 1e6:.0f}M"
    )


def reliability_chart(calibration: Sequence[Mapping[str, Any]]) -> str:
    """Accuracy over confidence in bins, with the gap between the two, and below it how many clips each bin holds.

    Args:
        calibration: bins with `low`, `high`, `confidence`, `accuracy` and `count`.
    """
    left, top, side, strip = 48, 10, 300, 46
    bottom, floor = top + side, top + side + 14 + strip
    most = max((entry["count"] for entry in calibration), default=0)
    filled = [entry for entry in calibration if entry["count"]]
    parts = []
    for value in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        x, y, text = left + side * value, bottom - side * value, f"{100 * value:.0f}"
        parts.append(f'<line class="grid" x1="{left}" x2="{left + side}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
        parts.append(f'<text x="{x:.1f}" y="{floor + 16}" text-anchor="middle">{text}</text>')
    for entry in filled:
        x, width = left + side * entry["low"] + 1, side * (entry["high"] - entry["low"]) - 2
        low, high = sorted((entry["accuracy"], entry["confidence"]))
        tip = f"confidence {percent(entry['confidence'])}, accuracy {percent(entry['accuracy'])}, {entry['count']} clips"
        tall = strip * entry["count"] / most
        parts.append(
            f"<g><title>{escape(tip)}</title>"
            + _bar("right", x, width, bottom, side * low)
            + _bar(
                "too-sure" if high == entry["confidence"] else "too-modest",
                x,
                width,
                bottom - side * low,
                side * (high - low),
            )
            + _bar("right", x, width, floor, max(tall, 1.0), 0.45)
            + "</g>"
        )
    parts.append(f'<line class="ideal" x1="{left}" y1="{bottom}" x2="{left + side}" y2="{top}"/>')
    parts.append(f'<path class="axis" d="M{left} {bottom}h{side}M{left} {floor}h{side}"/>')
    parts.append(f'<text x="{left - 8}" y="{floor - strip + 12}" text-anchor="end">clips</text>')
    parts.append(f'<text x="{left + side / 2}" y="{floor + 34}" text-anchor="middle">confidence, %</text>')
    parts.append(
        f'<text transform="translate(12 {top + side / 2}) rotate(-90)" text-anchor="middle">accuracy, %</text>'
    )
    said = "; ".join(
        f"{percent(entry['confidence'], 0)} confident, {percent(entry['accuracy'], 0)} right"
        for entry in filled
    )
    keys = "".join(
        f'<span class="key"><svg viewBox="0 0 26 12" aria-hidden="true">{shape}</svg>{name}</span>'
        for shape, name in (
            ('<rect class="right" width="26" height="12"/>', "matched"),
            ('<rect class="too-sure" width="26" height="12"/>', "too sure"),
            ('<rect class="too-modest" width="26" height="12"/>', "too modest"),
        )
    )
    view = f'viewBox="0 0 {left + side + 14} {floor + 42}" role="img" aria-label="{escape(f"Reliability diagram. {said}.")}"'
    return f'<figure class="chart"><figcaption>{keys}</figcaption><svg {view}>{"".join(parts)}</svg></figure>'


def _bar(kind: str, x: float, width: float, base: float, height: float, opacity: float = 1.0) -> str:
    shade = "" if opacity == 1.0 else f' fill-opacity="{opacity}"'
    return f'<rect class="{kind}"{shade} x="{x:.1f}" y="{base - height:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
