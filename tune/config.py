"""Settings of a search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from models.config import Seed
from pipeline.distributed.devices import Device, check_gpus, resolve_gpus
from pipeline.distributed.resources import AutoscalingConfig, NodeResources, ResourceRequest
from pipeline.io.errors import UserError
from pipeline.io.storage import PathOrURI
from pipeline.training.trackers.names import TENSORBOARD, TrackerNames
from tune.trials import Mode, SearchFolder

# Metrics that a search can optimize, and in which direction.
METRICS: dict[str, Mode] = {
    "val_macro_f1": "max",
    "val_accuracy": "max",
    "val_loss": "min",
    "val_map": "max",
    "frechet": "min",
    "class_accuracy": "max",
}
Metric = Literal["val_macro_f1", "val_accuracy", "val_loss", "val_map", "frechet", "class_accuracy"]
GAN_METRICS = ("frechet", "class_accuracy")


class SearchConfig(AutoscalingConfig):
    """Tune hyperparameters; weak trials are stopped early."""

    shards: PathOrURI
    """Shard folder."""
    run: PathOrURI
    """Folder of the search. Rerun the command to resume."""
    model: Literal["classifier", "gan"] = "classifier"
    """Model family to tune."""
    space: PathOrURI | None = None
    """YAML search space, such as conf/search.yaml (default: that of the model family)."""
    base: PathOrURI | None = None
    """YAML with the remaining training settings, as for --config of the training command."""
    trials: int = Field(30, ge=1)
    """Number of trials (population size for pbt and pb2)."""
    max_epochs: int = Field(40, ge=1)
    """Maximum number of epochs per trial."""
    time_budget: float | None = Field(None, gt=0)
    """Time budget in minutes; the search then ends with the results so far."""
    max_concurrent: int | None = Field(None, ge=1)
    """Maximum concurrent trials (default: a quarter of --trials, or all that fit; with pbt and pb2 all that
    fit, which take turns)."""
    metric: Metric | None = None
    """Metric to optimize (default: val_macro_f1, of multi-label shards val_map, the macro average precision;
    of a GAN frechet)."""
    searcher: Literal["tpe", "random"] = "tpe"
    """Search algorithm: tree-structured Parzen estimator (TPE, Bergstra et al. 2011) or random search."""
    scheduler: Literal["asha", "none", "pbt", "pb2"] = "asha"
    """Trial scheduler: ASHA (asynchronous successive halving, Li et al. 2020), none, PBT (Jaderberg et al.
    2017) or PB2 (Parker-Holder et al. 2020); PBT and PB2 also choose the values."""
    grace_epochs: int | None = Field(None, ge=1)
    """Grace period (asha) or perturbation interval (pbt, pb2) in epochs (default: max_epochs / 9)."""
    reduction_factor: float = Field(3.0, gt=1)
    """ASHA reduction factor."""
    include_base: bool = True
    """Run the base settings as trial 0, if they are inside the search space."""
    inner_folds: int = Field(1, ge=1)
    """Inner cross-validation: number of folds per trial (1: a single --val-fraction split)."""
    val_fraction: float = Field(0.2, gt=0, lt=1)
    """Validation fraction, if --inner-folds is 1."""
    fold: int | None = None
    """Held-out fold: used by no trial."""
    num_folds: int | None = Field(None, ge=2)
    """Assign clips to N folds, ignoring the manifest's."""
    workers_per_trial: int = Field(1, ge=1)
    """Workers per trial, which share each batch (DDP)."""
    cpus_per_worker: int | None = Field(None, ge=1)
    """CPUs per worker (default: an equal share of the cluster)."""
    device: Device = "auto"
    """auto: a GPU per worker of a trial where the cluster has enough, else CPUs; cpu; or cuda: a GPU per
    worker."""
    gpus_per_trial: float | None = Field(None, ge=0)
    """GPUs per trial, such as 0.5 for two trials per GPU (default: see --device)."""
    max_failures: int = Field(2, ge=0)
    """Retries per trial after a lost worker; each resumes from the last epoch."""
    seed: Seed = 42
    """Random seed of the suggestions, and of split and weights of every trial."""
    resume: bool = False
    """Require an existing search to resume."""
    log_to: TrackerNames = (TENSORBOARD,)
    """Where metrics are logged, besides the files of each trial: tensorboard, mlflow, wandb, one or more."""

    @model_validator(mode="after")
    def _check(self) -> SearchConfig:
        if self.metric is not None and (self.metric in GAN_METRICS) != (self.model == "gan"):
            available = [name for name in METRICS if (name in GAN_METRICS) == (self.model == "gan")]
            raise ValueError(
                f"--metric {self.metric} is not available for a {self.model}: "
                f"choose one of {', '.join(available)}"
            )
        if self.inner_folds > 1 and self.model == "gan":
            raise ValueError(f"--inner-folds {self.inner_folds}: not supported for GANs; drop it")
        if self.mutates_params and self.searcher == "random":
            raise ValueError(f"--scheduler {self.scheduler} chooses values itself: drop --searcher")
        if self.mutates_params and self.trials < 2:
            raise ValueError(
                f"--scheduler {self.scheduler} needs a population of 2 or more --trials, not {self.trials}"
            )
        return self

    @model_validator(mode="after")
    def _check_gpus(self) -> Self:
        check_gpus(self.device, self.gpus_per_trial, "--gpus-per-trial")
        if (self.gpus_per_worker or 0) > 1:
            raise ValueError(
                f"--gpus-per-trial {self.gpus_per_trial:g}: a worker uses at most one GPU, and a trial has "
                f"--workers-per-trial {self.workers_per_trial}"
            )
        return self

    @property
    def trials_log_to(self) -> tuple[str, ...]:
        """Where the workers of trials log to; trackers get them from the folder of the search."""
        return tuple(name for name in self.log_to if name == TENSORBOARD)

    @property
    def metric_name(self) -> str:
        """Metric to optimize, with the default of the model family."""
        return self.metric or ("frechet" if self.model == "gan" else "val_macro_f1")

    @property
    def mode(self) -> Mode:
        """Direction in which the metric improves."""
        return METRICS[self.metric_name]

    @property
    def gpus_per_worker(self) -> float | None:
        """GPUs per worker of a trial; None if they are chosen by `device`."""
        return None if self.gpus_per_trial is None else self.gpus_per_trial / self.workers_per_trial

    def on_nodes(self, nodes: Sequence[NodeResources]) -> Self:
        """Return these settings with the number of GPUs per trial that suits the nodes of the cluster."""
        workers = self.workers_per_trial
        gpus = resolve_gpus(
            self,
            workers,
            nodes,
            self.cpus_per_worker or 1,
            flag="--gpus-per-trial",
            workers_per_value=workers,
        )
        return self.model_copy(update={"gpus_per_trial": gpus * workers})

    @property
    def min_resources(self) -> ResourceRequest:
        """Minimum resources of a trial."""
        return ResourceRequest(self.workers_per_trial, self.cpus_per_worker or 1, self.gpus_per_worker or 0.0)

    @property
    def grace_period(self) -> int:
        """Grace period in epochs, with its default."""
        return self.grace_epochs or max(1, self.max_epochs // 9)

    @property
    def mutates_params(self) -> bool:
        """Whether the scheduler changes hyperparameters during training."""
        return self.scheduler in ("pbt", "pb2")


# Settings that may change when a search resumes: none of them changes what a trial learns.
RESUMABLE_SETTINGS = (
    "run",
    "shards",
    "space",
    "base",
    "trials",
    "time_budget",
    "max_concurrent",
    "max_failures",
    "wait_for_nodes",
    "workers_per_trial",
    "cpus_per_worker",
    "device",
    "gpus_per_trial",
    "resume",
    "log_to",
)


def defining_settings(config: SearchConfig) -> dict[str, Any]:
    """Return the settings that define a search, with the values that the defaults stand for."""
    resolved = {"metric": config.metric_name, "grace_epochs": config.grace_period}
    return {
        key: value for key, value in (config.to_dict() | resolved).items() if key not in RESUMABLE_SETTINGS
    }


def recorded_config(folder: SearchFolder) -> SearchConfig | None:
    """Read the settings of a search, of the resumable ones their defaults; None if there is no search.

    Raises:
        UserError: a damaged file, or one of another format.
    """
    content = folder.read_config()
    if content is None:
        return None
    return SearchConfig.parse({**content["config"], "shards": "unknown", "run": str(folder.path)})


def existing_config(folder: SearchFolder) -> SearchConfig:
    """Read the settings of a search as `recorded_config`.

    Raises:
        UserError: no search, a damaged file, or one of another format.
    """
    config = recorded_config(folder)
    if config is None:
        raise UserError(f"{folder.path}: no search in it; the folder is that of --run of `melray tune`")
    return config


class NestedCrossvalConfig(SearchConfig):
    """Search and evaluate once per fold (nested cross-validation); the settings are those of `tune`."""

    tta_shifts: int = Field(1, ge=1, le=64)
    """Test-time augmentation: average predictions over N circular time shifts."""
    compare: bool = True
    """Also evaluate the base settings."""

    @model_validator(mode="after")
    def _check_nested(self) -> NestedCrossvalConfig:
        if self.model != "classifier":
            raise ValueError("crossval --tuned supports classifiers only: drop --model")
        if self.fold is not None:
            raise ValueError(f"--fold {self.fold}: crossval --tuned holds out every fold; drop --fold")
        if self.mutates_params:
            raise ValueError(
                f"--scheduler {self.scheduler} produces a schedule that cannot be retrained; use asha or none"
            )
        return self
