"""Removes the records of runs that fail before their first epoch, so that they do not refuse other settings.

A batch that does not fit in memory, or more workers than there are, would otherwise leave a run with the
settings that cannot be trained, and the next command with better ones would be refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.data.split_record import SPLIT_NAME
from pipeline.io.errors import UserError
from pipeline.io.storage import remove_files
from pipeline.training.run_folder import METRICS_NAME, NOTES_NAME, RunFolder

# What a run writes before its first epoch is complete; its metrics are empty until then. The last one is what
# makes a folder a run: it is deleted last, as a run without its record of the split would only be given
# another one.
_RECORDS = ("owner.json", "progress.json", NOTES_NAME, METRICS_NAME, SPLIT_NAME, "config.json")
# What it has of an epoch, besides its metrics. The checkpoint of the first one is there before them.
_RESULTS = ("model.safetensors", "checkpoints/*")


@contextmanager
def removed_if_not_started(folder: Path) -> Iterator[None]:
    """Remove the records of the runs in a run folder if the block fails before any of them has an epoch.

    Records of another command, which may still train, are kept: of one that was there before, of one that
    has started at the same moment with other settings, by which the block may have failed, and of one that
    has taken over a run.

    Args:
        folder: run folder of the command; runs that its run consists of are in subfolders.
    """
    is_new = not (folder / "config.json").is_file() and not _runs(folder)
    try:
        yield
    except BaseException:
        if is_new:
            # What ended the block is the error that the user has to see.
            with suppress(OSError, UserError):
                _remove_unstarted(folder)
        raise


def _runs(folder: Path) -> list[Path]:
    """Return the folders of all runs in a run folder, except for reference classifiers of a GAN."""
    runs = [path.parent for path in folder.glob("**/config.json")]
    return [run for run in runs if "reference_classifiers" not in run.relative_to(folder).parts]


def _remove_unstarted(folder: Path) -> None:
    """Remove the records of all runs, which are parts of one, unless another command needs one of them."""
    runs = _runs(folder)
    if not all(RunFolder(run).is_acquired_here() for run in runs):
        return
    if any(map(_has_epoch, runs)):
        return
    for name in _RECORDS:
        remove_files(run / name for run in runs)


def _has_epoch(run: Path) -> bool:
    """Return whether a run has anything of an epoch.

    Raises:
        UserError: its metrics are damaged.
    """
    return bool(RunFolder(run).read_history()) or any(True for name in _RESULTS for _ in run.glob(name))
