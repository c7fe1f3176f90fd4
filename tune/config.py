"""All settings of a search."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pipeline.distributed.resources import AutoscalingConfig, ResourceRequest
from pipeline.io.storage import PathOrURI
from tune.trials import Mode

# What a trial can be judged by, and which way is better.
METRICS: dict[str, Mode] = {
    "val_macro_f1": "max",
    "val_accuracy": "max",
    "val_loss": "min",
    "frechet": "min",
    "class_accuracy": "max",
}
Metric = Literal["val_macro_f1", "val_accuracy", "val_loss", "frechet", "class_accuracy"]
GAN_METRICS = ("frechet", "class_accuracy")


class SearchConfig(AutoscalingConfig):
    """Searches the settings of a training: each trial is one, and those that lag behind are stopped early."""

    shards: PathOrURI
    """Folder of a complete extraction."""
    run: PathOrURI
    """Folder of the search. The same command again goes on where it stopped."""
    model: Literal["classifier", "gan"] = "classifier"
    """What is trained."""
    space: PathOrURI | None = None
    """YAML file of what is searched, as conf/search.yaml; by default that of the model."""
    base: PathOrURI | None = None
    """YAML file of the training's other settings, as its own --config takes."""
    trials: int = Field(30, ge=1)
    """Sets of values that are tried; for pbt and pb2 the size of the population."""
    max_epochs: int = Field(40, ge=1)
    """Epochs of a trial that is not stopped."""
    time_budget: float | None = Field(None, gt=0)
    """Minutes after which the search ends with what it knows."""
    max_concurrent: int | None = Field(None, ge=1)
    """Trials that run at once; by default a quarter of all, or as many as there is room for."""
    metric: Metric | None = None
    """What a trial is judged by; by default val_macro_f1, or frechet for a GAN."""
    searcher: Literal["tpe", "random"] = "tpe"
    """Who suggests the values: the tree-structured Parzen estimator (Bergstra et al. 2011), or chance."""
    scheduler: Literal["asha", "none", "pbt", "pb2"] = "asha"
    """Who stops trials: asynchronous successive halving (Li et al. 2020), or nobody; pbt (Jaderberg et al. 2017) and pb2
    (Parker-Holder et al. 2020) change the values of a population while it trains, and suggest them themselves."""
    grace_epochs: int | None = Field(None, ge=1)
    """Epochs that each trial has before it may be stopped (asha) or changed (pbt, pb2), and between two changes; by default a
    ninth of --max-epochs."""
    reduction_factor: float = Field(3.0, gt=1)
    """Of the trials that reach a rung, one in so many goes on (asha)."""
    include_base: bool = True
    """The first trial has the values of --base, if they lie in the space: what is found is then never worse."""
    inner_folds: int = Field(1, ge=1)
    """Trains each trial so many times, on parts of the clips that validate in turn, and judges it by the mean: 1 validates on
    --val-fraction, 2 and more deal all clips into so many parts."""
    val_fraction: float = Field(0.2, gt=0, lt=1)
    """Part of the clips that validates, where --inner-folds is 1."""
    fold: int | None = None
    """Fold that is held out: no trial sees it."""
    num_folds: int | None = Field(None, ge=2)
    """Deal the clips into so many folds instead of taking the manifest's."""
    workers_per_trial: int = Field(1, ge=1)
    """Workers that share each batch of a trial (DDP)."""
    cpus_per_worker: int | None = Field(None, ge=1)
    """CPUs of each worker; by default an even part of the cluster's."""
    gpus_per_trial: float = Field(0.0, ge=0)
    """GPUs of a trial, such as 0.5 for two on one; 0 trains on CPUs."""
    max_failures: int = Field(2, ge=0)
    """Lost workers after which a trial is given up; each time before, it goes on from its last epoch."""
    seed: int = 42
    """Seed of the suggestions, and of the split and the weights of every trial."""
    resume: bool = False
    """Insist on going on: an error where there is no search in --run yet."""

    @model_validator(mode="after")
    def _check(self) -> SearchConfig:
        if self.metric is not None and (self.metric in GAN_METRICS) != (self.model == "gan"):
            known = [name for name in METRICS if (name in GAN_METRICS) == (self.model == "gan")]
            raise ValueError(
                f"--metric {self.metric} is none of a {self.model}: choose one of {', '.join(known)}"
            )
        if self.inner_folds > 1 and self.model == "gan":
            raise ValueError(f"--inner-folds {self.inner_folds}: a GAN is judged on one part; leave it out")
        if self.changes_values and self.searcher == "random":
            raise ValueError(f"--scheduler {self.scheduler} suggests the values itself: leave --searcher out")
        if self.changes_values and self.trials < 2:
            raise ValueError(
                f"--scheduler {self.scheduler} needs a population of 2 or more --trials, not {self.trials}"
            )
        return self

    @property
    def judged_by(self) -> str:
        """The metric."""
        return self.metric or ("frechet" if self.model == "gan" else "val_macro_f1")

    @property
    def mode(self) -> Mode:
        """Which way the metric is better."""
        return METRICS[self.judged_by]

    @property
    def gpus_per_worker(self) -> float:
        """GPUs of each worker of a trial."""
        return self.gpus_per_trial / self.workers_per_trial

    @property
    def need(self) -> ResourceRequest:
        """What a trial can't run without."""
        return ResourceRequest(self.workers_per_trial, self.cpus_per_worker or 1, self.gpus_per_worker)

    @property
    def grace(self) -> int:
        """Epochs before the first decision."""
        return self.grace_epochs or max(1, self.max_epochs // 9)

    @property
    def changes_values(self) -> bool:
        """Whether the values of a trial change while it trains."""
        return self.scheduler in ("pbt", "pb2")


# What a search may be continued with, changed: none of it alters a trial.
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
    "resume",
)
