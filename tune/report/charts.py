"""Charts of a search as inline SVG: scores over time and over epochs, each parameter against the score, and importances.

The best trial is drawn in ink, the others in the colour and shape of their state.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.report.charts import format_number, text_width, ticks, truncate_text
from pipeline.report.page import escape, scroll
from tune.report.axes import (
    Dimension,
    Results,
    Tick,
    breakable,
    covering_trials,
    jitter,
    value_place,
    value_text,
    value_ticks,
)
from tune.space import Choice
from tune.trials import State, Trial

# In the order of the legend.
STATES: tuple[State, ...] = ("finished", "stopped", "running", "failed")
DOTS = {
    "finished": '<circle r="4"/>',
    "stopped": '<circle r="3.5"/>',
    "running": '<path d="M-3.5 -4.5L5 0L-3.5 4.5z"/>',
    "failed": '<path d="M-3.5 -3.5L3.5 3.5M-3.5 3.5L3.5 -3.5"/>',
}
# At the ends of lines, of which many stop at the same epoch; one that came to its end needs no mark.
ENDS = DOTS | {"stopped": '<circle r="2.8"/>', "finished": ""}
RING = '<circle class="ring" r="8"/>'
# Wide charts shrink to this much on a narrow screen, and scroll below.
MIN_SCALE = 0.75
# Above this many choices not all have their names below the columns.
MAX_NAMES = 8
NO_SCORES = '<p class="note">No trial has a score yet.</p>'


@dataclass(frozen=True)
class Frame:
    """The size of a chart in the units of its view box, and its plotting area; `pad` is kept free at the left and the right of it."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    pad: float = 10.0

    def x(self, place: float) -> float:
        return self.left + self.pad + (self.right - self.left - 2 * self.pad) * place

    def y(self, place: float) -> float:
        return self.bottom - (self.bottom - self.top) * place

    def chart(
        self,
        x_ticks: Sequence[Tick],
        y_ticks: Sequence[Tick],
        x_label: str,
        y_label: str,
        said: str,
        body: str,
    ) -> str:
        """The whole picture: axes with ticks and labels, over them the body; `said` is what it shows in words."""
        parts = []
        for place, text in y_ticks:
            y = self.y(place)
            parts.append(f'<line class="grid" x1="{self.left}" x2="{self.right}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{self.left - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(text)}</text>')
        room = (self.right - self.left) / max(len(x_ticks), 1) - 8
        for place, text in x_ticks:
            x = self.x(place)
            shown = f"{escape(truncate_text(text, room, 12))}<title>{escape(text)}</title>"
            parts.append(
                f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{self.bottom}" y2="{self.bottom + 4}"/>'
            )
            parts.append(f'<text x="{x:.1f}" y="{self.bottom + 18}" text-anchor="middle">{shown}</text>')
        middle = (self.left + self.right) / 2, (self.top + self.bottom) / 2
        parts.append(
            f'<line class="axis" x1="{self.left}" x2="{self.right}" y1="{self.bottom}" y2="{self.bottom}"/>'
        )
        parts.append(
            f'<text x="{middle[0]}" y="{self.height - 6}" text-anchor="middle">{escape(x_label)}</text>'
        )
        parts.append(
            f'<text transform="translate(12 {middle[1]}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>'
        )
        return f"{svg(self.width, self.height, said)}{''.join(parts)}{body}</svg>"


WIDE = Frame(1040, 330, left=76, right=1032, top=12, bottom=284)
SMALL = Frame(340, 236, left=70, right=334, top=12, bottom=192)


def svg(width: float, height: float, said: str, top: float = 0.0) -> str:
    """The start of a picture that is not shown larger than this, and if wide, not much smaller; above `top` nothing is shown."""
    least = f";min-width:{MIN_SCALE * width:.0f}px" if width > SMALL.width else ""
    view = f'viewBox="0 {top:.0f} {width:.0f} {height - top:.0f}" style="max-width:{width:.0f}px{least}"'
    return f'<svg {view} role="img" aria-label="{escape(said)}">'


