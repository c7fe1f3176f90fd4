"""The report of a search: data of its figures and tables, for all kinds of trials and search spaces."""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.report.charts import Chart
from tests.helpers.html_page import Page, parse_checked
from tune.dimensions import Choice, IntegerRange, Range
from tune.report.axes import MAX_TICKS, ParamAxis, ScoreAxis, jitter
from tune.report.charts import importance_chart, learning_curves, param_vs_score, score_over_time
from tune.report.parallel_coordinates import SPREAD, parallel_coordinates, wrap_name
from tune.report.report import write_search_report
from tune.report.results import Metric, Results, format_value
from tune.space import SearchSpace
from tune.trials import Mode, Point, Trial

RATE = Range(low=1e-4, high=1e-2, log=True)
CHANNELS = Choice(choices=([16, 32], [32, 64], [64, 128]))
SPACE = SearchSpace(
    {"learning_rate": RATE, "mixup.rate": Range(low=0.0, high=1.0), "model.channels": CHANNELS}
)
BASE = {"learning_rate": 1e-3, "mixup.rate": 0.25, "model.channels": [32, 64]}
NO_SCORES = "No trial has a score yet."


def make_trial(
    number: int, scores: list[float], state: str = "finished", start: float = 0.0, **changes: Any
) -> Trial:
    """Return a trial that takes ten seconds per epoch, from `start`."""
    points = [Point(i + 1, score, start + 10.0 * (i + 1)) for i, score in enumerate(scores)]
    params = BASE | changes.pop("values", {})
    return Trial(number, params, state, points=points, seconds=10.0 * len(scores), **changes)  # type: ignore[arg-type]


def make_trials() -> list[Trial]:
    """Return trials of all states; with mode max, trial 2 is the best: trial 4 scored higher but failed."""
    return [
        make_trial(0, [0.2, 0.5, 0.7]),
        make_trial(1, [0.3], "stopped", values={"learning_rate": 1e-2, "model.channels": [16, 32]}),
        make_trial(2, [0.6, 0.9, 0.8], start=30.0, values={"learning_rate": 2e-3, "mixup.rate": 0.75}),
        make_trial(3, [], "failed", reason="out of memory"),
        make_trial(4, [0.95], "failed", start=10.0, reason="a lost worker"),
        make_trial(5, [0.4, 0.45], "running", start=50.0),
    ]


def make_results(trials: list[Trial], metric: str = "val_accuracy", mode: Mode = "max") -> Results:
    return Results.from_trials(trials, metric, mode)


def plot_parallel(results: Results) -> Chart | None:
    axes = [
        ParamAxis.from_trials(key, dimension, results.trials) for key, dimension in SPACE.dimensions.items()
    ]
    return parallel_coordinates(axes, results)


def write(folder: Path, trials: list[Trial], **changes: Any) -> str:
    """Write a report and return its HTML."""
    path = folder / "report.html"
    values: dict[str, Any] = {
        "title": "A <test> & more",
        "summary": {"data": "<here>"},
        "space": SPACE,
        "trials": trials,
        "mode": "max",
        "metric": "val_macro_f1",
        "importances": {"learning_rate": 0.7, "mixup.rate": 0.1, "model.channels": 0.2},
        "settings": {"max_epochs": 3, "nested": {"name": "<asha>"}},
        "base_values": BASE,
    }
    write_search_report(path, **values | changes)
    return path.read_text(encoding="utf-8")


def text_of(html: str) -> str:
    """Return the text of a page without figures, with plain spaces and without empty lines."""
    text = Page(html).text.replace("\u202f", "").replace("\u00a0", " ")
    return re.sub(r"\s*\n\s*", "\n", text)


def figures(html: str) -> list[dict[str, Any]]:
    """Return data and layout of the figures of a page."""
    return [{key: chart[key] for key in ("data", "layout")} for chart in Page(html).charts]


