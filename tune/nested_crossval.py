"""Nested cross-validation, `melray crossval --tuned`: one search per outer fold, evaluated on that fold.

A validation score that a search has optimized is biased. Here no trial of a fold's search uses the held-out
clips: the best settings are trained on all other folds, to the last epoch, and then evaluated once.
"""

from __future__ import annotations

import time
from typing import Any

from models.config import diff_settings, with_missing
from pipeline.classifier.config import CrossvalConfig, TrainClassifierConfig
from pipeline.classifier.crossval import check_folder, known_folds, main_score, report_folds
from pipeline.classifier.train import train_many
from pipeline.data.dataset import ShardDataset, open_dataset
from pipeline.io.console import duration, logger
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.storage import remove_tree
from pipeline.io.yaml_files import read_yaml
from pipeline.training.run import log_once
from pipeline.training.run_content import CROSSVAL_NAME
from pipeline.training.run_folder import RunFolder
from pipeline.training.trackers.tracking import tracked
from tune.config import NestedCrossvalConfig, SearchConfig
from tune.search import base_values, check, search
from tune.settings import base_settings
from tune.tracked_search import NESTED_RUNS
from tune.trials import SearchFolder


def check_nested(config: NestedCrossvalConfig) -> None:
    """Check the settings before Ray is started.

    Raises:
        UserError, ConfigError: as `nested_crossval` would.
    """
    check_folder(config.run, tuned=True)
    searches = [
        fold_search(config, fold) for fold in known_folds(open_dataset(config.shards), base_config(config))
    ]
    if config.resume and not any(fold.resume for fold in searches):
        raise UserError(f"--resume: no search in --run {config.run}; drop --resume to start one")
    for fold in searches:
        check(fold)


def nested_crossval(config: NestedCrossvalConfig) -> dict[str, Any]:
    """Run incomplete searches and runs; write `crossval.json` and the report of each arm; return results.

    Raises:
        UserError, ConfigError: fewer than two folds, or as searches and training runs do.
    """
    dataset = open_dataset(config.shards)
    folds = known_folds(dataset, base_config(config))
    with tracked(config, NESTED_RUNS):
        return _run_and_evaluate(config, dataset, folds)


def _run_and_evaluate(
    config: NestedCrossvalConfig, dataset: ShardDataset, folds: list[int]
) -> dict[str, Any]:
    """Run the searches and the runs of all folds, and evaluate them; return results."""
    start, base = time.monotonic(), base_config(config)
    runs: dict[str, dict[int, TrainClassifierConfig]] = {"tuned": {}}
    for fold in folds:
        logger.info("fold %d held out: searching on the other folds", fold)
        fold_config = fold_search(config, fold)
        search(fold_config)
        best = read_yaml(fold_config.run / "best.yaml", "--run")
        settings = TrainClassifierConfig(shards=config.shards, run=fold_config.run, **best)
        runs["tuned"][fold] = final_training(config, settings, "tuned", fold)
        drop_run_of_earlier_settings(runs["tuned"][fold])
    if config.compare:
        runs["base"] = {fold: final_training(config, base, "base", fold) for fold in folds}
    log_once(
        f"runs that are evaluated: {text}"
        for fold_runs in runs.values()
        for run in fold_runs.values()
        for text in run.ineffective_settings
    )
    train_many(
        {f"{arm}, fold {fold}": run for arm, fold_runs in runs.items() for fold, run in fold_runs.items()}
    )
    results: dict[str, Any] = {}
    for arm, fold_runs in runs.items():
        print(f"\n{'tuned' if arm == 'tuned' else 'baseline'}:")
        evaluation = CrossvalConfig(
            shards=config.shards, run=config.run / arm, tta_shifts=config.tta_shifts, device=config.device
        )
        results[arm] = report_folds(evaluation, dataset, fold_runs)
    RunFolder(config.run).write_json(CROSSVAL_NAME, results)
    if config.compare:
        _print_gain(results)
    logger.info("nested cross-validation took %s", duration(time.monotonic() - start))
    return results


def _print_gain(results: dict[str, Any]) -> None:
    key, name = main_score(results["base"])
    folds = zip(results["tuned"]["folds"], results["base"]["folds"], strict=True)
    pairs = [(tuned[key], base[key]) for tuned, base in folds]
    gains = [tuned - base for tuned, base in pairs if tuned is not None and base is not None]
    if not gains:
        return  # undefined in every fold
    by_fold = ", ".join(f"{gain:+.1%}" for gain in gains)
    print(f"\ntuning gain: {sum(gains) / len(gains):+.1%} {name} (by fold: {by_fold})", flush=True)


def base_config(config: NestedCrossvalConfig) -> TrainClassifierConfig:
    """Return the base settings."""
    base = base_settings(config, base_values(config))
    assert isinstance(base, TrainClassifierConfig)
    return base


def fold_search(config: NestedCrossvalConfig, fold: int) -> SearchConfig:
    """Return the settings of the search that holds out `fold`."""
    run = config.run / f"search_{fold}"
    # Folds are searched in turn: an interrupted cross-validation has no search for later ones.
    resume = config.resume and SearchFolder(run).read_config() is not None
    update = {"fold": fold, "run": run, "resume": resume, "log_to": config.trials_log_to}
    return config.subset(SearchConfig).model_copy(update=update)


def drop_run_of_earlier_settings(config: TrainClassifierConfig) -> None:
    """Delete a final run if its search has found other settings since, as with more --trials: it is repeated.

    Raises:
        UserError: a damaged record of the run, or its folder cannot be deleted.
    """
    recorded = RunFolder(config.run).read_config(("config",))
    if recorded is None:
        return
    settings = with_missing(recorded["config"], config.default_settings())
    if diff_settings(settings, config.identity(), ""):
        logger.info("fold %d: the search has found other settings, which are trained", config.fold)
        with report_os_errors("deleting", config.run):
            remove_tree(config.run)


def final_training(
    config: NestedCrossvalConfig, settings: TrainClassifierConfig, arm: str, fold: int
) -> TrainClassifierConfig:
    """Return the settings of the run that is evaluated on `fold`.

    It is trained on all other clips to the last epoch, so that nothing is selected on the held-out clips.
    """
    update = {
        "run": config.run / arm / f"fold_{fold}",
        "fold": fold,
        "val_fraction": 0.0,
        "val_split": None,
        "keep": "last",
        "log_to": config.trials_log_to,
    }
    # Both arms use the same resources, not those of a trial.
    resources = ("device", "cpus_per_worker", "gpus_per_worker")
    return settings.model_copy(update=update | {name: getattr(config, name) for name in resources})
