"""What every worker of a search is told, and how it becomes the settings of a trial's training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.config import ConfigError
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.gan.config import TrainGanConfig
from pipeline.io.errors import UserError
from pipeline.training.config import TrainingConfig
from pipeline.training.run import start_run
from tune.config import SearchConfig
from tune.space import Choice, Range, SearchSpace, parse_space
from tune.trials import Mode, SearchFolder

# The spaces of conf/search.yaml and conf/search-gan.yaml, for a search that names none.
SPACES: dict[str, dict[str, Any]] = {
    "classifier": {
        "learning_rate": {"low": 0.0005, "high": 0.008, "log": True},
        "mixup.rate": {"low": 0.0, "high": 1.0},
        "mixup.alpha": {"low": 0.1, "high": 2.0, "log": True},
        "augmentation_strength": {"low": 0.0, "high": 1.0},
        "weight_decay": {"low": 0.003, "high": 0.3, "log": True},
        "label_smoothing": {"low": 0.0, "high": 0.2},
        "model.dropout": {"low": 0.0, "high": 0.6},
        "model.channels": [[16, 32, 64, 128], [24, 48, 96, 192], [32, 64, 128, 256]],
    },
    "gan": {
        "generator_lr": {"low": 0.0002, "high": 0.004, "log": True},
        "discriminator_lr": {"low": 0.0002, "high": 0.004, "log": True},
        "penalty_weight": {"low": 0.1, "high": 20.0, "log": True},
        "ada.adapt": [True, False],
        "ada.p": {"low": 0.0, "high": 0.8},
        "class_weight": {"low": 0.0, "high": 1.0},
        "diversity_weight": {"low": 0.0, "high": 8.0},
    },
}
CONFIGS: dict[str, type[TrainingConfig]] = {"classifier": TrainClassifierConfig, "gan": TrainGanConfig}
COMMANDS = {"classifier": "train-classifier", "gan": "train-gan"}


@dataclass(frozen=True)
class TrialSpec:
    """A search, as its trials need to know it."""

    model: str
    base: TrainingConfig
    space: SearchSpace
    folder: Path
    metric: str
    mode: Mode
    parts: int
    workers: int
    cpus: int
    """Of each worker."""
    gpus: float
    """Of each worker."""
    mutates_values: bool
    """Whether a trial may go on from another one's checkpoint, with other values (pbt, pb2)."""

    def settings(self, number: int, values: Mapping[str, Any]) -> list[TrainingConfig]:
        """The training of a trial, or of each of its parts.

        Raises:
            UserError: values that don't go together.
        """
        folder = SearchFolder(self.folder).trial(number)
        try:
            one = self.base.with_overrides(dict(values)).model_copy(update={"run": folder})
        except ConfigError as error:
            raise UserError(f"trial {number}: {error}") from None
        if self.parts == 1:
            return [one]
        return [
            one.model_copy(update={"run": folder / f"part_{part}", "val_split": (part, self.parts)})
            for part in range(1, self.parts + 1)
        ]


def base_settings(config: SearchConfig, values: Mapping[str, Any]) -> TrainingConfig:
    """The settings of every trial but for what is searched; `values` are those of the file --base.

    Raises:
        ConfigError: an unknown key or a wrong value in it.
    """
    cls = CONFIGS[config.model]
    source = f"--base {config.base}"
    given = cls.parse({"shards": config.shards, "run": config.run, **values}, source)
    own: dict[str, Any] = {
        "shards": config.shards,
        "run": config.run,
        "epochs": config.max_epochs,
        "val_fraction": config.val_fraction,
        "val_split": None,
        "fold": config.fold,
        "num_folds": config.num_folds,
        "seed": config.seed,
        "workers": config.workers_per_trial,
        "gpus_per_worker": config.gpus_per_worker,
    }
    if isinstance(given, TrainClassifierConfig):
        own |= {"keep": "best", "monitor": config.judged_by}
    if isinstance(given, TrainGanConfig):
        own |= {"select_best": True, "sample_every": min(given.sample_every, config.grace)}
    return given.model_copy(update=own)


def load_search_space(
    config: SearchConfig, values: Mapping[str, Any] | None, base: TrainingConfig
) -> SearchSpace:
    """The space of the file --space, whose values these are, or the model's own.

    Raises:
        ConfigError: as `parse_space`.
    """
    if values is None:
        known = parse_space(SPACES[config.model], base, f"the space of a {config.model}")
        fit = {key: one for key, one in known.dimensions.items() if not _incompatibility(config, key, one)}
        return SearchSpace(fit, config.scheduler == "pb2")
    space = parse_space(values, base, f"--space {config.space}")
    for key, one in space.dimensions.items():
        if reason := _incompatibility(config, key, one):
            raise ConfigError(
                f"--space {config.space}: '{key}' can't be searched with --scheduler {config.scheduler}, {reason}"
            )
    return SearchSpace(space.dimensions, config.scheduler == "pb2")


def _incompatibility(config: SearchConfig, key: str, one: Range | Choice) -> str:
    """Why a population can't be searched for a key; empty where it can."""
    if config.changes_values and key.startswith(("model.", "gan.")) and key != "model.dropout":
        return "whose trials take over each other's weights: it changes the network"
    if config.scheduler == "pb2" and isinstance(one, Choice):
        return "which models numbers: it is a choice; take it out, or use pbt"
    return ""


def open_trial_runs(job: TrialSpec, settings: list[TrainingConfig]) -> None:
    """Opens the run folders of a trial. Where values may change, the folder takes on those of today."""
    for one in settings:
        if job.mutates_values:
            (one.run / "config.json").unlink(missing_ok=True)
        start_run(COMMANDS[job.model], one)