def cells(html: str) -> list[list[str]]:
    """Return the texts of the rows of the table of trials."""
    (table,) = re.findall(r'<table class="trials">.*?<tbody>(.*?)</tbody>', html, re.DOTALL)
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    return [[text_of(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows]


def traces(chart: Any) -> dict[str, dict[str, Any]]:
    """Return the traces of a chart by name; of several with the same name, the last."""
    assert chart is not None
    return {trace["name"]: trace for trace in json.loads(chart.json)["data"]}


def layout(chart: Any) -> dict[str, Any]:
    return json.loads(chart.json)["layout"]


def test_page_is_self_contained_and_accessible(tmp_path):
    page = parse_checked(write(tmp_path, make_trials()))
    assert len(page.charts) == 4 + len(SPACE.dimensions)
    assert len(page.tables) == 3 and len(page.sections) == 8
    assert os.listdir(tmp_path) == ["report.html"]


def test_all_texts_are_escaped(tmp_path):
    evil = "</script></title></style><b x='\"&"
    space = SearchSpace({evil: Choice(choices=(evil, "犬 été")), "learning_rate": RATE})
    trials = [
        make_trial(0, [0.5], values={evil: evil}),
        make_trial(1, [0.6], "failed", values={evil: "犬 été"}, reason=f"<script>{evil}\n{evil}"),
    ]
    html = write(
        tmp_path,
        trials,
        space=space,
        importances={evil: 0.5},
        base_values={evil: evil},
        metric=evil,
        title=evil,
    )
    page = Page(html)
    assert len([attrs for attrs in page.find_all("script") if attrs]) == len(figures(html)) == 6
    assert len(page.scripts) == 2
    assert not [attrs for attrs in page.find_all("b") if attrs]
    text = text_of(html)
    for expected in (evil, "犬 été", f"<script>{evil}\n{evil}", "<here>", "<asha>"):
        assert expected in text
    # Plotly takes some HTML in texts, so they are escaped in the figures too.
    assert "<b " not in json.dumps(figures(html))
    assert "&lt;b x='" in json.dumps(figures(html))


@pytest.mark.parametrize(
    ("mode", "metric", "number", "epoch", "score"),
    [("max", "val_macro_f1", 2, 2, "90.0%"), ("min", "val_loss", 0, 1, "0.2")],
)
def test_best_trial_is_marked_everywhere(tmp_path, mode, metric, number, epoch, score):
    html = write(tmp_path, make_trials(), mode=mode, metric=metric)
    text = text_of(html)
    assert f"{score}trial {number}, epoch {epoch}" in text
    assert f"◎ best: trial {number}" in text
    assert cells(html)[0][:4] == [f"{number}best", "finished", score, str(epoch)]
    names = [[trace.get("name") for trace in figure["data"]] for figure in figures(html)]
    # Over time, for each hyperparameter, and among the learning curves.
    assert sum(f"best: trial {number}" in group for group in names) == 2 + len(SPACE.dimensions)
    descriptions = [
        attrs["aria-label"] for attrs in Page(html).find_all("div") if attrs.get("class") == "plot"
    ]
    description = f"★ trial {number}, finished: best {score} at epoch {epoch}"
    assert sum(description in str(one).replace("\u202f", "") for one in descriptions) == 2 + len(
        SPACE.dimensions
    )


def test_headline_counts_trials_and_epochs(tmp_path):
    text = text_of(write(tmp_path, make_trials()))
    assert "Best validation macro-F1" in text
    assert "Trials62 finished, 1 stopped, 1 running, 2 failed" in text
    assert "56% of 18 without stopping" in text
    assert "1 min 10 s" in text
    assert "to the last score; total trial time 1 min 40 s" in text
    assert "validation macro-F1, higher is better" in text


def test_epochs_of_a_gan_without_a_score_are_counted(tmp_path):
    trials = [make_trial(0, [0.5, 0.6]), make_trial(1, [0.4], "stopped")]
    for trial in trials:
        trial.points = [replace(point, epoch=5 * point.epoch) for point in trial.points]
    html = write(tmp_path, trials, settings={"max_epochs": 10})
    assert "75% of 20 without stopping" in text_of(html)
    assert [row[4] for row in cells(html)] == ["10", "5"]


def test_trials_are_listed_best_first_failed_last(tmp_path):
    html = write(tmp_path, make_trials())
    rows = cells(html)
    assert [row[0] for row in rows] == ["2best", "0", "5", "1", "4", "3"]
    assert rows[0] == ["2best", "finished", "90.0%", "2", "3", "30 s", "0.002", "0.75", "32, 64"]
    assert rows[-1][:5] == ["3", "failed", "–", "–", "0"]
    text = text_of(html)
    assert "trial 3: out of memory" in text
    assert "trial 4: a lost worker" in text


def test_hyperparameter_names_can_be_broken(tmp_path):
    html = write(tmp_path, make_trials())
    assert "&lt;wbr" not in html
    assert "<wbr>" in html


@pytest.mark.parametrize("reason", ["RuntimeError: a\n  File <x>\n" * 50, "long " * 100])
def test_long_reason_is_collapsed_and_complete(tmp_path, reason):
    trials = [make_trial(i, [], "failed", reason="out of memory" if i == 1 else reason) for i in range(4)]
    html = write(tmp_path, trials)
    page = Page(html)
    assert page.text.count(reason.strip()) == 1
    assert page.text.count(f"trials 0, 2, 3: {reason.splitlines()[0][:20]}") == 1
    assert "trial 1: out of memory" in page.text
    # The reason that three trials share, and the settings.
    assert len(page.find_all("details")) == 2
    assert "Failures" not in text_of(write(tmp_path, make_trials()[:3]))


def test_best_values_are_next_to_base_values(tmp_path):
    html = write(tmp_path, make_trials())
    (table,) = re.findall(r'<table class="params">.*?<tbody>(.*?)</tbody>', html, re.DOTALL)
    rows = [re.findall(r"<td>(.*?)</td>", row) for row in table.split("<tr>")[1:]]
    assert rows == [
        ["<b>0.002</b>", "0.001", "0.0001 to 0.01, log scale"],
        ["<b>0.75</b>", "0.25", "0 to 1"],
        ["<b>32, 64</b>", "32, 64", "16, 32 or 32, 64 or 64, 128"],
    ]
    tried = "The base values were tried too: trial 0, finished: best 70.0% at epoch 3."
    assert tried in text_of(html)
    assert "tried too" not in text_of(write(tmp_path, make_trials(), base_values={}))


def test_importances_are_sorted_bars():
    chart = importance_chart({"a": 0.25, "<b>": 0.75, "none": 0.0})
    (bars,) = json.loads(chart.json)["data"]
    assert bars["x"] == [0.75, 0.25, 0.0]
    assert bars["text"] == ["0.75", "0.25", "0.00"]
    assert layout(chart)["yaxis"]["ticktext"] == ["&lt;b&gt;", "a", "none"]
    assert chart.description == "Importance: <b> 0.75, a 0.25, none 0.00."


def test_importances_keep_names_that_are_cut_alike():
    chart = importance_chart({f"{'long_name.' * 5}{i}": 0.5 for i in range(2)})
    assert layout(chart)["yaxis"]["tickvals"] == [0, 1]
    assert len(set(json.loads(chart.json)["data"][0]["hovertext"])) == 2


def test_importances_note_their_caveat(tmp_path):
    text = text_of(write(tmp_path, make_trials()))
    assert "fANOVA, Hutter et al. 2014" in text
    assert "Estimated from 4 trials with a score" in text
    html = write(tmp_path, make_trials(), importances={"a": math.nan, "b": 0.5})
    assert [figure["data"][0]["x"] for figure in figures(html) if figure["data"][0]["type"] == "bar"] == [
        [0.5]
    ]
    assert "No estimate from 4 trials with a score" in text_of(
        write(tmp_path, make_trials(), importances=None)
    )


def test_best_score_so_far_is_a_step_line():
    chart = score_over_time(make_results(make_trials()))
    line = traces(chart)["best so far"]
    assert line["line"]["shape"] == "hv"
    # Both trials 0 and 1 end their first epoch after 10 s; then trials 0, 0 and 2; the search ends at 70 s.
    assert list(zip(line["x"], line["y"], strict=True))[-4:] == [(20, 0.5), (30, 0.7), (50, 0.9), (70, 0.9)]
    assert traces(chart)["failed"]["x"] == [20]
    assert traces(chart)["failed"]["y"] == [0.95]
    assert sorted(traces(chart)["finished"]["x"]) == [30, 50]
    assert traces(chart)["best: trial 2"]["x"] == [50]
    assert chart is not None
    description = chart.description.replace("\u202f", "")
    assert description.startswith(
        "Best validation accuracy so far: 20.0% after 10 seconds, 90.0% after 50 seconds"
    )


@pytest.mark.parametrize(("scale", "unit"), [(1, "seconds"), (60, "minutes"), (3600, "hours")])
def test_time_unit_fits_duration_of_search(scale, unit):
    trial = Trial(0, BASE, "finished", points=[Point(1, 0.5, 50.0 * scale)])
    chart = score_over_time(make_results([trial]))
    assert layout(chart)["xaxis"]["title"]["text"] == f"wall time in {unit}"
    assert traces(chart)["finished"]["x"] == [50]


def test_log_range_has_log_axis():
    chart = param_vs_score(ParamAxis.from_trials("learning_rate", RATE, []), make_results(make_trials()))
    axis = layout(chart)["xaxis"]
    assert axis["type"] == "log"
    assert axis["range"] == [pytest.approx(-4.08), pytest.approx(-1.92)]
    assert axis["ticktext"] == ["0.0001", "0.001", "0.01"]
    finished = traces(chart)["finished"]
    assert list(zip(finished["x"], finished["y"], strict=True)) == [(0.001, 0.7), (0.002, 0.9)]
    assert traces(chart)["stopped"]["x"] == [0.01]
    assert traces(chart)["best: trial 2"]["x"] == [0.002]


def test_integer_range_has_whole_ticks():
    trials = [make_trial(i, [0.5], values={"depth": i}) for i in (3, 4, 6)]
    axis = ParamAxis.from_trials("depth", IntegerRange(low=3, high=6), trials)
    chart = param_vs_score(axis, make_results(trials))
    assert layout(chart)["xaxis"]["dtick"] == 1
    assert sorted(traces(chart)["finished"]["x"]) == [3, 4, 6]
    assert "dtick" not in ParamAxis("depth", IntegerRange(low=0, high=100)).layout()


@pytest.mark.parametrize(
    "dimension",
    [
        Range(low=0.3, high=0.4, log=True),
        Range(low=1e-9, high=1e9, log=True),
        Range(low=1e-5, high=1e-3, log=True),
        Range(low=-3, high=1e-3),
        Choice(choices=tuple(range(50))),
    ],
)
def test_ticks_are_few_and_inside(dimension):
    axis = ParamAxis("key", dimension)
    values = axis.layout().get("tickvals", [])
    assert len(values) <= MAX_TICKS
    low, high = axis.layout()["range"]
    assert all(low <= (math.log10(v) if axis.layout().get("type") == "log" else v) <= high for v in values)
    assert 2 <= len(axis.labels()) <= MAX_TICKS
    assert all(0 <= position <= 1 for position, _ in axis.labels())


def test_choices_are_columns_with_jitter():
    trials = [
        make_trial(i, [0.5], values={"model.channels": [[16, 32], [32, 64], [64, 128]][i % 3]})
        for i in range(30)
    ]
    chart = param_vs_score(ParamAxis.from_trials("model.channels", CHANNELS, trials), make_results(trials))
    x = traces(chart)["finished"]["x"]
    assert sorted(round(value) for value in x) == sorted([0, 1, 2] * 10)
    assert all(abs(value - round(value)) <= 0.25 for value in x)
    assert len({round(value, 2) for value in x}) > 20
    assert layout(chart)["xaxis"]["ticktext"] == ["16, 32", "32, 64", "64, 128"]


def test_long_choice_names_are_cut_in_labels(tmp_path):
    names = tuple(f"{'a very long category name ' * 4}<{i}>" for i in range(12))
    space = SearchSpace({"category": Choice(choices=names)})
    trials = [make_trial(i, [0.5 + i / 100], values={"category": name}) for i, name in enumerate(names)]
    html = write(tmp_path, trials, space=space)
    labels = figures(html)[2]["layout"]["xaxis"]["ticktext"]
    assert len(labels) <= MAX_TICKS
    assert max(map(len, labels)) <= 18
    assert [row[-1] for row in cells(html)] == list(reversed(names))


def test_parallel_lines_cross_axes_at_values():
    chart = plot_parallel(make_results(make_trials()))
    expected = [math.log10(20) / 2, 0.75, 0.5 + SPREAD * jitter(2), (0.9 - 0.3) / (0.95 - 0.3)]
    assert traces(chart)["trial 2"]["x"] == [0, 1, 2, 3]
    assert traces(chart)["trial 2"]["y"] == pytest.approx(expected)
    assert traces(chart)["trial 2"]["line"]["color"] == "var(--ink)"
    unscored = traces(chart)["trial 3"]
    assert unscored["y"][-1] is None
    assert unscored["line"]["dash"] == "dash"
    assert len(traces(chart)) == 6 + 1
    assert sorted(traces(chart)["score"]["y"]) == [0.3, 0.45, 0.7, 0.9, 0.95]
    assert (
        "learning_rate 0.002; mixup.rate 0.75; model.channels 32, 64" in traces(chart)["trial 2"]["hovertext"]
    )
    texts = [note["text"] for note in layout(chart)["annotations"]]
    assert texts == ["0.0001", "0.01", "0", "1", "16, 32", "32, 64", "64, 128"]


@pytest.mark.parametrize("mode", ["max", "min"])
def test_lines_of_better_trials_are_stronger(mode):
    trials = [make_trial(i, [0.1 + 0.2 * i]) for i in range(5)]
    chart = plot_parallel(make_results(trials, "val_loss", mode))
    numbers = [0, 1, 2, 3, 4] if mode == "max" else [4, 3, 2, 1, 0]
    opacities = [traces(chart)[f"trial {number}"]["opacity"] for number in numbers]
    assert opacities == sorted(opacities)
    assert opacities[0] < 0.2
    assert opacities[-1] == 1.0


def test_many_long_names_and_trials(tmp_path):
    space = SearchSpace(
        {f"optimizer.a_rather_long_group_{i}.of_unusual_parameters": Range(low=0, high=1) for i in range(8)}
    )
    trials = [
        Trial(i, dict.fromkeys(space.dimensions, i / 60), "stopped", points=[Point(1, i / 60, i)])
        for i in range(60)
    ]
    html = write(tmp_path, trials, space=space, importances=dict.fromkeys(space.dimensions, 0.125))
    assert len(cells(html)) == 60
    assert len(figures(html)) == 4 + 8
    parallel = figures(html)[1]
    assert len(parallel["data"]) == 60 + 1
    assert all(name.count("<br>") <= 2 for name in parallel["layout"]["xaxis"]["ticktext"])


def test_names_are_wrapped_and_cut():
    assert wrap_name("learning_rate") == "learning_rate"
    assert wrap_name("model.augmentation_strength") == "model.<br>augmentation_<br>strength"
    assert wrap_name("a.bb.ccc.dddd.eeeee", width=5, max_lines=2) == "a.bb.<br>ccc.…"
    assert wrap_name("<a>") == "&lt;a&gt;"


def test_curves_follow_time_and_mark_ends():
    rolled_back = make_trial(7, [0.1, 0.2, 0.3])
    rolled_back.points += [Point(2, 0.4, 35.0), Point(3, 0.5, 45.0)]
    rolled_back.points.reverse()
    chart = learning_curves(make_results([*make_trials(), rolled_back]))
    assert chart is not None
    data = json.loads(chart.json)["data"]
    (lines,) = [trace for trace in data if trace["name"] == "finished" and trace["mode"] == "lines"]
    # Worst first, with a gap between trials.
    assert lines["x"] == [1, 2, 3, 2, 3, None, 1, 2, 3]
    assert lines["y"] == [0.1, 0.2, 0.3, 0.4, 0.5, None, 0.2, 0.5, 0.7]
    ends = {trace["name"]: trace for trace in data if trace["mode"] == "lines+markers"}
    assert ends["finished"]["x"] == [3, None, 3]
    assert (ends["stopped"]["x"], ends["stopped"]["y"]) == ([1], [0.3])
    assert (ends["failed"]["x"], ends["failed"]["y"]) == ([1], [0.95])
    assert (ends["running"]["x"], ends["running"]["y"]) == ([2], [0.45])
    assert ends["best: trial 2"]["y"] == [0.6, 0.9, 0.8]
    assert [trace["name"] for trace in data if trace["showlegend"]] == [
        "finished",
        "stopped",
        "running",
        "failed",
        "best: trial 2",
    ]


def test_diverged_scores_are_drawn_at_end_of_axis(tmp_path):
    scores = [0.5, 0.6, 0.7, 0.8, 1e30]
    axis = ScoreAxis.from_scores(Metric("val_loss", "min"), scores)
    assert axis.high < 2
    assert axis.clip(1e30) == axis.high
    assert axis.position(0.5) == 0.0
    trials = [make_trial(i, [score]) for i, score in enumerate(scores)]
    html = write(tmp_path, trials, mode="min", metric="val_loss")
    assert text_of(html).count("Outliers are at the end of the axis.") == 4
    assert max(figures(html)[0]["data"][1]["y"]) < 2
    assert cells(html)[-1][2] == "1e+30"
    # A fraction has bounds.
    bounded = ScoreAxis.from_scores(Metric("class_accuracy", "max"), [0.0, 0.95, 1.0])
    assert (bounded.low, bounded.high) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("metric", "mode", "scores"),
    [("val_accuracy", "max", scores) for scores in ([0.0], [1.0], [0.5], [0.7, 0.7 + 1e-12], [0.931, 0.932])]
    + [
        (name, mode, scores)
        for name, mode in (("frechet", "min"), ("other", "max"))
        for scores in ([0.0], [-3.0, 1e-9], [1e30, 2e30])
    ],
)
def test_score_axis_is_never_empty(metric, mode, scores):
    axis = ScoreAxis.from_scores(Metric(metric, mode), scores)
    assert axis.low < axis.high
    assert all(0 <= axis.position(score) <= 1 for score in scores)
    low, high = axis.layout()["range"]
    assert low < axis.low < axis.high < high
    if metric == "val_accuracy":
        assert 0 <= axis.low < axis.high <= 1
        assert axis.layout()["tickformat"] == ".3~%"


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize(
    "trials",
    [
        pytest.param([], id="none"),
        pytest.param([make_trial(0, [], "running")], id="running"),
        pytest.param([make_trial(0, [], "failed", reason="<b>\n" * 40)], id="failed"),
        pytest.param([make_trial(0, [0.9], "failed")], id="failed_with_score"),
        pytest.param([make_trial(i, [], "failed", reason=f"error {i}") for i in range(3)], id="all_failed"),
        pytest.param([make_trial(0, [0.5])], id="one"),
        pytest.param([make_trial(i, [0.5] * 3) for i in range(4)], id="equal"),
        pytest.param([make_trial(0, [math.nan, math.inf, -math.inf])], id="not_finite"),
        pytest.param([make_trial(0, [math.nan, 0.5]), make_trial(1, [math.inf, 0.6])], id="partly_finite"),
        pytest.param([make_trial(0, [0.5], start=-10.0)], id="at_time_0"),
        pytest.param([Trial(0, {}, "finished", points=[Point(1, 0.5, 1.0)])], id="no_values"),
        pytest.param(
            [make_trial(0, [0.5], values=dict(zip(BASE, (None, math.nan, "x"), strict=True)))],
            id="odd_values",
        ),
        pytest.param(
            [make_trial(0, [0.5], values=dict(zip(BASE, (-1.0, 7, [1, [2]]), strict=True)))], id="outside"
        ),
    ],
)
def test_unusual_trials_give_a_page(tmp_path, trials, mode):
    html = write(tmp_path, trials, mode=mode, metric="val_loss", importances=None)
    assert len(cells(html)) == len(trials)
    scored = any(math.isfinite(point.score) for trial in trials for point in trial.points)
    assert len(figures(html)) >= (3 if scored else bool(trials))
    assert text_of(html).count(NO_SCORES) >= (0 if scored else 4 - bool(trials))


def test_scores_that_are_not_finite_count_as_none(tmp_path):
    trials = [make_trial(0, [math.nan, 0.5]), make_trial(1, [0.6, math.inf]), make_trial(2, [math.nan])]
    html = write(tmp_path, trials)
    text = text_of(html)
    assert "60.0%trial 1, epoch 1" in text
    assert "56% of 9 without stopping" in text
    assert [row[:3] for row in cells(html)] == [
        ["1best", "finished", "60.0%"],
        ["0", "finished", "50.0%"],
        ["2", "finished", "–"],
    ]


def test_space_of_one_parameter(tmp_path):
    html = write(tmp_path, make_trials(), space=SearchSpace({"learning_rate": RATE}))
    assert len(figures(html)) == 5
    assert len(figures(html)[1]["data"][-2]["y"]) == 2


def test_axes_include_values_outside_the_space():
    def extend(key: str, dimension: Range | Choice, values: list[Any]) -> Range | Choice:
        trials = [make_trial(i, [0.5], values={key: value}) for i, value in enumerate(values)]
        return ParamAxis.from_trials(key, dimension, trials).dimension

    extended = extend("learning_rate", RATE, [1e-5, 2e-3, 1.0, "x", math.nan, -1.0])
    assert extended.to_dict() == {"low": 1e-5, "high": 1.0, "log": True}
    extended = extend("model.channels", CHANNELS, [[16, 32], [1], [1], None])
    assert extended.to_dict()["choices"] == [[16, 32], [32, 64], [64, 128], [1], None]
    assert extended.to_unit([1]) == 0.75


def test_values_are_formatted_in_short():
    assert [format_value(value) for value in ([16, [1.5, True]], None, "é", 1e-5, 3, {"a": "é"})] == [
        "16, 1.5, true",
        "none",
        "é",
        "1e-5",
        "3",
        '{"a": "é"}',
    ]
