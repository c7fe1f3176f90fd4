"""Run folder: a folder belongs to one run, of the current format, and to one process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from models.settings import ClassifierConfig
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.data.dataset_identity import DatasetIdentity
from pipeline.io.errors import UserError
from pipeline.training import run_folder
from pipeline.training.model_file import load_generator
from pipeline.training.run import SUMMARY_KEYS, load_run_data
from pipeline.training.run_folder import RunFolder
from tests.helpers.s3_server import S3Server

DATASET = DatasetIdentity("digest", lambda: "rows")
OTHER = DatasetIdentity("other digest", lambda: "other rows")
OLD_FORMAT = r"config.json was written by melray < 0.2: train again in a new --run"


def begin(run: Path, **settings: object) -> RunFolder:
    folder = RunFolder(run)
    folder.begin("train-classifier", {"epochs": 1, **settings}, Path("/shards"), [DATASET])
    return folder


def remove_format_version(run: Path) -> None:
    content = json.loads((run / "config.json").read_text())
    del content["format_version"]
    (run / "config.json").write_text(json.dumps(content))


def test_config_holds_format_version_and_settings(tmp_path: Path) -> None:
    assert begin(tmp_path / "run").read_config() == {
        "format_version": 2,
        "command": "train-classifier",
        "shards_digest": "digest",
        "extra_digests": [],
        "rows_digests": ["rows"],
        "config": {"epochs": 1},
        "shards": "/shards",
    }


def test_same_settings_resume_the_run(tmp_path: Path) -> None:
    before = begin(tmp_path / "run").read_config()
    assert begin(tmp_path / "run").read_config() == before


def test_resumed_run_has_the_current_path_of_its_shards(tmp_path: Path) -> None:
    before = begin(tmp_path).read_config()
    folder = RunFolder(tmp_path)
    folder.begin("train-classifier", {"epochs": 1}, Path("/moved"), [DATASET])
    assert before is not None and folder.read_config() == {**before, "shards": "/moved"}
    with pytest.raises(UserError, match="a run with other clips than --shards /others has now"):
        folder.begin("train-classifier", {"epochs": 1}, Path("/others"), [OTHER])
    with pytest.raises(UserError, match="a run with other clips than --extra-shards has now"):
        folder.begin("train-classifier", {"epochs": 1}, Path("/moved"), [DATASET, OTHER])
    assert folder.read_config() == {**before, "shards": "/moved"}


def test_run_continues_with_the_same_rows_in_other_shards(tmp_path: Path) -> None:
    folder = begin(tmp_path)
    again = DatasetIdentity("digest of other names", lambda: "rows")
    folder.begin("train-classifier", {"epochs": 1}, Path("/again"), [again])
    content = folder.read_config()
    assert content is not None
    assert (content["shards"], content["shards_digest"]) == ("/again", again.digest)
    assert again.is_recorded(content) and not DATASET.is_recorded({**content, "rows_digests": []})


def test_rows_are_not_compared_where_the_shards_are_the_same_or_the_run_has_none(tmp_path: Path) -> None:
    def read() -> str:
        raise AssertionError

    folder = begin(tmp_path)
    folder.begin("train-classifier", {"epochs": 1}, Path("/shards"), [DatasetIdentity("digest", read)])
    content = folder.read_config()
    assert content is not None
    del content["rows_digests"]
    folder.write_json("config.json", content)
    with pytest.raises(UserError, match="other clips than --shards /shards has now"):
        folder.begin("train-classifier", {"epochs": 1}, Path("/shards"), [DatasetIdentity("other", read)])


def test_file_in_place_of_a_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"/file is a file: give the folder of a run$"):
        RunFolder(tmp_path / "file").read_config()


def test_files_that_a_killed_command_was_writing_are_removed(tmp_path: Path) -> None:
    begin(tmp_path)
    left, others = tmp_path / ".model.safetensors.0a1b2c3d.tmp", tmp_path / ".mine.tmp"
    of_search = tmp_path / ".trial.json.0a1b2c3d.tmp"  # whose process may be writing it now
    left.touch(), others.touch(), of_search.touch()
    begin(tmp_path)
    assert left.exists()  # a command that only asks for the result, while another one is training
    RunFolder(tmp_path).acquire()
    assert not left.exists() and others.exists() and of_search.exists()


def test_other_settings_are_refused(tmp_path: Path) -> None:
    begin(tmp_path / "run")
    with pytest.raises(UserError, match=r"a run with epochs = 1 \(requested 2\); choose another --run, or"):
        begin(tmp_path / "run", epochs=2)
    with pytest.raises(UserError, match=r"a run with seed = None \(requested 2\); choose another --run, or"):
        begin(tmp_path / "run", seed=2)


@pytest.mark.parametrize("storage", ["disk", "object store"])
def test_command_that_starts_at_the_same_moment_with_other_settings_is_refused(
    storage: str, tmp_path: Path, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would otherwise replace the settings of a run that trains with others."""
    path = tmp_path / "run" if storage == "disk" else server.bucket("simultaneous") / "run"

    def begin_other(*args: object) -> None:
        monkeypatch.undo()
        begin(path, seed=1)

    monkeypatch.setattr(run_folder, "check_run_folder", begin_other)  # after there was no `config.json`
    with pytest.raises(
        UserError, match=r"contains a run with seed = 1 \(requested 2\); choose another --run"
    ):
        begin(path, seed=2)
    content = RunFolder(path).read_config()
    assert content is not None and content["config"]["seed"] == 1


