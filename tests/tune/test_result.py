"""Results of a search: table and printed summary."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from pipeline.io.errors import UserError
from pipeline.io.yaml_files import read_yaml
from tests.helpers.sounds import write_shards
from tests.tune.searches import search_config
from tune.result import print_results, summarize, write_results, write_table
from tune.search import make_spec
from tune.trials import Point, SearchFolder, Trial


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("tones"))


TRIALS = [
    Trial(0, {"learning_rate": 1e-3}, "finished", "", 20.0, [Point(1, 0.5, 10.0), Point(2, 0.7, 20.0)]),
    Trial(1, {"learning_rate": 2e-3}, "stopped", "", 12.0, [Point(1, 0.75, 32.0)]),
    Trial(2, {"learning_rate": 9e-3}, "failed", "the loss is nan", 1.0),
    Trial(3, {"learning_rate": 4e-3}),
]


def test_table_lists_best_trial_first(tmp_path: Path) -> None:
    write_table(tmp_path / "trials.csv", TRIALS, search_config())
    table = pd.read_csv(tmp_path / "trials.csv")
    assert table["trial"].to_list() == [1, 0, 2, 3]
    assert table["learning_rate"].to_list() == [2e-3, 1e-3, 9e-3, 4e-3]
    assert table["reason"].to_list()[2] == "the loss is nan"


def test_table_lists_failed_trial_last_whatever_it_scored(tmp_path: Path) -> None:
    points = [Point(1, 0.9, 40.0)]
    failed = Trial(4, {"learning_rate": 8e-3}, "failed", "out of memory", 9.0, points)
    for metric, ranked in (("val_accuracy", [1, 0]), ("val_loss", [0, 1])):
        write_table(tmp_path / "trials.csv", [failed, *TRIALS[:2]], search_config(metric=metric))
        table = pd.read_csv(tmp_path / "trials.csv")
        assert table["trial"].to_list() == [*ranked, 4] and table["score"].to_list()[-1] == 0.9


def test_summary_counts_states_and_epochs() -> None:
    assert summarize(search_config(), TRIALS, TRIALS[1], 1) == {
        "metric": "val_macro_f1",
        "score": 0.75,
        "trial": 1,
        "epoch": 1,
        "params": {"learning_rate": 2e-3},
        "trials": {"finished": 1, "stopped": 1, "failed": 1, "running": 1},
        "epochs": 3,
        "seconds": 32.0,
    }


def test_summary_of_a_gan_counts_epochs_between_scores() -> None:
    scores = [Point(4, 30.0, 10.0), Point(8, 20.0, 20.0)]
    trials = [Trial(0, {}, "finished", points=scores), Trial(1, {}, "stopped", points=scores[:1])]
    config = search_config(model="gan")
    assert summarize(config, trials, trials[0], 8)["epochs"] == 12


def test_printed_results_go_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    config = search_config()
    print_results(config, TRIALS, summarize(config, TRIALS, TRIALS[1], 1))
    output = capsys.readouterr()
    assert output.out.splitlines() == [
        "4 trials in 32 s: 1 finished, 1 stopped, 1 failed, 1 unfinished; 3 epochs in total",
        "best: trial 1, val_macro_f1 0.7500 in epoch 1",
        "  learning_rate: 0.002",
        f"settings: {config.run}/best.yaml",
        f"best run: {config.run}/best",
        f"all trials: {config.run}/trials.csv",
        f"report: {config.run}/report.html",
        f"all learning curves: tensorboard --logdir {config.run}/trials",
    ]
    assert output.err == ""


def test_search_without_scores_reports_first_reason(tmp_path: Path) -> None:
    config = search_config(run=tmp_path)
    again = rf"\(to run them again, delete {re.escape(str(tmp_path / 'trials'))}\)"
    with pytest.raises(UserError, match=f"none of 1 trial produced a score: the loss is nan.* {again}$"):
        write_results(config, None, [TRIALS[2]])  # type: ignore[arg-type]
    assert (tmp_path / "trials.csv").is_file()


def test_search_without_scores_names_the_time_budget(tmp_path: Path) -> None:
    config = search_config(run=tmp_path, time_budget=0.5)
    message = r"^--time-budget 0.5 \(minutes\): used up before a trial ended an epoch with a score; raise it"
    with pytest.raises(UserError, match=message):
        write_results(config, None, [TRIALS[3]])  # type: ignore[arg-type]
    with pytest.raises(UserError, match="none of 2 trials produced a score: the loss is nan"):
        write_results(config, None, TRIALS[2:])  # type: ignore[arg-type]


def test_results_of_other_commands_in_the_best_run_are_kept(shards: Path, tmp_path: Path) -> None:
    """Such as an evaluation, until another model is the best one."""
    config = search_config(shards=shards, run=tmp_path / "run")
    spec = make_spec(config)
    folder, trials = SearchFolder(config.run), []
    for number, score in enumerate((0.6, 0.5)):
        params = spec.space.read(spec.base)
        trials.append(Trial(number, params, "finished", "", 1.0, [Point(1, score, 1.0)]))
        folder.save(trials[-1])
        (folder.trial(number) / "model.json").write_text(f'{{"trial": {number}}}')
    write_results(config, spec, trials)
    evaluation = config.run / "best" / "evaluation.json"
    evaluation.write_text("{}")
    write_results(config, spec, trials)
    assert evaluation.is_file()
    trials[1].points.append(Point(2, 0.7, 2.0))
    write_results(config, spec, trials)
    assert not evaluation.exists() and (config.run / "best" / "model.json").read_text() == '{"trial": 1}'


def test_best_run_that_was_copied_in_part_is_copied_again(shards: Path, tmp_path: Path) -> None:
    """As in an object store, by a command that was killed."""
    config = search_config(shards=shards, run=tmp_path / "run")
    spec = make_spec(config)
    trial = Trial(0, spec.space.read(spec.base), "finished", "", 1.0, [Point(1, 0.5, 1.0)])
    SearchFolder(config.run).save(trial)
    (SearchFolder(config.run).trial(0) / "model.safetensors").write_text("weights")
    write_results(config, spec, [trial])
    model = config.run / "best" / "model.safetensors"
    model.unlink()
    write_results(config, spec, [trial])
    assert model.read_text() == "weights"


def test_printed_paths_can_be_pasted(capsys: pytest.CaptureFixture[str]) -> None:
    config = search_config(run=Path("/my search"))
    print_results(config, TRIALS, summarize(config, TRIALS, TRIALS[1], 1))
    assert "tensorboard --logdir '/my search/trials'" in capsys.readouterr().out


def test_result_names_the_epoch_of_the_model_in_best(shards: Path, tmp_path: Path) -> None:
    """Of epochs with the same score it is the one with the lowest loss, not the first."""
    config = search_config(shards=shards, run=tmp_path / "run")
    spec = make_spec(config)
    points = [Point(1, 0.5, 1.0), Point(2, 0.6, 2.0), Point(3, 0.6, 3.0)]
    trial = Trial(0, spec.space.read(spec.base), "finished", "", 3.0, points)
    SearchFolder(config.run).save(trial)
    model = SearchFolder(config.run).trial(0) / "model.json"
    model.write_text('{"training": {"epoch": 3, "val_macro_f1": 0.6}}')
    assert write_results(config, spec, [trial])["epoch"] == 3
    assert "val_macro_f1 0.6 in epoch 3." in (config.run / "best.yaml").read_text()
    model.unlink()
    assert write_results(config, spec, [trial])["epoch"] == 2


def test_best_settings_have_the_resources_of_the_best_trial(shards: Path, tmp_path: Path) -> None:
    """Not those of the command that writes them, such as one that finds the search complete."""
    config = search_config(shards=shards, run=tmp_path / "run")
    spec = make_spec(config)
    params, points = spec.space.read(spec.base), [Point(1, 0.5, 1.0)]
    resources = {"workers": 2, "cpus_per_worker": 3, "gpus_per_worker": 0.0}
    SearchFolder(config.run).save(Trial(0, params, "finished", "", 3.0, points, resources))
    write_results(config, spec, [Trial(0, params, points=points)])  # of a search of an earlier version
    assert read_yaml(config.run / "best.yaml", "--config")["workers"] == 1
    (trial,) = SearchFolder(config.run).read()
    trial.points = points
    write_results(config, spec, [trial])
    settings = read_yaml(config.run / "best.yaml", "--config")
    assert {name: settings[name] for name in resources} == resources
