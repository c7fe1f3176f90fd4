"""Records of trials and the files of a search."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipeline.io.errors import UserError
from tune.trials import Point, SearchFolder, Trial, best_trial, score_line, trained_epochs


def points(*scores: float) -> list[Point]:
    return [Point(epoch, score, float(epoch)) for epoch, score in enumerate(scores, start=1)]


def scored_at(number: int, *epochs: int) -> Trial:
    return Trial(number, {}, points=[Point(epoch, 0.5, 0.0) for epoch in epochs])


def test_epochs_without_a_score_of_their_own_were_trained() -> None:
    # A GAN is scored every fourth epoch, and after its last one.
    trials = [scored_at(0, 4, 8, 10), scored_at(1, 4), scored_at(2), scored_at(3, 4, 8)]
    assert trained_epochs(trials) == {0: 10, 1: 4, 2: 0, 3: 8}


def test_epochs_after_a_copy_count_again() -> None:
    assert trained_epochs([scored_at(0, 1, 2, 3, 4), scored_at(1, 1, 2, 2, 4)]) == {0: 4, 1: 4}
    assert trained_epochs([scored_at(0, 2, 4, 6), scored_at(1, 2, 4, 4, 6)]) == {0: 6, 1: 8}


def test_best_trial_excludes_failed_and_prefers_earliest() -> None:
    trials = [
        Trial(0, {}, "finished", points=points(0.5, 0.8, 0.6)),
        Trial(1, {}, "finished", points=points(0.8, 0.7, 0.8)),
        Trial(2, {}, "failed", points=points(0.9, 0.9, 0.9)),
    ]
    best = best_trial(trials, "max")
    assert best is trials[0]
    assert best.best("max") == Point(2, 0.8, 2.0)
    lowest = best_trial(trials, "min")
    assert lowest is trials[0]
    assert lowest.best("min") == Point(1, 0.5, 1.0)


def test_best_of_epochs_with_equal_scores_has_the_lowest_loss(tmp_path: Path) -> None:
    """As training chooses the epoch of the model, so that all results of a search name that epoch."""
    scored = [
        Point(1, 0.8, 1.0, 0.5),
        Point(2, 0.8, 2.0, 0.4),
        Point(3, 0.8, 3.0, 0.4),
        Point(4, 0.7, 4.0, 0.1),
    ]
    trial = Trial(0, {}, "finished", points=scored)
    assert trial.best("max") == scored[1]
    folder = SearchFolder(tmp_path)
    folder.save(trial)
    folder.append_scores(score_line(0, point) for point in scored)
    assert folder.read() == [trial]


def test_best_trial_without_scores_is_none() -> None:
    assert best_trial([], "max") is None
    assert best_trial([Trial(0, {})], "max") is None


TRIALS = [
    Trial(0, {"learning_rate": 1e-3, "model.channels": [8, 16]}, "finished", "", 9.5, points(0.5, 0.9)),
    Trial(1, {"learning_rate": 2e-3, "model.channels": [16]}, "failed", "out of memory", 1.0),
    Trial(2, {"learning_rate": 3e-3, "model.channels": [16]}, points=points(0.4, 0.6)),
]


def write_search(path: Path) -> SearchFolder:
    folder = SearchFolder(path)
    for trial in TRIALS:
        folder.save(trial)
        folder.append_scores(score_line(trial.number, point) for point in trial.points)
    return folder


def test_search_folder_reads_what_it_wrote(tmp_path: Path) -> None:
    assert write_search(tmp_path).read() == TRIALS


def test_search_folder_drops_partially_written_score(tmp_path: Path) -> None:
    folder = write_search(tmp_path)
    with (tmp_path / "scores.jsonl").open("a") as file:
        file.write('{"trial": 2, "epo')  # the driver was killed here
    assert folder.read() == TRIALS
    folder.append_scores([score_line(2, Point(3, 0.7, 3.0))])
    assert folder.read()[2].points[-1] == Point(3, 0.7, 3.0)


def test_reading_does_not_change_scores_that_a_search_is_writing(tmp_path: Path) -> None:
    """Others, such as `melray.read_search`, may read while the search is in the middle of a line."""
    write_search(tmp_path)
    path, line = tmp_path / "scores.jsonl", score_line(2, Point(3, 0.7, 3.0))
    with path.open("a") as file:
        file.write(line[:10])
        file.flush()
        assert SearchFolder(tmp_path).read() == TRIALS
        file.write(line[10:])
    assert SearchFolder(tmp_path).read()[2].points[-1] == Point(3, 0.7, 3.0)


def test_search_files_have_standard_keys(tmp_path: Path) -> None:
    folder = write_search(tmp_path)
    scores = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert scores[1] == {"trial": 0, "epoch": 2, "score": 0.9, "elapsed_s": 2.0}
    assert json.loads((folder.trial(1) / "trial.json").read_text()) == {
        "number": 1,
        "params": {"learning_rate": 2e-3, "model.channels": [16]},
        "state": "failed",
        "reason": "out of memory",
        "seconds": 1.0,
    }


def test_damaged_trial_file_is_named_with_fix(tmp_path: Path) -> None:
    folder = write_search(tmp_path)
    (folder.trial(1) / "trial.json").write_text('{"number": 1, "color": "red"}')
    with pytest.raises(
        UserError, match=r"trial\.json is damaged .*: delete the folder to run the trial again"
    ):
        folder.read()


def test_search_config_is_read_as_written(tmp_path: Path) -> None:
    folder = SearchFolder(tmp_path / "search")
    assert folder.read_config() is None
    folder.write_config({"command": "tune", "base": {}})
    assert folder.read_config() == {"command": "tune", "base": {}}
    assert json.loads((tmp_path / "search/search.json").read_text())["format_version"] == 2


@pytest.mark.parametrize(
    "version, message",
    [
        ({}, r"search\.json was written by melray < 0\.2: start a new --run$"),
        ({"format_version": 3}, r"search\.json has format version 3, this melray reads 2: update melray$"),
    ],
)
def test_search_of_other_format_is_refused(tmp_path: Path, version: dict, message: str) -> None:
    (tmp_path / "search.json").write_text(json.dumps({"command": "tune", **version}))
    with pytest.raises(UserError, match=message):
        SearchFolder(tmp_path).read_config()


@pytest.mark.parametrize(
    "line", ["nonsense", '{"trial": 0, "epo', "{}", '{"trial": 0, "x": 1}', "\0\0", "\xff"]
)
def test_damaged_score_is_named_with_its_line(tmp_path: Path, line: str) -> None:
    folder = write_search(tmp_path)
    path = tmp_path / "scores.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + line.encode("latin-1") + b"\n" + b"".join(lines[1:]))
    with pytest.raises(UserError, match=r"scores\.jsonl, line 2 is damaged .*: delete the line") as error:
        folder.read()
    assert "\n" not in str(error.value)


def test_score_cut_off_inside_a_character_is_dropped(tmp_path: Path) -> None:
    folder = write_search(tmp_path)
    with (tmp_path / "scores.jsonl").open("ab") as file:
        file.write(b'{"trial": 2, "epoch\xc3')
    assert folder.read() == TRIALS


@pytest.mark.parametrize("run", ["0003", "0003/fold_2"])
def test_runs_of_trials_without_record_are_deleted(tmp_path: Path, run: str) -> None:
    """The search was killed before it wrote the record; the values may be others the next time."""
    folder, classifier = write_search(tmp_path), tmp_path / "trials/0004/reference_classifiers"
    for path in (tmp_path / "trials/0001", tmp_path / "trials" / run, classifier / "selection"):
        path.mkdir(parents=True, exist_ok=True)
        (path / "config.json").write_text("{}")
    folder.delete_unrecorded_runs(folder.read())
    assert not folder.trial(3).exists()
    assert (folder.trial(1) / "config.json").is_file() and classifier.is_dir()
    assert folder.read() == TRIALS


def test_scores_of_deleted_trials_are_removed(tmp_path: Path) -> None:
    folder = write_search(tmp_path)
    shutil.rmtree(folder.trial(0))
    folder.drop_scores_of_deleted(folder.read())
    folder.save(Trial(0, {}))  # runs again
    folder.append_scores([score_line(0, Point(1, 0.3, 1.0))])
    assert [trial.points for trial in folder.read()] == [points(0.3), [], points(0.4, 0.6)]
