"""What a folder of `--run` holds, by the files in it: a run, or several of them, finished or not."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Literal

from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.output_folder import Content, folder_content, with_article

ENSEMBLE_NAME, CROSSVAL_NAME, SEARCH_NAME = "ensemble.json", "crossval.json", "search.json"

RunContent = Literal[Content, "cross-validation with --tuned", "cross-validation without --tuned"]


def run_content(run: Path) -> RunContent | None:
    """Return what a folder holds; None if it is missing, empty, or not written by melray.

    Unlike for `folder_content`, results need not be complete: a run is one from its `config.json` on, and a
    cross-validation from that of its first fold, or its first search.

    Raises:
        OSError: the folder cannot be read.
    """
    if (run / SEARCH_NAME).is_file():
        return "search"
    if (run / "config.json").is_file():
        return "training run"
    fold = first_fold(run)
    if fold.startswith("tuned/") or any(run.glob(f"search_*/{SEARCH_NAME}")):
        return "cross-validation with --tuned"
    if fold or (run / CROSSVAL_NAME).is_file():
        return "cross-validation without --tuned"
    return folder_content(run)


def first_fold(run: Path) -> str:
    """Return the path of the first fold of a cross-validation below its folder, empty if it is none."""
    for arm in ("", "tuned/"):
        if names := [path.parent.name for path in run.glob(f"{arm}fold_*/config.json")]:
            return arm + min(names)
    return ""


def check_run_folder(run: Path, allowed: Collection[str]) -> None:
    """Raise `UserError` if a folder holds results of another command, also unfinished ones.

    They would be hidden or replaced. Folders that are empty, missing or not written by melray are accepted.

    Args:
        run: folder of the command.
        allowed: values of `RunContent` that the command continues or replaces.
    """
    with report_os_errors("reading", run):
        content = run_content(run)
    if content is None or content in allowed:
        return
    name = with_article(content)
    if not any(kind.startswith("cross-validation") for kind in allowed):
        name = name.partition(" with")[0]  # of which kind matters to a cross-validation only
    raise UserError(f"--run {run} contains {name}; choose another --run")
