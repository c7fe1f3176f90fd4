"""Hyperparameter search, `melray tune`: check, plan, run trials (`ray_tune`), write results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from models.config import diff_settings, with_missing
from pipeline.data.dataset import ShardDataset, open_dataset
from pipeline.data.dataset_identity import (
    DatasetIdentity,
    current_digests,
    renewed_digests,
    rows_digests,
)
from pipeline.data.identify import identify
from pipeline.data.label_sets import label_sets
from pipeline.data.split import Split, check_recordings, held_out_rows
from pipeline.distributed.resources import cluster_nodes, wait_for_resources
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.data_checks import check_rows
from pipeline.gan.selection_clips import MIN_CLIPS, selection_rows
from pipeline.gan.train_reference_classifier import train_selection_classifier
from pipeline.io.console import logger
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.folder_lock import own_folder
from pipeline.io.storage import copy_tree, has_files_of
from pipeline.io.text import plural
from pipeline.io.yaml_files import read_yaml
from pipeline.training.run import training_clips
from pipeline.training.run_content import check_run_folder
from pipeline.training.run_folder import describe_change
from pipeline.training.trackers.tracking import tracked
from tune.config import SearchConfig, defining_settings, recorded_config
from tune.networks import check_networks
from tune.plan import Plan, plan_trials
from tune.ray_tune import run_trials
from tune.result import write_results
from tune.settings import base_settings, base_values, choose_metric, load_search_space
from tune.tracked_search import SEARCH_RUNS
from tune.trial.spec import TrialSpec
from tune.trial.unrecorded import with_unrecorded_epochs
from tune.trials import SearchFolder, Trial

# Metrics that are undefined without clips of a class.
CLASS_METRICS = ("val_map", "val_macro_f1")
# Hint if a trial does not fit into the cluster.
SHORTAGE_HINT = "lower --workers-per-trial, --cpus-per-worker or --gpus-per-trial"


def search(config: SearchConfig) -> dict[str, Any]:
    """Run the remaining trials and write the results; return their summary.

    Raises:
        UserError, ConfigError: unusable shards, space or settings, a folder in use by another search, too few
            resources, or no score at all.
    """
    # Two searches would start trials of the same numbers, and each would end those of the other as failed.
    with own_folder(config.run, "tune", "--run"):
        return _search(config)


def _search(config: SearchConfig) -> dict[str, Any]:
    config = choose_metric(config)
    spec = make_spec(config)
    config = limit_trials(config, spec)
    known = known_trials(config, spec)
    folder = SearchFolder(config.run)
    folder.remove_temporary_files()
    completed = sum(trial.state != "running" for trial in known)
    remaining = config.trials - completed
    if remaining <= 0:
        logger.info("the search in %s is already complete", config.run)
        folder.delete_checkpoints_after_end(known)  # of a search that was killed at its end
        with tracked(config, SEARCH_RUNS):
            return write_results(config, spec, known)
    chosen = config.on_nodes(cluster_nodes())
    nodes = wait_for_resources(chosen.min_resources, config.wait_for_nodes, SHORTAGE_HINT)
    plan = plan_trials(chosen, nodes, remaining)
    spec = apply_plan(spec, plan)
    write_record(config, spec)
    folder.drop_scores_of_deleted(known)
    folder.delete_unrecorded_runs(known)
    if reason := ineffective_grace(config):
        logger.warning("%s", reason)
    if known:
        logger.info(
            "resuming: %d complete, %d in progress, %d remaining",
            completed,
            len(known) - completed,
            max(config.trials - len(known), 0),
        )
    keys = ", ".join(spec.space.dimensions)
    can_grow = config.wait_for_nodes and plan.max_concurrent > plan.concurrent_trials
    growth = f", up to {plan.max_concurrent} as nodes are added" if can_grow else ""
    logger.info(
        "running %s%s: %s of at most %s over %s",
        plan,
        growth,
        plural(remaining, "trial"),
        plural(config.max_epochs, "epoch"),
        keys,
    )
    with tracked(config, SEARCH_RUNS):
        return _run_and_report(config, spec, plan, known, remaining)


def _run_and_report(
    config: SearchConfig, spec: TrialSpec, plan: Plan, known: list[Trial], remaining: int
) -> dict[str, Any]:
    """Run the remaining trials and write the results; return their summary."""
    folder = SearchFolder(config.run)
    if isinstance(spec.base, TrainGanConfig):
        train_and_share_reference_classifier(spec, range(config.trials))
    try:
        trials = with_unrecorded_epochs(spec, run_trials(config, spec, plan, known, remaining))
    except KeyboardInterrupt:
        known = with_unrecorded_epochs(spec, folder.read())
        if any(trial.points for trial in known):
            write_results(config, spec, known)
        raise
    folder.delete_checkpoints_after_end(trials)
    summary = write_results(config, spec, trials)
    left = config.trials - sum(trial.state != "running" for trial in trials)
    if config.time_budget is not None and left > 0:
        logger.warning(
            "--time-budget %g (minutes) is used up before %s ended; to continue, run the command again with "
            "a higher one",
            config.time_budget,
            plural(left, "trial"),
        )
    return summary


def check(config: SearchConfig) -> None:
    """Check the settings before Ray is started.

    Raises:
        UserError, ConfigError: as `search` would.
    """
    config = choose_metric(config)
    known_trials(config, make_spec(config))


def make_spec(config: SearchConfig) -> TrialSpec:
    """Return the specification of the trials, checked before the first one starts.

    Raises:
        UserError, ConfigError: unusable shards or settings.
    """
    base = base_settings(config, base_values(config))
    space = load_search_space(config, read_yaml(config.space, "--space") if config.space else None, base)
    spec = TrialSpec(
        model=config.model,
        base=base,
        space=space,
        folder=config.run,
        metric=config.metric_name,
        mode=config.mode,
        inner_folds=config.inner_folds,
        workers=config.workers_per_trial,
        cpus=config.cpus_per_worker or 1,
        gpus=config.min_resources.gpus,
        mutates_params=config.mutates_params,
    )
    dataset = open_dataset(config.shards)  # fills the cache that the trials memory-map
    settings = spec.settings(0, space.read(base))[0]
    if config.inner_folds > 1:
        clips = np.flatnonzero((dataset.table["copy"] == 0) & ~held_out_rows(dataset, settings))
        check_recordings(dataset, clips, config.inner_folds, "--inner-folds")
    split = training_clips(settings)[1]
    if len(split.val) == 0:
        raise UserError(
            "validation set is empty, so trials cannot be compared: raise --val-fraction, or add clips"
        )
    if dataset.multi_label and config.metric_name in CLASS_METRICS and config.inner_folds == 1:
        val_sets = label_sets(dataset.table.iloc[split.val], dataset.class_names, True)
        if not val_sets.counts().any():
            raise UserError(
                "no clip in the validation set has any class, so every trial would have the same "
                f"{config.metric_name}: raise --val-fraction, add recordings, or choose --metric val_loss"
            )
    if isinstance(settings, TrainGanConfig):
        check_gan_clips(settings, dataset, split, config.workers_per_trial)
    return spec


def check_gan_clips(config: TrainGanConfig, dataset: ShardDataset, split: Split, workers: int) -> None:
    """Check that trials of a GAN can be trained, and scored.

    Raises:
        UserError: they cannot.
    """
    check_rows(dataset, split, config, workers)
    clips = len(selection_rows(dataset, split, config))
    if clips < MIN_CLIPS:
        raise UserError(
            f"{plural(clips, 'validation clip')} to score trials of a GAN with, which needs at least "
            f"{MIN_CLIPS}: raise --val-fraction, or add clips"
        )


def limit_trials(config: SearchConfig, spec: TrialSpec) -> SearchConfig:
    """Return the settings with at most one trial for each point of the search space."""
    size = spec.space.size()
    if config.trials <= size or config.mutates_params:
        return config
    logger.warning(
        "--trials %d: the search space has only %d settings; each is tried once", config.trials, size
    )
    return config.model_copy(update={"trials": int(size)})


def ineffective_grace(config: SearchConfig) -> str:
    """Return that --grace-epochs leaves the scheduler nothing to do; empty if it leaves something."""
    if config.scheduler == "none" or (config.grace_epochs or 0) < config.max_epochs:
        return ""
    effect = "values of trials are never changed" if config.mutates_params else "no trial is stopped early"
    return f"--grace-epochs {config.grace_epochs} with --max-epochs {config.max_epochs}: {effect}; lower it"


def apply_plan(spec: TrialSpec, plan: Plan) -> TrialSpec:
    """Return the specification with the plan's CPUs and GPUs per worker, in its base settings too.

    Results depend on the device and the number of threads. Each trial records them; with those of the best
    trial in `best.yaml`, it is reproducible.
    """
    base = spec.base.model_copy(update={"cpus_per_worker": plan.cpus, "gpus_per_worker": plan.gpus})
    return replace(spec, cpus=plan.cpus, gpus=plan.gpus, base=base)


def identity(config: SearchConfig, spec: TrialSpec, datasets: Sequence[DatasetIdentity]) -> dict[str, Any]:
    """Return the settings and the datasets that define a search; the first dataset is that of --shards."""
    return {
        "command": "tune",
        **current_digests(datasets),
        "config": defining_settings(config),
        "space": spec.space.to_dict(),
        "base": spec.base.identity(),
    }


def write_record(config: SearchConfig, spec: TrialSpec) -> None:
    """Write `search.json`, by which later sessions know the search."""
    datasets = [identify(folder) for folder in spec.base.shard_folders]
    record = identity(config, spec, datasets) | {"rows_digests": rows_digests(datasets)}
    SearchFolder(config.run).write_config(record)


def known_trials(config: SearchConfig, spec: TrialSpec) -> list[Trial]:
    """Return the trials of earlier sessions in the folder of the search; empty if it is new.

    Raises:
        UserError: a folder of another command, another search or another format, or a new one with --resume
            or with networks that cannot be built.
    """
    folder = SearchFolder(config.run)
    existing, recorded = folder.read_config(), recorded_config(folder)
    if existing is None or recorded is None:
        if config.resume:
            raise UserError(f"--resume: no search in --run {config.run}; drop --resume to start one")
        check_run_folder(config.run, ())  # its report would be replaced
        check_networks(spec)
        return []
    datasets = [identify(folder) for folder in spec.base.shard_folders]
    existing |= renewed_digests(existing, datasets)
    # Searches of earlier versions did not record digests of --extra-shards.
    existing["extra_digests"] = existing["extra_digests"] or current_digests(datasets)["extra_digests"]
    # They lack settings that they did not have, too.
    existing["config"] = defining_settings(recorded)
    existing["base"] = with_missing(existing["base"], type(spec.base).default_settings())
    if changes := diff_settings(existing, identity(config, spec, datasets), ""):
        raise UserError(
            f"--run {config.run} contains a search with {describe_change(changes[0], config.shards)}; "
            "choose another --run, or delete the folder to start over"
        )
    return folder.read()


def train_and_share_reference_classifier(spec: TrialSpec, numbers: range) -> None:
    """Train the reference classifier that scores a GAN's trials, and copy it to the folder of each trial."""
    assert isinstance(spec.base, TrainGanConfig)
    train_selection_classifier(spec.base)
    source = spec.folder / "reference_classifiers"
    for number in numbers:
        target = SearchFolder(spec.folder).trial(number) / "reference_classifiers"
        with report_os_errors("writing to", target):
            if not has_files_of(target, source):
                copy_tree(source, target)
