"""The search, from its command to its result."""

from __future__ import annotations

import logging
import os
import uuid
import warnings
from dataclasses import replace
from typing import Any

from models.config import diff_settings
from pipeline.data.dataset import dataset_digest, open_dataset
from pipeline.data.shards import open_shards
from pipeline.data.split import split_rows
from pipeline.distributed.resources import wait_for_resources
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.train_reference_classifier import train_selection_classifier
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.files import read_yaml
from pipeline.io.storage import copy_tree, remove_tree, storage_arguments
from pipeline.training.run_folder import RunFolder
from tune.config import RESUMABLE_SETTINGS, SearchConfig
from tune.live_table import LiveTable
from tune.plan import Plan, plan_trials
from tune.result import write_results
from tune.trial.spec import TrialSpec, base_settings, load_search_space
from tune.trials import SearchFolder, Trial

# Read by Ray Tune when it is imported or started, hence set before.
_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # ours write what is needed
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a fault has no score
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the search here, with its result
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # what is known lies in the trials' folders
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}

# What makes a trial fit.
SHORTAGE_HINT = "lower --workers-per-trial, --cpus-per-worker or --gpus-per-trial"


def search(config: SearchConfig) -> dict[str, Any]:
    """Runs the trials that are not done yet, then writes the result; returns its summary.

    Raises:
        UserError, ConfigError: unusable shards, space or settings, too few resources, or not one trial that has a score.
    """
    job = make_job(config)
    folder = SearchFolder(config.run)
    known = known_trials(config, job)
    ended = sum(trial.state != "running" for trial in known)
    left = config.trials - ended
    if left <= 0:
        print(f"the search in {config.run} is finished already", flush=True)
        return write_results(config, job, known)
    plan = plan_trials(config, wait_for_resources(config.need, config.wait_for_nodes, SHORTAGE_HINT), left)
    job = apply_plan(job, plan)
    begin(config, job)
    if known:
        print(
            f"going on: {ended} trials are done, {len(known) - ended} go on, {config.trials - len(known)} are new",
            flush=True,
        )
    print(
        f"plan: {plan}; {left} trials of at most {config.max_epochs} epochs, on {', '.join(job.space.dimensions)}",
        flush=True,
    )
    if isinstance(job.base, TrainGanConfig):
        train_and_share_reference_classifier(job, range(config.trials))
    try:
        trials = run_trials(config, job, plan, known, left)
    except KeyboardInterrupt:
        known = folder.read()
        if any(trial.points for trial in known):
            write_results(config, job, known)
        raise
    if all(trial.state != "running" for trial in trials):
        folder.delete_checkpoints()
    return write_results(config, job, trials)


def check(config: SearchConfig) -> None:
    """Finds wrong settings before Ray is started.

    Raises:
        UserError, ConfigError: as `search` would.
    """
    known_trials(config, make_job(config))


def make_job(config: SearchConfig) -> TrialSpec:
    """Everything that trials need to know, checked before the first one starts.

    Raises:
        UserError, ConfigError: unusable shards or settings.
    """
    base = base_settings(config, base_values(config))
    space = load_search_space(config, read_yaml(config.space, "--space") if config.space else None, base)
    job = TrialSpec(
        model=config.model,
        base=base,
        space=space,
        folder=config.run,
        metric=config.judged_by,
        mode=config.mode,
        parts=config.inner_folds,
        workers=config.workers_per_trial,
        cpus=config.cpus_per_worker or 1,
        gpus=config.gpus_per_worker,
        mutates_values=config.changes_values,
    )
    rows = open_dataset(config.shards)  # read once a machine: the trials map what this unpacks
    split = split_rows(rows, job.settings(0, space.read(base))[0])
    if len(split.val) == 0:
        raise UserError("no clip validates, so trials can't be compared: raise --val-fraction, or add clips")
    return job


def apply_plan(job: TrialSpec, plan: Plan) -> TrialSpec:
    """The job with the CPUs that the plan gives a worker, in its settings too: so a winner can be repeated to the last digit."""
    return replace(job, cpus=plan.cpus, base=job.base.model_copy(update={"cpus_per_worker": plan.cpus}))


def identity(config: SearchConfig, job: TrialSpec) -> dict[str, Any]:
    """What makes a search what it is."""
    return {
        "command": "tune",
        "shards_digest": dataset_digest(open_shards(config.shards)),
        "search": {key: value for key, value in config.to_dict().items() if key not in RESUMABLE_SETTINGS},
        "space": job.space.values(),
        "base": job.base.identity(),
    }