def legend(results: Results, lines: bool = False) -> str:
    """The marks of those states that trials with a score have, and that of the best; `lines`: the marks end lines."""
    found = {trial.state for trial, _ in results.scored()}
    keys = []
    for state in (one for one in STATES if one in found):
        shape, end = (ENDS[state], 20) if lines else (DOTS[state], 13)
        line = f'<path class="trial {state}" d="M2 6H{end if shape else 24}"/>' if lines else ""
        keys.append(_key(f'{line}<g class="mark {state}" transform="translate({end} 6)">{shape}</g>', state))
    if results.best is not None:
        shape = (
            '<path class="trial best" d="M2 6H24"/>'
            if lines
            else '<circle class="ring" cx="13" cy="6" r="5"/>'
        )
        keys.append(_key(shape, f"the best: trial {results.best.number}"))
    return f'<p class="keys">{"".join(keys)}</p>'


def _key(shape: str, name: str) -> str:
    return f'<span class="key"><svg viewBox="0 0 26 12" aria-hidden="true">{shape}</svg>{escape(name)}</span>'


def score_over_time(results: Results) -> str:
    """The best score so far over the time since the search began, and each trial's best where it was reached.

    Failed trials have marks, but don't count for the line, for none of them can become the best.
    """
    points = sorted(((p, trial) for trial in results.trials for p in trial.points), key=lambda one: one[0].at)
    if not points:
        return NO_SCORES
    unit, seconds = _time_unit(points[-1][0].at)
    span = max(points[-1][0].at, 1e-9)
    measure = results.measure
    bests: list[tuple[float, float]] = []
    for point, trial in points:
        if trial.state != "failed" and (not bests or measure.sign() * (point.score - bests[-1][1]) > 0):
            bests.append((point.at, point.score))
    scored = results.scored()
    scale = measure.scale([point.score for _, point in scored] + [score for _, score in bests])
    corners = [(WIDE.x(at / span), WIDE.y(scale.place(score))) for at, score in bests]
    steps = "".join(f"H{x:.1f}V{y:.1f}" for x, y in corners[1:])
    parts = [
        f'<path class="trial best" d="M{x:.1f} {y:.1f}{steps}H{WIDE.x(1.0):.1f}"/>' for x, y in corners[:1]
    ]
    for trial, point in scored:
        tip = f"{results.in_words(trial)}, after {format_number(point.at / seconds)} {unit}"
        parts.append(_mark(results, trial, WIDE.x(point.at / span), WIDE.y(scale.place(point.score)), tip))
    words = [
        f"{measure.text(score)} after {format_number(at / seconds)} {unit}"
        for at, score in bests[:1] + bests[1:][-1:]
    ]
    said = f"Best {measure.name} so far: {', '.join(words) or 'none'}; the search took {format_number(span / seconds)} {unit}."
    x_ticks = [
        (at * seconds / span, format_number(at))
        for at in ticks(0.0, span / seconds, 10)
        if at * seconds <= span
    ]
    drawn = WIDE.chart(
        x_ticks, scale.ticks, f"{unit} since the search began", measure.name, said, "".join(parts)
    )
    return legend(results) + scroll(drawn, "Score over time")


def parameter_against_score(key: str, dimension: Dimension, results: Results) -> str:
    """A figure with a mark for each trial that has a score: its value at the bottom, its best score upwards."""
    dimension = covering_trials(key, dimension, results.trials)
    scored = results.scored()
    placed = [
        (trial, point.score, place)
        for trial, point in scored
        if (place := value_place(dimension, key, trial)) is not None
    ]
    title = f'<figure class="chart"><figcaption><b>{breakable(key)}</b></figcaption>'
    if not placed:
        return f"{title}{NO_SCORES}</figure>"
    frame, shift = SMALL, 0.0
    if isinstance(dimension, Choice):
        column = (SMALL.right - SMALL.left) / len(dimension.choices)
        frame, shift = replace(SMALL, pad=column / 2), 0.5 * column
    # Of all trials, so that the charts of all parameters have the same axis.
    scale = results.measure.scale([point.score for _, point in scored])
    marks = []
    for trial, score, place in placed:
        tip = f"{results.in_words(trial)}; {key} {value_text(trial.values[key])}"
        marks.append(
            _mark(
                results,
                trial,
                frame.x(place) + shift * jitter(trial.number),
                frame.y(scale.place(score)),
                tip,
            )
        )
    said = f"{results.measure.name} of {len(placed)} trials by {key}, each a mark."
    if results.best is not None and key in results.best.values:
        said += f" {results.in_words(results.best)}; {key} {value_text(results.best.values[key])}."
    label = "log scale" if not isinstance(dimension, Choice) and dimension.log else ""
    marked = value_ticks(dimension, 5)
    drawn = frame.chart(
        marked[:: math.ceil(len(marked) / MAX_NAMES)],
        scale.ticks,
        label,
        results.measure.name,
        said,
        "".join(marks),
    )
    return f"{title}{drawn}</figure>"


