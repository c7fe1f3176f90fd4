"""A run for programs and notebooks: its settings, metrics of each epoch, split and summary."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.data.sound_dataset import SoundDataset, open_sound_dataset
from pipeline.data.split_record import SPLIT_NAME, read_split_record
from pipeline.io.errors import UserError, errors_without_flags
from pipeline.io.storage import user_path
from pipeline.io.text import plural
from pipeline.training.notes import read_notes
from pipeline.training.run_content import CROSSVAL_NAME, SEARCH_NAME
from pipeline.training.run_folder import RESTORE, RunFolder


@dataclass(frozen=True, repr=False)
class Run:
    """A training run of `train-classifier`, `train-gan` or `crossval`, finished or not."""

    path: Path
    command: str
    """Command that trains it, such as `train-classifier`."""
    config: dict[str, Any]
    """Resolved settings; empty for a cross-validation, whose parts have them."""
    history: pd.DataFrame
    """Metrics: a row per epoch, indexed by it, and a column per metric; empty if there are several models."""
    summary: dict[str, Any] | None
    """Result; None until the run is complete."""
    shards: str
    """Path or URI of the dataset when the run was started."""

    @property
    def is_complete(self) -> bool:
        """Whether the run is complete."""
        return self.summary is not None

    @property
    def parts(self) -> list[Path]:
        """Folders of the runs that it consists of: members of an ensemble, folds of a cross-validation.

        Those of `crossval --tuned` are the tuned ones.
        """
        folders = [
            path.parent
            for pattern in ("member_*", "fold_*", "tuned/fold_*")
            for path in self.path.glob(f"{pattern}/config.json")
        ]
        return sorted(folders, key=lambda folder: (len(folder.name), folder.name))

    @property
    def split(self) -> pd.DataFrame | None:
        """Clips of the run with their label and `split`: train, validation or held-out; None if unknown.

        Raises:
            UserError: a damaged file.
        """
        return read_split_record(self.path / SPLIT_NAME)

    @property
    def notes(self) -> list[str]:
        """Warnings of the training, such as rollbacks, and what `--init-from` loaded.

        Raises:
            UserError: a damaged file.
        """
        return [note.text for note in read_notes(RunFolder(self.path))]

    def open_dataset(self, shards: str | Path | None = None) -> SoundDataset:
        """Open the dataset of the run with the split that it was trained with.

        Example:
            >>> dataset = melray.read_run("runs/first").open_dataset()
            >>> mels, labels = dataset.arrays("validation")

        Args:
            shards: folder of the dataset, if it has been moved since training.

        Raises:
            UserError: an unusable dataset, or a run without settings of a split.
        """
        names = ("val_fraction", "fold", "num_folds", "augmentation_strength")
        if any(name not in self.config for name in names):
            raise UserError(f"{self.path}: has no split of its own; open the dataset of one of its parts")
        split_seed = self.config.get("split_seed")
        val_split = self.config.get("val_split")
        settings = {name: self.config[name] for name in names}
        if self.config.get("refit"):  # the model is trained on the validation clips too
            settings["val_fraction"], val_split = 0.0, None
        return open_sound_dataset(
            shards or self.shards,
            seed=self.config["seed"] if split_seed is None else split_seed,
            val_split=None if val_split is None else tuple(val_split),
            **settings,
        )

    def __repr__(self) -> str:
        state = "complete" if self.is_complete else "not complete"
        return f"<Run {self.path.name} of {self.command}: {plural(len(self.history), 'epoch')}, {state}>"


def read_run(run: str | Path) -> Run:
    """Read settings, metrics of each epoch and summary of a training run, without its model.

    Example:
        >>> run = melray.read_run("runs/first")
        >>> run.config["learning_rate"], run.summary["val_accuracy"]
        (0.002, 0.925)
        >>> run.history[["train_loss", "val_loss"]].plot()

    Args:
        run: folder of the run, or its URI.

    Raises:
        UserError: no run in the folder, a search, a damaged file, or a run of another format.
    """
    path = user_path(run)
    folder = RunFolder(path)
    with errors_without_flags():
        content = folder.read_config(("command", "config", "shards"))
        if content is None:
            return _read_crossval(folder)
        history = pd.DataFrame(folder.read_history())
    return Run(
        path,
        content["command"],
        content["config"],
        history.set_index("epoch") if "epoch" in history else history,
        folder.read_object("summary.json", fix=RESTORE),
        content["shards"],
    )


def _read_crossval(folder: RunFolder) -> Run:
    summary = folder.read_object(CROSSVAL_NAME, fix=RESTORE)
    if (folder.path / SEARCH_NAME).is_file():
        raise UserError(f"{folder.path}: a search; read it with melray.read_search")
    folds = ("fold_*/config.json", "tuned/fold_*/config.json")
    if summary is None and not any(list(folder.path.glob(pattern)) for pattern in folds):
        raise UserError(f"{folder.path}: no run in it; give the folder of --run of `melray train-classifier`")
    return Run(folder.path, "crossval", {}, pd.DataFrame(), summary, "")