def test_more_epochs_of_a_gan_are_another_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin("train-gan", {"epochs": 1}, Path("/shards"), [DATASET])
    with pytest.raises(UserError, match=r"\(requested 2\); choose another --run with --init-from .*run, or"):
        folder.begin("train-gan", {"epochs": 2}, Path("/shards"), [DATASET])


def test_resuming_run_of_old_format_is_refused(tmp_path: Path) -> None:
    begin(tmp_path / "run")
    remove_format_version(tmp_path / "run")
    with pytest.raises(UserError, match=OLD_FORMAT):
        begin(tmp_path / "run")


def test_evaluating_run_of_old_format_is_refused(tmp_path: Path) -> None:
    begin(tmp_path / "run")
    remove_format_version(tmp_path / "run")
    with pytest.raises(UserError, match=OLD_FORMAT):
        load_run_data(tmp_path / "run", TrainClassifierConfig)


def test_damaged_config_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config.json is damaged"):
        RunFolder(tmp_path).read_config()


def test_folder_without_config_reads_none(tmp_path: Path) -> None:
    assert RunFolder(tmp_path).read_config() is None


def test_owner_is_the_latest_process(tmp_path: Path) -> None:
    run = begin(tmp_path / "run")
    first = run.acquire()
    run.check_owner(first)
    second = run.acquire()
    run.check_owner(second)
    run.check_owner(None)
    with pytest.raises(UserError, match="another process has taken over this run"):
        run.check_owner(first)


