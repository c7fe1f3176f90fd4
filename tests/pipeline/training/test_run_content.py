"""A folder of `--run` belongs to one command, from the first file that it writes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.io.errors import UserError
from pipeline.training.run_content import RunContent, check_run_folder, run_content
from tests.helpers.s3_server import S3Server

FILES: dict[str, tuple[RunContent, str]] = {
    "config.json": ("training run", "a training run"),
    "model.safetensors": ("training run", "a training run"),
    "search.json": ("search", "a search"),
    "fold_2/config.json": ("cross-validation without --tuned", "a cross-validation"),
    "crossval.json": ("cross-validation without --tuned", "a cross-validation"),
    "search_1/search.json": ("cross-validation with --tuned", "a cross-validation"),
    "tuned/fold_1/config.json": ("cross-validation with --tuned", "a cross-validation"),
    "ensemble.json": ("ensemble", "an ensemble"),
    "_manifest.json": ("dataset", "a dataset"),
    "predictions.parquet": ("predictions", "predictions"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("storage", ["disk", "object store"])
def test_folder_of_an_unfinished_command_is_known(
    name: str, storage: str, tmp_path: Path, server: S3Server
) -> None:
    run = tmp_path / "run" if storage == "disk" else server.bucket() / name
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    (run / name).write_text("{}")
    content, text = FILES[name]
    assert run_content(run) == content
    check_run_folder(run, (content,))
    with pytest.raises(UserError, match=rf"^--run .* contains {text}; choose another --run$"):
        check_run_folder(run, ())


def test_cross_validation_of_the_other_kind_is_named(tmp_path: Path) -> None:
    (tmp_path / "search_1").mkdir()
    (tmp_path / "search_1" / "search.json").touch()
    with pytest.raises(UserError, match=r"contains a cross-validation with --tuned; choose another --run$"):
        check_run_folder(tmp_path, ("cross-validation without --tuned",))


@pytest.mark.parametrize("name", ["notes.txt", "fold_1/a.wav", "ensemble/config.json"])
def test_files_of_others_are_no_run(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    check_run_folder(tmp_path / "missing", ())
    check_run_folder(tmp_path, ())


def test_ensemble_that_is_trained_is_a_training_run(tmp_path: Path) -> None:
    """`melray ensemble` would replace its members."""
    for name in ("config.json", "ensemble.json"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"contains a training run; choose another --run$"):
        check_run_folder(tmp_path, ("ensemble",))