def trial_curves(results: Results) -> str:
    """The score of all trials over their epochs, in the order of time: a line goes back where a trial did."""
    curves = [trial for trial, _ in results.scored()]
    if not curves:
        return NO_SCORES
    points = [point for trial in curves for point in trial.points]
    first, last = min(point.epoch for point in points), max(point.epoch for point in points)
    span = max(last - first, 1)
    scale = results.measure.scale([point.score for point in points])
    parts = []
    for trial in curves:
        places = [
            (WIDE.x((point.epoch - first) / span), WIDE.y(scale.place(point.score))) for point in trial.points
        ]
        kind, best = ("best", " best") if trial is results.best else (trial.state, "")
        tip = f"<title>{escape(results.in_words(trial))}</title>"
        # A line of a single point would not be seen.
        end = ENDS[trial.state] or (DOTS["finished"] if len(places) == 1 else "")
        parts.append(
            f'<g>{tip}<path class="trial {kind}" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in places)}"/>'
            f'<g class="mark {trial.state}{best}" transform="translate({places[-1][0]:.1f} {places[-1][1]:.1f})">{end}</g></g>'
        )
    x_ticks = [
        ((epoch - first) / span, format_number(epoch))
        for epoch in ticks(first, last, 12, whole=True)
        if first <= epoch <= last
    ]
    said = f"{results.measure.name} of {len(curves)} trials over up to {last} epochs; {results.in_words(curves[-1])}."
    drawn = WIDE.chart(x_ticks, scale.ticks, "epoch", results.measure.name, said, "".join(parts))
    return legend(results, lines=True) + scroll(drawn, "Learning curves of all trials")


def importance_bars(importances: Mapping[str, float]) -> str:
    """A bar from 0 to 1 for each parameter, the longest first."""
    ordered = sorted(importances.items(), key=lambda one: (-one[1], one[0]))
    labels = [truncate_text(name, 220, 12) for name, _ in ordered]
    left, row = max(text_width(label, 12) for label in labels) + 14, 28
    right = left + 320
    bottom = 8 + row * len(ordered)
    parts = []
    for value in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        x = left + (right - left) * value
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{bottom}"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{format_number(value)}</text>'
        )
    for i, ((name, value), shown) in enumerate(zip(ordered, labels, strict=True)):
        width, middle = (right - left) * min(max(value, 0.0), 1.0), 8 + row * (i + 0.5)
        label = f"{escape(shown)}<title>{escape(name)}</title>"
        parts.append(
            f'<text class="label" x="{left - 10:.1f}" y="{middle + 4}" text-anchor="end">{label}</text>'
        )
        parts.append(f'<rect class="right" x="{left:.1f}" y="{middle - 7}" width="{width:.1f}" height="14"/>')
        parts.append(f'<text class="label" x="{left + width + 8:.1f}" y="{middle + 4}">{value:.2f}</text>')
    parts.append(f'<line class="axis" x1="{left:.1f}" x2="{left:.1f}" y1="4" y2="{bottom}"/>')
    said = f"Importance: {', '.join(f'{name} {value:.2f}' for name, value in ordered)}."
    return scroll(
        f"{svg(right + 50, bottom + 26, said)}{''.join(parts)}</svg>", "Importance of the parameters"
    )


def _mark(results: Results, trial: Trial, x: float, y: float, tip: str) -> str:
    """A trial's mark, ringed if it is the best."""
    ring = RING if trial is results.best else ""
    return f'<g class="mark {trial.state}" transform="translate({x:.1f} {y:.1f})"><title>{escape(tip)}</title>{DOTS[trial.state]}{ring}</g>'


def _time_unit(seconds: float) -> tuple[str, float]:
    """What a search of this length is told in, and how many seconds that has."""
    return (
        ("seconds", 1.0) if seconds < 180 else ("minutes", 60.0) if seconds < 3 * 3600 else ("hours", 3600.0)
    )
