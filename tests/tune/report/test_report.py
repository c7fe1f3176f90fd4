"""The report of a search: it names the best trial, shows all, puts them where they belong, and bears odd ones."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.html_page import Page, assert_accessible, assert_self_contained
from tune.report.axes import MetricAxis, Results, expand_to_values, jitter, value_text, value_ticks, wrap_name
from tune.report.charts import (
    SMALL,
    WIDE,
    importance_bars,
    parameter_against_score,
    score_over_time,
    trial_curves,
)
from tune.report.parallel_coordinates import BOTTOM, LEFT, RIGHT, SPREAD, TOP, WIDTH, parallel_coordinates
from tune.report.report import write_search_report
from tune.space import Choice, Range, SearchSpace
from tune.trials import Mode, Point, Trial

RATE = Range(low=1e-4, high=1e-2, log=True)
CHANNELS = Choice(choices=([16, 32], [32, 64], [64, 128]))
SPACE = SearchSpace(
    {"learning_rate": RATE, "mixup.rate": Range(low=0.0, high=1.0), "model.channels": CHANNELS}
)
SEVEN = {"learning_rate": 1e-3, "mixup.rate": 0.25, "model.channels": [32, 64]}


def trial(
    number: int, scores: list[float], state: str = "finished", start: float = 0.0, **changes: Any
) -> Trial:
    """One that takes ten seconds an epoch, from `start`."""
    points = [Point(i + 1, score, start + 10.0 * (i + 1)) for i, score in enumerate(scores)]
    return Trial(
        number, SEVEN | changes.pop("values", {}), state, points=points, seconds=10.0 * len(scores), **changes
    )  # type: ignore[arg-type]


def some() -> list[Trial]:
    """For a ratio of which more is better: trial 2 is best, with 0.9 at its second epoch; 4 failed with more."""
    return [
        trial(0, [0.2, 0.5, 0.7]),
        trial(1, [0.3], "stopped", values={"learning_rate": 1e-2, "model.channels": [16, 32]}),
        trial(2, [0.6, 0.9, 0.8], start=30.0, values={"learning_rate": 2e-3, "mixup.rate": 0.75}),
        trial(3, [], "failed", reason="out of memory"),
        trial(4, [0.95], "failed", start=10.0, reason="a lost worker"),
        trial(5, [0.4, 0.45], "running", start=50.0),
    ]


def results(trials: list[Trial], metric: str = "val_accuracy", mode: Mode = "max") -> Results:
    return Results.of(trials, metric, mode)


def report(folder: Path, trials: list[Trial], **changes: Any) -> str:
    """Writes a report and returns its text."""
    path = folder / "report.html"
    parts: dict[str, Any] = {
        "title": "A <test> & more",
        "summary": {"data": "<here>"},
        "space": SPACE,
        "trials": trials,
        "mode": "max",
        "metric": "val_macro_f1",
        "importances": {"learning_rate": 0.7, "mixup.rate": 0.1, "model.channels": 0.2},
        "settings": {"max_epochs": 3, "nested": {"name": "<asha>"}},
        "base_values": SEVEN,
    }
    write_search_report(path, **parts | changes)
    return path.read_text(encoding="utf-8")


def plain(text: str) -> str:
    """Without the narrow spaces of percentages."""
    return text.replace("\u202f", "").replace("\u00a0", " ")


def rows(text: str) -> list[tuple[str, str]]:
    """Number and state of each row of the table of trials, with a star for the one marked as the best."""
    found = re.findall(r'<th scope="row">(\d+)(<span class="tag">best</span>)?</th><td>(\w+)</td>', text)
    return [(number + "★" * bool(tag), state) for number, tag, state in found]


def marks(svg: str, kind: str) -> list[tuple[float, float]]:
    """Where the marks of a state are."""
    found = re.findall(rf'<g class="mark {kind}" transform="translate\(([\d.]+) ([\d.]+)\)"><title>', svg)
    return [(float(x), float(y)) for x, y in found]


def lines(svg: str, kind: str) -> list[list[tuple[float, float]]]:
    """The corners of each trial's line whose class starts so."""
    paths = [
        attrs["d"]
        for attrs in Page(svg).find_all("path")
        if (attrs.get("class") or "").startswith(kind) and "H" not in (attrs["d"] or "")
    ]
    return [[(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", d or "")] for d in paths]


def test_page_needs_nothing_outside_itself(tmp_path):
    assert_self_contained(report(tmp_path, some()))
    assert os.listdir(tmp_path) == ["report.html"]


def test_page_is_accessible(tmp_path):
    parsed = Page(report(tmp_path, some()))
    assert_accessible(parsed)
    # The best values, the trials and the settings.
    assert len(parsed.find_all("table")) == 3
    assert len([attrs for attrs in parsed.find_all("svg") if attrs.get("role") == "img"]) == 4 + len(
        SPACE.dimensions
    )


def test_all_text_is_escaped(tmp_path):
    evil = "</title></style><b x='\"&"
    space = SearchSpace({evil: Choice(choices=(evil, "犬 été")), "learning_rate": RATE})
    trials = [
        trial(0, [0.5], values={evil: evil}),
        trial(1, [0.6], "failed", values={evil: "犬 été"}, reason=f"<script>{evil}\n{evil}"),
    ]
    text = report(
        tmp_path, trials, space=space, importances={evil: 0.5}, base_values={evil: evil}, metric=evil
    )
    parsed = Page(text)
    assert not parsed.find_all("script")
    assert not [attrs for attrs in parsed.find_all("b") if "x" in attrs]
    assert not [
        wanted
        for wanted in (evil, "犬 été", f"<script>{evil}\n{evil}", "<here>", "<asha>")
        if wanted not in parsed.text
    ]


@pytest.mark.parametrize(
    ("mode", "metric", "best", "figure"), [("max", "val_macro_f1", 2, "90.0%"), ("min", "val_loss", 0, "0.2")]
)
def test_best_is_the_one_found_by_hand(tmp_path, mode, metric, best, figure):
    text = plain(report(tmp_path, some(), mode=mode, metric=metric))
    parsed = Page(text)
    epoch = 2 if mode == "max" else 1
    assert f"{figure}trial {best}, epoch {epoch}" in parsed.text
    assert rows(text)[0] == (f"{best}★", "finished")
    assert text.count(f"★ trial {best}, finished: best {figure} at epoch {epoch}") >= 5
    assert "★ trial" not in re.sub(rf"★ trial {best}", "", text)
    # One ring over time, and one for each parameter.
    assert text.count('<circle class="ring" r="8"/>') == 1 + len(SPACE.dimensions)


def test_headline(tmp_path):
    parsed = Page(plain(report(tmp_path, some())))
    assert "Best validation macro-F1" in parsed.text
    assert "Trials62 finished, 1 stopped, 1 running, 2 failed" in parsed.text
    assert "Epochs trained10of the 18 of all trials in full: 56%" in parsed.text
    assert "Time1 min 10 sto the last score; the trials worked 1 min 40 s in all" in parsed.text


def test_every_trial_is_in_the_table_best_first_and_failed_last(tmp_path):
    text = plain(report(tmp_path, some()))
    parsed = Page(text)
    assert [number for number, _ in rows(text)] == ["2★", "0", "5", "1", "4", "3"]
    assert "3failed––0" in parsed.text
    assert "Why trials failedtrial 3: out of memorytrial 4: a lost worker" in parsed.text
    assert "2bestfinished90.0%2330 s0.0020.7532, 64" in parsed.text


@pytest.mark.parametrize("reason", ["RuntimeError: a\n  File <x>\n" * 50, "long " * 100])
def test_long_reason_is_folded_and_whole(tmp_path, reason):
    trials = [trial(i, [], "failed", reason="out of memory" if i == 1 else reason) for i in range(4)]
    parsed = Page(report(tmp_path, trials))
    assert parsed.text.count(reason.strip()) == 1
    assert parsed.text.count(f"trials 0, 2, 3: {reason.splitlines()[0][:20]}") == 1
    assert "trial 1: out of memory" in parsed.text
    # The reason that three share, and the settings.
    assert len(parsed.find_all("details")) == 2
    assert "Why trials failed" not in Page(report(tmp_path, some()[:3])).text


def test_best_values_stand_beside_those_of_the_base(tmp_path):
    text = Page(plain(report(tmp_path, some()))).text
    assert "learning_rate0.0020.0010.0001 to 0.01, log scale" in text
    assert "mixup.rate0.750.250 to 1" in text
    assert "model.channels32, 6432, 6416, 32 or 32, 64 or 64, 128" in text
    assert "The base values were tried too: trial 0, finished: best 70.0% at epoch 3." in text
    assert "tried too" not in Page(report(tmp_path, some(), base_values={})).text


def test_importances(tmp_path):
    assert "fANOVA" in Page(report(tmp_path, some())).text
    chart = Page(importance_bars({"a": 0.25, "<b>": 0.75, "none": 0.0}))
    widths = [float(attrs["width"] or "") for attrs in chart.find_all("rect")]
    assert widths == [240.0, 80.0, 0.0]
    assert chart.find_all("svg")[0]["aria-label"] == "Importance: <b> 0.75, a 0.25, none 0.00."
    assert Page(report(tmp_path, some(), importances={"a": math.nan, "b": 0.5})).text.count("0.50") == 1
    assert (
        "No estimate from 4 trials with a score: it takes"
        in Page(report(tmp_path, some(), importances=None)).text
    )


def test_best_score_so_far_is_a_step_line():
    svg = score_over_time(results(some()))
    (path,) = [
        attrs["d"]
        for attrs in Page(svg).find_all("path")
        if attrs.get("class") == "trial best" and "H" in (attrs["d"] or "")
    ]
    # Seconds 10 and 20 and so on: 0.2 or 0.3 at first, then 0.5, 0.7, with trial 2's 0.6 too late, and 0.9; the search ends at 70.
    assert path
    corners = re.findall(r"H([\d.]+)V([\d.]+)", path)
    low, high = 0.2, 1.0
    want = [
        (WIDE.x(at / 70), WIDE.y((score - low) / (high - low)))
        for at, score in ((20, 0.5), (30, 0.7), (50, 0.9))
    ]
    assert [(float(x), float(y)) for x, y in corners][-3:] == pytest.approx(
        [pytest.approx(one, abs=0.06) for one in want]
    )
    assert path.endswith(f"H{WIDE.x(1.0):.1f}")
    (failed,) = marks(svg, "failed")
    assert failed == pytest.approx((WIDE.x(20 / 70), WIDE.y((0.95 - low) / (high - low))), abs=0.06)
    assert len(marks(svg, "finished")) == 2
    assert "Best validation accuracy so far: 20.0% after 10 seconds, 90.0% after 50 seconds" in plain(svg)


def test_unit_of_time_fits_the_search():
    for scale, unit in ((1, "seconds"), (60, "minutes"), (3600, "hours")):
        late = Trial(0, SEVEN, "finished", points=[Point(1, 0.5, 50.0 * scale)])
        assert f"{unit} since the search began" in score_over_time(results([late]))


def test_values_on_a_log_scale_are_where_their_logarithms_are():
    svg = parameter_against_score("learning_rate", RATE, results(some()))
    low, high = 0.2, 1.0
    # 1e-3 is half-way between 1e-4 and 1e-2.
    want = [
        (SMALL.x(0.5), SMALL.y((0.7 - low) / (high - low))),
        (SMALL.x(math.log10(20) / 2), SMALL.y((0.9 - low) / (high - low))),
    ]
    assert marks(svg, "finished") == [pytest.approx(one, abs=0.06) for one in want]
    assert marks(svg, "stopped")[0][0] == pytest.approx(SMALL.x(1.0), abs=0.06)
    ticks = value_ticks(RATE, 5)
    assert [text for _, text in ticks] == ["0.0001", "0.0003", "0.001", "0.003", "0.01"]
    assert [place for place, _ in ticks] == pytest.approx(
        [0, math.log10(3) / 2, 0.5, (1 + math.log10(3)) / 2, 1]
    )


def test_choices_are_columns_in_which_trials_are_spread():
    many = [
        trial(i, [0.5], values={"model.channels": [[16, 32], [32, 64], [64, 128]][i % 3]}) for i in range(30)
    ]
    svg = parameter_against_score("model.channels", CHANNELS, results(many))
    column = (SMALL.right - SMALL.left) / 3
    places = [(x - SMALL.left) / column for x, _ in marks(svg, "finished")]
    assert sorted(int(place) for place in places) == sorted([0, 1, 2] * 10)
    assert all(0.2 < place % 1 < 0.8 for place in places)
    assert len({round(place, 2) for place in places}) > 20
    assert svg == parameter_against_score("model.channels", CHANNELS, results(many))
    assert "16, 32" in Page(svg).text


def test_parallel_lines_cross_the_axes_at_their_values():
    svg = parallel_coordinates(SPACE, results(some()))
    step = (WIDTH - LEFT - RIGHT) / 3
    tall = BOTTOM - TOP
    (best,) = lines(svg, "trial best")
    want = [math.log10(20) / 2, 0.75, 0.5 + SPREAD * jitter(2) / -tall, (0.9 - 0.2) / 0.8]
    assert best == [
        pytest.approx((LEFT + i * step, BOTTOM - tall * place), abs=0.06) for i, place in enumerate(want)
    ]
    assert len(lines(svg, "trial")) == 6
    (unscored,) = lines(svg, "trial unscored")
    assert len(unscored) == 3
    assert "learning_rate 0.002, mixup.rate 0.75, model.channels 32, 64." in svg


@pytest.mark.parametrize("mode", ["max", "min"])
def test_better_trials_are_stronger(mode):
    trials = [trial(i, [0.1 + 0.2 * i]) for i in range(5)]
    svg = parallel_coordinates(SPACE, results(trials, "val_loss", mode))
    drawn = [attrs for attrs in Page(svg).find_all("path") if attrs.get("class") in ("trial", "trial best")]
    strengths = [float(attrs["stroke-opacity"] or "") for attrs in drawn[:-1]]
    assert len(drawn) == 5
    assert strengths == sorted(strengths)
    assert strengths[0] < 0.2
    assert drawn[-1]["class"] == "trial best"


def test_eight_long_names_and_a_hundred_trials(tmp_path):
    space = SearchSpace(
        {f"optimizer.a_rather_long_group_{i}.of_unusual_parameters": Range(low=0, high=1) for i in range(8)}
    )
    trials = [
        Trial(i, dict.fromkeys(space.dimensions, i / 100), "stopped", points=[Point(1, i / 100, i)])
        for i in range(100)
    ]
    chart = parallel_coordinates(space, results(trials))
    assert len(lines(chart, "trial")) == 100
    for attrs in Page(chart).find_all("tspan"):
        assert float(attrs["y"] or "") > 10
    assert len(Page(report(tmp_path, trials, space=space)).find_all("svg")) > 8


def test_names_are_wrapped_and_clipped():
    assert wrap_name("learning_rate", 100, 12, 3) == ["learning_rate"]
    assert wrap_name("model.augmentation_strength", 75, 12, 3) == ["model.", "augmentati…", "strength"]
    assert wrap_name("model.augmentation_strength", 90, 12, 3) == ["model.", "augmentation_", "strength"]
    assert wrap_name("a.bb.ccc.dddd.eeeee", 30, 10, 2) == ["a.bb.", "ccc.…"]


def test_curves_follow_time_and_show_how_they_ended():
    back = trial(7, [0.1, 0.2, 0.3])
    back.points += [Point(2, 0.4, 35.0), Point(3, 0.5, 45.0)]
    back.points.reverse()
    svg = trial_curves(results([*some(), back]))
    (line,) = [one for one in lines(svg, "trial finished") if len(one) == 5]
    epochs = [WIDE.x((epoch - 1) / 2) for epoch in (1, 2, 3, 2, 3)]
    assert [x for x, _ in line] == pytest.approx(epochs, abs=0.06)
    assert [y for _, y in line] == sorted((y for _, y in line), reverse=True)
    for state, shape in (("stopped", '<circle r="2.8"/>'), ("failed", '<path d="M-3.5 ')):
        assert re.search(
            rf'<g class="mark {state}" transform="translate\({WIDE.x(0):.1f} [\d.]+\)">{shape}', svg
        )
    assert len(lines(svg, "trial best")) == 1
    assert "finished" in Page(svg).text
    assert "the best: trial 2" in Page(svg).text


def test_diverged_scores_do_not_press_the_others_together():
    scale = MetricAxis("val_loss", "min").scale([0.5, 0.6, 0.7, 0.8, 1e30])
    assert scale.high < 2
    assert scale.ticks[-1][1].startswith("≥ ")
    assert scale.place(1e30) == 1.0
    assert scale.place(0.5) < 0.1
    # A ratio is bounded anyway.
    assert [
        text.replace("\u202f", "")
        for _, text in MetricAxis("class_accuracy", "max").scale([0.0, 0.95, 1.0]).ticks
    ] == [
        "0%",
        "20%",
        "40%",
        "60%",
        "80%",
        "100%",
    ]


@pytest.mark.parametrize(
    ("metric", "mode", "scores"),
    [("val_accuracy", "max", scores) for scores in ([0.0], [1.0], [0.5], [0.7, 0.7 + 1e-12], [0.931, 0.932])]
    + [
        (name, mode, scores)
        for name, mode in (("frechet", "min"), ("other", "max"))
        for scores in ([0.0], [-3.0, 1e-9], [1e30, 2e30])
    ],
)
def test_axis_of_any_scores(metric, mode, scores):
    scale = MetricAxis(metric, mode).scale(scores)
    assert scale.low < scale.high
    assert all(0 <= scale.place(score) <= 1 for score in scores)
    texts = [text for _, text in scale.ticks]
    assert len(set(texts)) == len(texts) > 1
    if metric == "val_accuracy":
        assert 0 <= scale.low < scale.high <= 1


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize(
    "trials",
    [
        [],
        [trial(0, [], "running")],
        [trial(0, [], "failed", reason="<b>\n" * 40)],
        [trial(0, [0.9], "failed")],
        [trial(0, [0.5])],
        [trial(i, [0.5] * 3) for i in range(4)],
        [trial(0, [math.nan, math.inf, -math.inf])],
        [trial(0, [math.nan, 0.5]), trial(1, [math.inf, 0.6])],
        [trial(0, [0.5], start=-10.0)],
        [Trial(0, {}, "finished", points=[Point(1, 0.5, 1.0)])],
        [trial(0, [0.5], values={"learning_rate": None, "mixup.rate": math.nan, "model.channels": "x"})],
        [trial(0, [0.5], values={"learning_rate": -1.0, "mixup.rate": 7, "model.channels": [1, [2]]})],
    ],
    ids=range(12),
)
def test_odd_trials(tmp_path, trials, mode):
    text = report(tmp_path, trials, mode=mode, metric="val_loss", importances=None)
    assert_accessible(Page(text))
    assert not re.search(
        r' (?:[xyd]|[xy][12]|width|height|transform|stroke-opacity)="[^"]*(?:nan|inf|e[+-]?\d)', text
    )
    assert len(rows(text)) == len(trials)
    if not any(math.isfinite(point.score) for one in trials for point in one.points):
        assert text.count("No trial has a score yet.") >= 3 + len(SPACE.dimensions)


def test_scores_that_are_not_finite_count_as_none(tmp_path):
    trials = [trial(0, [math.nan, 0.5]), trial(1, [0.6, math.inf]), trial(2, [math.nan])]
    text = plain(report(tmp_path, trials))
    parsed = Page(text)
    assert "60.0%trial 1, epoch 1" in parsed.text
    assert "Epochs trained5of the 9" in parsed.text
    assert rows(text) == [("1★", "finished"), ("0", "finished"), ("2", "finished")]


def test_one_parameter(tmp_path):
    space = SearchSpace({"learning_rate": RATE})
    assert Page(report(tmp_path, some(), space=space)).text.count("learning_rate") > 3
    assert len(lines(parallel_coordinates(space, results(some())), "trial best")[0]) == 2


def test_axes_make_room_for_values_of_an_earlier_space():
    assert expand_to_values(RATE, [1e-5, 2e-3, 1.0, "x", math.nan, -1.0]).to_dict() == {
        "low": 1e-5,
        "high": 1.0,
        "log": True,
    }
    grown = expand_to_values(CHANNELS, [[16, 32], [1], [1], None])
    assert grown.to_dict()["choices"] == [[16, 32], [32, 64], [64, 128], [1], None]
    assert grown.to_unit([1]) == 0.75
    assert [value_text(one) for one in ([16, [1.5, True]], None, "é", 1e-5, 3, {"a": "é"})] == [
        "16, 1.5, true",
        "none",
        "é",
        "1e-5",
        "3",
        '{"a": "é"}',
    ]


def test_ticks_lie_in_the_range_and_differ():
    whole = Range(low=3, high=9, integer=True)
    assert [text for _, text in value_ticks(whole, 5)] == ["4", "6", "8"]
    for one in (
        Range(low=0.3, high=0.4, log=True),
        Range(low=1e-9, high=1e9, log=True),
        Range(low=-3, high=1e-3),
        whole,
        RATE,
    ):
        ticks = value_ticks(one, 5)
        assert 2 <= len(ticks) == len({text for _, text in ticks}) <= 6
        assert all(-1e-6 <= place <= 1 + 1e-6 for place, _ in ticks)