def test_history_is_replaced_not_appended(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.read_history() == []
    run.write_history([{"epoch": 1}, {"epoch": 2}])
    run.write_history([{"epoch": 1}])
    assert run.read_history() == [{"epoch": 1}]


@pytest.mark.parametrize("content", ["[]", '"x"', "1", "null"])
def test_config_that_is_no_object_is_damaged(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config.json is damaged .*restore it from a copy"):
        RunFolder(tmp_path).read_config()


def test_config_without_a_key_is_damaged(tmp_path: Path) -> None:
    run = begin(tmp_path / "run")
    content = json.loads((run.path / "config.json").read_text())
    del content["shards_digest"]
    run.write_json("config.json", content)
    with pytest.raises(UserError, match=r"config.json is damaged \(no 'shards_digest'\)"):
        run.read_config(("config", "shards_digest"))


def test_run_deleted_during_training_is_named(tmp_path: Path) -> None:
    run = begin(tmp_path / "run")
    owner = run.acquire()
    shutil.rmtree(run.path)
    with pytest.raises(UserError, match=r"files of the run were deleted while it was training"):
        run.check_owner(owner)


@pytest.mark.parametrize("content", ["[]", "{}", "1", "{"])
def test_damaged_summary_error_names_the_fix(content: str, tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(UserError, match=r"summary.json is damaged .*: delete it and run the command again"):
        RunFolder(tmp_path).read_object("summary.json", SUMMARY_KEYS)


def test_line_of_history_that_is_no_object_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1}\n[]\n')
    with pytest.raises(UserError, match=r"metrics.jsonl is damaged \(a line is not .*delete it"):
        RunFolder(tmp_path).read_history()


def test_run_of_older_version_lacks_new_settings_with_their_defaults(tmp_path: Path) -> None:
    """It is resumed, unless such a setting is requested to be another one."""
    defaults = TrainClassifierConfig.default_settings()
    assert defaults["schedule"] == "cosine" and defaults["mixup"]["domain"] == "db"
    old = {name: value for name, value in defaults.items() if name != "schedule"}
    old["mixup"] = {name: value for name, value in defaults["mixup"].items() if name != "domain"}
    folder = RunFolder(tmp_path / "run")
    folder.begin("train-classifier", old, Path("/shards"), [DATASET])
    folder.begin("train-classifier", defaults, Path("/shards"), [DATASET], defaults=defaults)
    other = defaults | {"schedule": "plateau"}
    with pytest.raises(UserError, match=r"a run with schedule = cosine \(requested plateau\)"):
        folder.begin("train-classifier", other, Path("/shards"), [DATASET], defaults=defaults)
    other = defaults | {"mixup": defaults["mixup"] | {"domain": "power"}}
    with pytest.raises(UserError, match=r"a run with mixup\.domain = db \(requested power\)"):
        folder.begin("train-classifier", other, Path("/shards"), [DATASET], defaults=defaults)


@pytest.mark.parametrize("name", ["modulation", "texture"])
def test_run_of_older_version_keeps_its_network(tmp_path: Path, name: str) -> None:
    """It is not resumed with a network that has other weights, but with the former one."""
    defaults = TrainClassifierConfig.default_settings()
    network = ClassifierConfig(modulation=True, texture=True).to_dict()
    old = {key: value for key, value in network.items() if key != name}
    folder = RunFolder(tmp_path / "run")
    folder.begin("train-classifier", defaults | {"model": old}, Path("/shards"), [DATASET])
    with pytest.raises(UserError, match=rf"a run with model\.{name} = False \(requested True\)"):
        requested = defaults | {"model": network}
        folder.begin("train-classifier", requested, Path("/shards"), [DATASET], defaults=defaults)
    former = defaults | {"model": network | {name: False}}
    folder.begin("train-classifier", former, Path("/shards"), [DATASET], defaults=defaults)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["search.json", "best/config.json"], "is a search: give its best run, .*/run/best$"),
        (["search.json"], "is an unfinished search: run its command again to finish it$"),
        (
            ["crossval.json", "fold_3/config.json", "fold_2/config.json"],
            "is a cross-validation: .*/run/fold_2$",
        ),
        (["fold_2/config.json"], "is an unfinished cross-validation: run its command again"),
        (["crossval.json", "tuned/fold_1/config.json"], "is a cross-validation: .*/run/tuned/fold_1$"),
        (["ensemble.json"], "is an ensemble: give one of its models, such as .*/run/member_1$"),
    ],
)
def test_folder_of_several_runs_names_a_single_one(tmp_path: Path, files: list[str], message: str) -> None:
    for name in files:
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).touch()
    with pytest.raises(UserError, match=f"^--run .*/run {message}"):
        RunFolder(tmp_path / "run").check_single_model("--run")
    with pytest.raises(UserError, match=f"^--run .*/run {message}"):
        load_generator(tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("crossval.json", "a cross-validation"),
        ("fold_2/config.json", "a cross-validation"),
        ("tuned/fold_1/config.json", "a cross-validation"),
        ("search.json", "a search"),
        ("_manifest.json", "a dataset"),
        ("predictions.parquet", "predictions"),
    ],
)
def test_folder_with_results_of_another_command_is_refused(tmp_path: Path, name: str, content: str) -> None:
    """A model in it would hide them: `predict` would use it instead of the models of all folds."""
    path = tmp_path / "run" / name
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    with pytest.raises(UserError, match=f"--run .*/run contains {content}; choose another --run"):
        begin(tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()
