"""Specification of trials, which Ray Tune passes to every worker, and the training settings of a trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.config import ConfigError
from pipeline.io.errors import UserError
from pipeline.training.config import TrainingConfig
from pipeline.training.run import start_run
from tune.space import SearchSpace
from tune.trials import Mode, SearchFolder

COMMANDS = {"classifier": "train-classifier", "gan": "train-gan"}


@dataclass(frozen=True)
class TrialSpec:
    """Specification from which a worker can run any trial of a search."""

    model: str
    """Model family: classifier or gan."""
    base: TrainingConfig
    """Settings that all trials share."""
    space: SearchSpace
    folder: Path
    """Folder of the search."""
    metric: str
    mode: Mode
    inner_folds: int
    workers: int
    """Per trial."""
    cpus: int
    """Per worker."""
    gpus: float
    """Per worker."""
    mutates_params: bool
    """Whether the scheduler copies checkpoints between trials and changes hyperparameters (PBT, PB2)."""

    @property
    def resources(self) -> dict[str, Any]:
        """Resources of a trial as settings of the training command."""
        return {"workers": self.workers, "cpus_per_worker": self.cpus, "gpus_per_worker": self.gpus}

    def settings(self, number: int, params: Mapping[str, Any]) -> list[TrainingConfig]:
        """Return the training settings of a trial, one per inner fold.

        Raises:
            UserError: an invalid combination of values.
        """
        folder = SearchFolder(self.folder).trial(number)
        try:
            config = self.base.with_overrides(dict(params)).model_copy(update={"run": folder})
        except ConfigError as error:
            raise UserError(str(error)) from None
        if self.inner_folds == 1:
            return [config]
        return [
            config.model_copy(update={"run": folder / f"fold_{fold}", "val_split": (fold, self.inner_folds)})
            for fold in range(1, self.inner_folds + 1)
        ]


def open_trial_runs(spec: TrialSpec, settings: list[TrainingConfig]) -> None:
    """Open the run folders of a trial; if hyperparameters may change, store the current ones."""
    for config in settings:
        if spec.mutates_params:
            (config.run / "config.json").unlink(missing_ok=True)
        start_run(COMMANDS[spec.model], config)
