"""Runs in MLflow: in a folder, and slow tests with a real server on SQLite."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.classifier.loop import train_epochs
from pipeline.classifier.train import begin_run, train_in_process
from pipeline.training.run_folder import RunFolder
from pipeline.training.trackers import tracking
from pipeline.training.trackers.client import NewRun
from pipeline.training.trackers.follower import Command, Follower
from pipeline.training.trackers.mlflow_client import MlflowTracker
from pipeline.training.trackers.record import TrackerRecord
from pipeline.training.trackers.tracked_runs import training_runs
from pipeline.training.trackers.tracking import tracked
from tests.helpers.mlflow_server import MlflowServer
from tests.helpers.processes import wait_until
from tests.helpers.runs import SINGLE_WORKER, load_weights, tensors_equal
from tests.helpers.sounds import train_config

mlflow = pytest.importorskip("mlflow")


@pytest.fixture
def folder_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have MLflow write to a folder, which needs no database."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path / 'mlruns'}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def on_server(server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> MlflowServer:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    return server


def follow(run: Path) -> Follower:
    """Follow a run as a new command does."""
    command = Command(run, training_runs, {"workers": 1}, run.parent.name)
    return Follower(command, "mlflow", MlflowTracker(run), lambda seconds: None)


def client() -> Any:
    return mlflow.MlflowClient()


def runs_of(experiment: str) -> dict[str, Any]:
    """Return the runs of an experiment by name."""
    experiment_id = client().get_experiment_by_name(experiment).experiment_id
    runs = client().search_runs([experiment_id])
    assert len({run.info.run_name for run in runs}) == len(runs)
    return {run.info.run_name: run for run in runs}


def steps(run: Any, metric: str = "train/loss") -> list[tuple[int, float]]:
    history = client().get_metric_history(run.info.run_id, metric)
    return sorted((point.step, point.value) for point in history)


def artifacts(run: Any, folder: str | None = None) -> set[str]:
    return {item.path for item in client().list_artifacts(run.info.run_id, folder)}


@pytest.mark.usefixtures("folder_store")
def test_resumed_run_has_its_id_and_no_epoch_twice(run: Path) -> None:
    folder = RunFolder(run)
    history = folder.read_history()
    folder.write_history(history[:2])
    (run / "summary.json").rename(run / "later.json")
    first = follow(run)
    first.poll()
    first.finish("failed")
    (stopped,) = runs_of("project").values()
    assert stopped.info.status == "FAILED" and len(steps(stopped)) == 2
    # As if the command had been killed before it could record what it had sent.
    record = folder.read_json("tracker_mlflow.json")
    folder.write_json("tracker_mlflow.json", record | {"epoch": 0, "remote_id": ""})
    folder.write_history(history[:1])
    second = follow(run)
    second.poll()
    assert runs_of("project")["first"].info.status == "RUNNING"
    folder.write_history(history)
    (run / "later.json").rename(run / "summary.json")
    second.finish("finished")
    (finished,) = runs_of("project").values()
    assert finished.info.run_id == stopped.info.run_id and finished.info.status == "FINISHED"
    assert steps(finished) == [(metrics["epoch"], metrics["train_loss"]) for metrics in history]
    assert finished.data.params["learning_rate"] == "0.002" and finished.data.params["workers"] == "1"


@pytest.mark.usefixtures("folder_store")
def test_cross_validation_is_a_parent_with_children(run: Path) -> None:
    root = run.parent / "cross"
    for fold in (1, 2):
        shutil.copytree(run, root / f"fold_{fold}")
    (root / "crossval.json").write_text('{"mean": {"accuracy": 0.5}}')
    follow(root).finish("finished")
    runs = runs_of("project")
    parent = runs.pop("cross")
    assert sorted(runs) == ["cross/fold_1", "cross/fold_2"]
    assert {child.data.tags["mlflow.parentRunId"] for child in runs.values()} == {parent.info.run_id}
    assert parent.data.metrics["crossval/mean.accuracy"] == 0.5
    assert artifacts(parent, "model/fold_2") == {
        "model/fold_2/model.safetensors",
        "model/fold_2/model.json",
    }


def make_tracked(shards: Path, run: Path) -> Any:
    config = train_config(shards, run, epochs=4, log_to="mlflow")
    begin_run(config)
    return config


def metrics_without_times(run: Path) -> list[dict[str, Any]]:
    times = ("seconds", "samples_per_second")
    history = RunFolder(run).read_history()
    return [{key: value for key, value in row.items() if key not in times} for row in history]


def test_server_that_is_down_changes_nothing(
    shards: Path,
    complete_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:sesame@127.0.0.1:{MlflowServer(tmp_path).port}")
    config = make_tracked(shards, tmp_path / "run")
    with tracked(config):
        train_in_process(config)
    assert metrics_without_times(config.run) == metrics_without_times(complete_run)
    assert tensors_equal(load_weights(config.run), load_weights(complete_run))
    (warning,) = (record.getMessage() for record in caplog.records if record.name == "melray")
    assert warning.startswith("--log-to mlflow: ") and "sesame" not in warning and "\n" not in warning
    assert "the work continues" in warning


def test_tracker_process_has_low_priority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "FLUSH_S", 0.0)
    with tracked(train_config(tmp_path, tmp_path, log_to="mlflow")):
        found: list[psutil.Process] = []

        def find() -> bool:  # a new process has the command line of this one for a moment
            found[:] = [
                child for child in psutil.Process().children() if tracking.process.__name__ in child.cmdline()
            ]
            return bool(found)

        wait_until(find)
        assert [child.nice() for child in found] == [min(psutil.Process().nice() + tracking.NICENESS, 19)]


def test_server_that_does_not_answer_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracking, "FLUSH_S", 0.5)
    monkeypatch.setattr(tracking, "MAX_FLUSH_S", 1.0)
    RunFolder(tmp_path).write_json("config.json", {})
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{listener.getsockname()[1]}")
        config = train_config(tmp_path, tmp_path, log_to="mlflow")
        start = time.monotonic()
        with tracked(config):
            pass
        assert time.monotonic() - start < 15
    assert "not everything was sent within" in caplog.text


@pytest.mark.slow
def test_run_on_server_has_everything(run: Path, on_server: MlflowServer) -> None:
    run = Path(run.rename(run.with_name("whole")))
    (run / "report.html").write_text("<p>report</p>")
    (run / "samples/epoch_0002").mkdir(parents=True)
    (run / "samples/epoch_0002/dog_1.wav").write_bytes(b"RIFF")
    follow(run).finish("finished")
    found = runs_of("project")["whole"]
    assert found.info.status == "FINISHED" and [step for step, _ in steps(found)] == [1, 2, 3, 4]
    assert found.data.params["model.channels"] == "[8, 16]" and "summary/val_loss" in found.data.metrics
    assert {"report.html", "config.json", "summary.json", "split.parquet", "model"} <= artifacts(found)
    assert artifacts(found, "samples/epoch_0002") == {"samples/epoch_0002/dog_1.wav"}
    follow(run).finish("finished")
    (version,) = client().search_model_versions("name='project-classifier'")
    assert version.run_id == found.info.run_id and version.tags["kind"] == "classifier"
    path = mlflow.artifacts.download_artifacts("models:/project-classifier/1", dst_path=str(run / "copy"))
    assert tensors_equal(load_weights(Path(path)), load_weights(run))


@pytest.mark.slow
def test_server_that_dies_gets_the_rest_later(
    shards: Path, complete_run: Path, tmp_path: Path, on_server: MlflowServer
) -> None:
    config = make_tracked(shards, tmp_path / "dying" / "run")
    epochs = train_epochs(config, SINGLE_WORKER)
    with tracked(config):
        next(epochs), next(epochs)
        deadline = time.monotonic() + 60
        while (RunFolder(config.run).read_json("tracker_mlflow.json") or {}).get("epoch") != 2:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        on_server.stop()
        for _ in epochs:
            pass
    assert metrics_without_times(config.run) == metrics_without_times(complete_run)
    assert tensors_equal(load_weights(config.run), load_weights(complete_run))
    on_server.start()
    found = runs_of("dying")["run"]
    assert found.info.status == "RUNNING" and len(steps(found)) == 2
    with tracked(config):  # the same command again
        pass
    assert runs_of("dying")["run"].info.status == "FINISHED"
    assert [step for step, _ in steps(found)] == [1, 2, 3, 4]


@pytest.mark.usefixtures("folder_store")
def test_many_metrics_and_other_names_than_mlflow_accepts_are_sent(run: Path) -> None:
    """A single name that MLflow refuses would cost all metrics of the request, each time again."""
    tracker, record = MlflowTracker(run), TrackerRecord.read(run, "mlflow", "project")
    tracker.start(record, NewRun("run", "run", "project", "", {"stages.Anna's": 1}))
    values = {f"recall/{number}": float(number) for number in range(1200)}
    tracker.log_results(record, {**values, "recall/Child speech, <kid>": 0.5, "x" * 400: 0.25}, [])
    (found,) = runs_of("project").values()
    assert found.data.metrics["recall/1199"] == 1199.0 and len(found.data.metrics) == 1202
    assert found.data.metrics["recall/Child speech_ _kid_"] == 0.5
    assert found.data.params == {"stages.Anna_s": "1"}
