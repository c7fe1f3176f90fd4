"""A command that fails before its first epoch leaves no run that refuses other settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.data.dataset_identity import DatasetIdentity
from pipeline.io.errors import UserError
from pipeline.training.failed_start import removed_if_not_started
from pipeline.training.log import open_run_log
from pipeline.training.run_folder import RunFolder
from tests.helpers.s3_server import S3Server

DATASET = DatasetIdentity("digest", lambda: "rows")
OTHER_COMMAND = """
import sys
from pathlib import Path
from tests.pipeline.training.test_failed_start import create
create(Path(sys.argv[1]), 1)
"""


def create(run: Path, epochs: int) -> RunFolder:
    folder = RunFolder(run)
    folder.begin("train-classifier", {"epochs": epochs}, Path("/shards"), [DATASET])
    return folder


def begin(run: Path, epochs: int) -> RunFolder:
    folder = create(run, epochs)
    folder.acquire()
    return folder


def fail(run: Path, epochs: int, *parts: str, error: BaseException | None = None) -> None:
    """Begin a run, whose parts are in subfolders, and fail."""
    with removed_if_not_started(run):
        begin(run, epochs)
        for part in parts:
            begin(run / part, epochs)
        raise error or UserError("too few CPUs")


@pytest.mark.parametrize("error", [UserError("out of memory"), KeyboardInterrupt(), SystemExit(1)])
def test_failed_start_accepts_other_settings(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(type(error)):
        fail(tmp_path / "run", 1, "fold_1", "member_1/validated", error=error)
    assert [path for path in (tmp_path / "run").rglob("*") if path.is_file()] == [tmp_path / "run/notes.txt"]
    begin(tmp_path / "run", 2)


def test_failure_within_the_first_epoch_accepts_other_settings(tmp_path: Path) -> None:
    """As of a batch that does not fit in memory: the log of the run is open by then, without an epoch."""
    with pytest.raises(UserError, match="out of memory"), removed_if_not_started(tmp_path):
        open_run_log(begin(tmp_path, 1), True, [], epochs=1, tensorboard=False).close()
        raise UserError("out of memory")
    assert list(tmp_path.iterdir()) == []
    begin(tmp_path, 2)


def test_failed_start_in_an_object_store(server: S3Server) -> None:
    run = server.bucket("starts") / "run"
    with pytest.raises(UserError, match="too few CPUs"):
        fail(run, 1, "fold_1", "fold_2")
    assert list(run.walk()) == []
    begin(run, 2)


@pytest.mark.parametrize("result", ["metrics.jsonl", "checkpoints/epoch_1/state.json", "model.safetensors"])
@pytest.mark.parametrize("part", [".", "member_1"])
def test_runs_with_an_epoch_are_kept(tmp_path: Path, part: str, result: str) -> None:
    with pytest.raises(UserError, match="too few CPUs"), removed_if_not_started(tmp_path):
        begin(tmp_path, 1)
        begin(tmp_path / "member_1", 1)
        (tmp_path / part / result).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / part / result).write_text('{"epoch": 1}\n')
        raise UserError("too few CPUs")
    for run in (tmp_path, tmp_path / "member_1"):
        with pytest.raises(UserError, match=r"a run with epochs = 1 \(requested 2\)"):
            begin(run, 2)


@pytest.mark.parametrize("part", ["", "member_1"])
def test_run_of_another_command_is_kept(tmp_path: Path, part: str) -> None:
    """It may still train: its first epoch can last for hours."""
    other = begin(tmp_path / part, 1)
    with pytest.raises(UserError, match="too few CPUs"):
        fail(tmp_path, 1, "member_1")
    assert other.read_config() is not None


@pytest.mark.parametrize("part", [".", "member_1"])
def test_run_that_another_command_has_taken_over_is_kept(tmp_path: Path, part: str) -> None:
    with pytest.raises(UserError, match="another process"), removed_if_not_started(tmp_path):
        folder = begin(tmp_path, 1)
        begin(tmp_path / "member_1", 1)
        owner = folder.acquire()
        RunFolder(tmp_path / part).write_json("owner.json", "of another process")
        folder.check_owner(owner)
        raise UserError("another process has the part")
    assert all(RunFolder(run).read_config() for run in (tmp_path, tmp_path / "member_1"))


def test_run_of_a_command_that_has_just_started_is_kept(tmp_path: Path) -> None:
    """It has been created by another process since this command looked for one."""
    with (
        pytest.raises(UserError, match=r"a run with epochs = 1 \(requested 2\)"),
        removed_if_not_started(tmp_path),
    ):
        subprocess.run([sys.executable, "-c", OTHER_COMMAND, tmp_path], check=True)
        create(tmp_path, 2)
    content = RunFolder(tmp_path).read_config()
    assert content is not None and content["config"] == {"epochs": 1}


def test_finished_reference_classifier_of_a_gan_is_kept(tmp_path: Path) -> None:
    classifier = tmp_path / "reference_classifiers" / "selection"
    with pytest.raises(UserError, match="too few CPUs"), removed_if_not_started(tmp_path):
        begin(tmp_path, 1)
        begin(classifier, 5).write_history([{"epoch": 1}])
        raise UserError("too few CPUs")
    begin(tmp_path, 2)
    assert begin(classifier, 5).read_history() == [{"epoch": 1}]