def base_values(config: SearchConfig) -> dict[str, Any]:
    """What the file --base says.

    Raises:
        UserError: where it can't be read.
    """
    return read_yaml(config.base, "--base") if config.base else {}


def known_trials(config: SearchConfig, job: TrialSpec) -> list[Trial]:
    """The trials that the folder of the search knows; none where it is new.

    Raises:
        UserError: a folder of another search or of a training, or a new one where --resume asks for a search.
    """
    there = RunFolder(config.run).read_json("search.json")
    if there is None:
        if config.resume:
            raise UserError(f"--resume: no search in --run {config.run}; leave it out to start one")
        if (config.run / "config.json").is_file():
            raise UserError(f"--run {config.run} holds a training, not a search; choose another --run")
        return []
    if changes := diff_settings(there, identity(config, job), ""):
        raise UserError(
            f"--run {config.run} holds a search with {changes[0]}; choose another --run, or delete that folder to start anew"
        )
    return SearchFolder(config.run).read()


def begin(config: SearchConfig, job: TrialSpec) -> None:
    """Makes the folder of the search."""
    with report_os_errors("creating", config.run):
        config.run.mkdir(parents=True, exist_ok=True)
        RunFolder(config.run).write_json("search.json", identity(config, job))


def run_trials(
    config: SearchConfig, job: TrialSpec, plan: Plan, known: list[Trial], left: int
) -> list[Trial]:
    """Has Ray Tune run the trials that are left, so many; returns all, with the known ones."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray.tune

    from tune.recorder import Recorder
    from tune.schedulers import make_scheduler, population_param_space
    from tune.searcher import OptunaSearcher
    from tune.trial.trainable import TrialTrainable

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    recorder = Recorder(SearchFolder(config.run), job, config.max_epochs, known)
    base = job.space.read(job.base)
    scheduler = make_scheduler(config, job.space, known)
    changing = config.changes_values
    bundle = {"CPU": float(job.cpus)} | ({"GPU": job.gpus} if job.gpus else {})
    tuner = ray.tune.Tuner(
        ray.tune.with_resources(
            ray.tune.with_parameters(TrialTrainable, job=job),
            ray.tune.PlacementGroupFactory([bundle] * job.workers, strategy="PACK"),
        ),
        param_space=population_param_space(config, job.space, base, known) if changing else {},
        tune_config=ray.tune.TuneConfig(
            search_alg=None if changing else OptunaSearcher(config, job.space, base, known),
            scheduler=scheduler,
            num_samples=1 if changing else left,
            max_concurrent_trials=plan.at_once,
            reuse_actors=True,
        ),
        run_config=ray.tune.RunConfig(
            name=uuid.uuid4().hex[:8],
            **storage_arguments(config.run / ".tune"),
            failure_config=ray.tune.FailureConfig(max_failures=config.max_failures),
            # A population's trial may go on from a checkpoint that its donor made long ago: none is deleted.
            checkpoint_config=ray.tune.CheckpointConfig(num_to_keep=None, checkpoint_at_end=False),
            callbacks=[recorder],
            stop=_budget(config, recorder),
            verbose=0,
        ),
    )
    try:
        with LiveTable(recorder, config, plan.at_once), warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of pb2's Gaussian process, and what Tune says of its own arguments
            tuner.fit()
    finally:
        remove_tree(config.run / ".tune")
    return [recorder.trials[number] for number in sorted(recorder.trials)]


def _budget(config: SearchConfig, recorder: Any) -> Any:
    """Ends all trials when the time is up."""
    import ray.tune

    class Budget(ray.tune.Stopper):
        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            if config.time_budget is not None and recorder.elapsed > 60 * config.time_budget:
                recorder.ending = True
            return recorder.ending

    return Budget()


def train_and_share_reference_classifier(job: TrialSpec, numbers: range) -> None:
    """Trains the judge of a GAN's trials once, and gives it to each."""
    assert isinstance(job.base, TrainGanConfig)
    train_selection_classifier(job.base)
    for number in numbers:
        target = SearchFolder(job.folder).trial(number) / "reference_classifiers"
        if not target.is_dir():
            with report_os_errors("writing to", target):
                copy_tree(job.folder / "reference_classifiers", target)
