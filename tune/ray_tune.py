"""Trials of a search, run by Ray Tune."""

from __future__ import annotations

import logging
import os
import uuid
import warnings
from typing import Any

from pipeline.io.storage import remove_tree, storage_arguments
from tune.config import SearchConfig
from tune.live_table import LiveTable
from tune.plan import ConcurrencyLimit, Plan
from tune.trial.spec import TrialSpec
from tune.trials import RAY_TUNE_NAME, SearchFolder, Trial

# Ray Tune reads these when it is imported or started.
_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # `Recorder` writes all results
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a result with an error has no score
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the search here, with its results so far
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # the state is in the trials' folders
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}


def run_trials(
    config: SearchConfig, spec: TrialSpec, plan: Plan, known: list[Trial], remaining: int
) -> list[Trial]:
    """Run the remaining trials with Ray Tune; return all trials, known ones included."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # Trials that wait for resources are what the autoscaler adds nodes for.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(plan.max_concurrent)
    import ray.tune

    from tune.recorder import Recorder
    from tune.schedulers import make_scheduler, population_param_space
    from tune.searcher import OptunaSearcher
    from tune.trial.trainable import TrialTrainable

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    recorder = Recorder(SearchFolder(config.run), spec, config.max_epochs, known)
    base = spec.space.read(spec.base)
    scheduler = make_scheduler(config, spec.space, known)
    is_population = config.mutates_params
    limit = ConcurrencyLimit(plan, config.wait_for_nodes)
    bundle = {"CPU": float(plan.trial.cpus)} | ({"GPU": spec.gpus} if spec.gpus else {})
    tuner = ray.tune.Tuner(
        ray.tune.with_resources(
            ray.tune.with_parameters(TrialTrainable, spec=spec),
            ray.tune.PlacementGroupFactory([bundle] * spec.workers, strategy="PACK"),
        ),
        param_space=population_param_space(config, spec.space, base, known) if is_population else {},
        tune_config=ray.tune.TuneConfig(
            search_alg=None if is_population else OptunaSearcher(config, spec.space, base, known, limit),
            scheduler=scheduler,
            num_samples=1 if is_population else remaining,
            # No `max_concurrent_trials`: a searcher limits the number by itself, and with a limit the trials
            # of a population would not take turns, as each would start when another one has ended.
            reuse_actors=True,
        ),
        run_config=ray.tune.RunConfig(
            name=uuid.uuid4().hex[:8],
            **storage_arguments(config.run / RAY_TUNE_NAME),
            failure_config=ray.tune.FailureConfig(max_failures=config.max_failures),
            # PBT may resume a trial from a checkpoint that its donor saved long ago, so none is deleted.
            checkpoint_config=ray.tune.CheckpointConfig(num_to_keep=None, checkpoint_at_end=False),
            callbacks=[recorder],
            stop=_time_budget_stopper(config, recorder),
            verbose=0,
        ),
    )
    try:
        with LiveTable(recorder, config, plan.concurrent_trials), warnings.catch_warnings():
            # Warnings of PB2's Gaussian process, and of Ray Tune about its own arguments.
            warnings.simplefilter("ignore")
            tuner.fit()
    finally:
        recorder.close()
        remove_tree(config.run / RAY_TUNE_NAME)
    return [recorder.trials[number] for number in sorted(recorder.trials)]


def _time_budget_stopper(config: SearchConfig, recorder: Any) -> Any:
    """Create a stopper that ends all trials once the time budget is used up."""
    import ray.tune

    class TimeBudgetStopper(ray.tune.Stopper):
        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            if config.time_budget is not None and recorder.elapsed_s > 60 * config.time_budget:
                recorder.is_ending = True
            return recorder.is_ending

    return TimeBudgetStopper()
