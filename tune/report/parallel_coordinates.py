"""All trials of a search in parallel coordinates: an axis for each parameter and one for the score, a line for each trial."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right

from pipeline.report.charts import truncate_text
from pipeline.report.page import escape, scroll
from tune.report.axes import (
    Dimension,
    Results,
    Scale,
    covering_trials,
    jitter,
    value_place,
    value_text,
    value_ticks,
    wrap_name,
)
from tune.report.charts import NO_SCORES, svg
from tune.space import Choice, SearchSpace
from tune.trials import Trial

# The axes fill this width; many of them, which then stand as close as is still legible, take more and scroll.
WIDTH, LEAST_STEP = 1040, 96
LEFT, RIGHT, TOP, BOTTOM, HEIGHT = 64, 96, 82, 392, 424
# Names stand above the axes on up to so many lines, this far apart.
NAME_LINES, LINE = 3, 15
# Lines through the same choice are spread over this many pixels.
SPREAD = 12
# Above this many choices not all have their names beside the axis.
MAX_NAMES = 16
# Opacities of the worst and of the best. In between it rises with this power of the rank: of a hundred too only some stand out.
FAINT, STRONG, POWER = 0.12, 0.95, 3


def parallel_coordinates(space: SearchSpace, results: Results) -> str:
    """A chart of all trials, the better the stronger, the best in ink; those without a score are dashed.

    The values of a parameter run upwards, evenly in the logarithm where it is searched so.
    """
    if not results.trials:
        return NO_SCORES
    dimensions = {key: covering_trials(key, one, results.trials) for key, one in space.dimensions.items()}
    scored = results.scored()
    scale = results.measure.scale([point.score for _, point in scored]) if scored else None
    step = max(LEAST_STEP, (WIDTH - LEFT - RIGHT) / len(dimensions))
    unscored = [trial for trial in results.trials if not trial.points]
    lines = [
        _line(trial, dimensions, None, step, 'class="trial unscored"', results.in_words(trial))
        for trial in unscored
    ]
    if scale is not None:
        scores = sorted(results.measure.sign() * point.score for _, point in scored)
        for trial, point in scored:
            strength = FAINT + (STRONG - FAINT) * _rank(scores, results.measure.sign() * point.score) ** POWER
            look = (
                'class="trial best"'
                if trial is results.best
                else f'class="trial" stroke-opacity="{strength:.2f}"'
            )
            lines.append(
                _line(trial, dimensions, scale.place(point.score), step, look, results.in_words(trial))
            )
    axes = [_axis(i, key, one, step) for i, (key, one) in enumerate(dimensions.items())]
    axes.append(_score_axis(len(dimensions), results.measure.name, scale, step))
    said = f"{len(results.trials)} trials in parallel coordinates: {', '.join(dimensions)}, and {results.measure.name}."
    if results.best is not None:
        values = ", ".join(
            f"{key} {value_text(results.best.values[key])}"
            for key in dimensions
            if key in results.best.values
        )
        said += f" {results.in_words(results.best)}; {values}."
    width = LEFT + step * len(dimensions) + RIGHT
    lines_used = max(len(_name_lines(name, step)) for name in (*dimensions, results.measure.name))
    return scroll(
        f"{svg(width, HEIGHT, said, LINE * (NAME_LINES - lines_used))}{''.join(lines)}{''.join(axes)}</svg>",
        "All trials in parallel coordinates",
    )


def _rank(ascending: list[float], value: float) -> float:
    """From 0, the least, to 1; the mean rank of equals."""
    return (
        (bisect_left(ascending, value) + bisect_right(ascending, value) - 1) / 2 / max(len(ascending) - 1, 1)
    )


def _y(place: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * place


def _line(
    trial: Trial, dimensions: dict[str, Dimension], score: float | None, step: float, look: str, tip: str
) -> str:
    """A trial's way over the axes; interrupted where it has no value."""
    path, gap = "", True
    for i, (key, dimension) in enumerate(dimensions.items()):
        place = value_place(dimension, key, trial)
        if place is not None:
            y = _y(place) + (SPREAD * jitter(trial.number) if isinstance(dimension, Choice) else 0.0)
            path += f"{'M' if gap else 'L'}{LEFT + i * step:.1f} {y:.1f}"
        gap = place is None
    if score is not None:
        path += f"{'M' if gap else 'L'}{LEFT + len(dimensions) * step:.1f} {_y(score):.1f}"
    values = "; ".join(f"{key} {value_text(trial.values[key])}" for key in dimensions if key in trial.values)
    return f'<path {look} d="{path}"><title>{escape(f"{tip}; {values}")}</title></path>'


def _axis(index: int, key: str, dimension: Dimension, step: float) -> str:
    x = LEFT + index * step
    parts = [_upright(x, key, step)]
    if isinstance(dimension, Choice):
        marks = value_ticks(dimension, MAX_NAMES)
        for place, text in marks[:: math.ceil(len(marks) / MAX_NAMES)]:
            shown = f"{escape(truncate_text(text, step - 16, 12))}<title>{escape(text)}</title>"
            parts.append(f'<text class="label halo" x="{x + 9:.1f}" y="{_y(place) + 4:.1f}">{shown}</text>')
    else:
        marks = value_ticks(dimension, 8)
        for y, value in ((TOP - 8, dimension.high), (BOTTOM + 18, dimension.low)):
            parts.append(f'<text x="{x:.1f}" y="{y}" text-anchor="middle">{escape(value_text(value))}</text>')
    parts += [f'<path class="axis" d="M{x - 3:.1f} {_y(place):.1f}h6"/>' for place, _ in marks]
    return "".join(parts)


def _score_axis(index: int, name: str, scale: Scale | None, step: float) -> str:
    x = LEFT + index * step
    parts = [_upright(x, name, step)]
    for place, text in scale.ticks if scale is not None else []:
        y = _y(place)
        parts.append(
            f'<path class="axis" d="M{x:.1f} {y:.1f}h4"/><text x="{x + 9:.1f}" y="{y + 4:.1f}">{escape(text)}</text>'
        )
    return "".join(parts)


def _upright(x: float, name: str, step: float) -> str:
    """An axis with its name above."""
    lines = _name_lines(name, step)
    rows = "".join(
        f'<tspan x="{x:.1f}" y="{TOP - 26 - LINE * (len(lines) - 1 - i)}">{escape(line)}</tspan>'
        for i, line in enumerate(lines)
    )
    text = f'<text class="label" text-anchor="middle">{rows}<title>{escape(name)}</title></text>'
    return f'<path class="axis" d="M{x:.1f} {TOP}V{BOTTOM}"/>{text}'


def _name_lines(name: str, step: float) -> list[str]:
    return wrap_name(name, step - 10, 12, NAME_LINES)
