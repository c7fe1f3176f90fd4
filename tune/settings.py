"""Base settings and search space of a search, from its configuration and its YAML files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.config import ConfigError
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.multi_label.label_mode import MONITORS, check_label_mode
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.data_checks import check_dataset
from pipeline.io.errors import UserError
from pipeline.io.yaml_files import read_yaml
from pipeline.training.config import TrainingConfig
from pipeline.training.run import log_once
from tune.config import SearchConfig
from tune.dimensions import Choice, Range
from tune.parse_space import FIXED_KEYS, parse_space
from tune.space import SearchSpace

# Same as conf/search.yaml and conf/search-gan.yaml.
DEFAULT_SPACES: dict[str, dict[str, Any]] = {
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
# Settings that decide which clips a search may see.
SPLIT_KEYS = ("fold", "num_folds", "split_seed", "val_split")
# Settings of a classifier that are the sizes of its layers.
SIZE_KEYS = ("model.channels", "model.convs_per_block")
CONFIG_CLASSES: dict[str, type[TrainingConfig]] = {
    "classifier": TrainClassifierConfig,
    "gan": TrainGanConfig,
}


def base_settings(config: SearchConfig, values: Mapping[str, Any]) -> TrainingConfig:
    """Return the settings that all trials share; `values` is the content of the file --base.

    Raises:
        ConfigError: unknown key or invalid value.
    """
    parsed = CONFIG_CLASSES[config.model].parse(
        {"shards": config.shards, "run": config.run, **values}, f"--base {config.base}"
    )
    if isinstance(parsed, TrainClassifierConfig) and (parsed.refit or parsed.ensemble > 1):
        key = "refit" if parsed.refit else "ensemble"
        raise ConfigError(
            f"--base {config.base}: '{key}': a trial is one model with validation clips; remove it, and add "
            f"--{key} to `train-classifier --config {config.run / 'best.yaml'}`"
        )
    overrides: dict[str, Any] = {
        "shards": config.shards,
        "run": config.run,
        "epochs": config.max_epochs,
        "val_fraction": config.val_fraction,
        "val_split": None,
        "fold": config.fold,
        "num_folds": config.num_folds,
        "seed": config.seed,
        "split_seed": None,
        "workers": config.workers_per_trial,
        "device": config.device,
        "gpus_per_worker": config.gpus_per_worker,
        "log_to": config.trials_log_to,
    }
    if isinstance(parsed, TrainClassifierConfig):
        overrides |= {"keep": "best", "monitor": config.metric_name}
    if isinstance(parsed, TrainGanConfig):
        overrides |= {
            "select_best": True,
            "monitor": config.metric_name,
            "sample_every": min(parsed.sample_every, config.grace_period),
        }
    _check_split(config, parsed, overrides, values)
    return parsed.model_copy(update=overrides)


def _check_split(
    config: SearchConfig, parsed: TrainingConfig, overrides: Mapping[str, Any], values: Mapping[str, Any]
) -> None:
    """Check that --base does not request another split than the search: a held-out fold would be searched on.

    Logs a warning about other settings of --base that the search sets itself.

    Raises:
        ConfigError: it does.
    """
    differing = [key for key in values if key in overrides and getattr(parsed, key) != overrides[key]]
    for key in differing:
        if key in SPLIT_KEYS:
            raise ConfigError(
                f"--base {config.base}: '{key}' = {values[key]}: {FIXED_KEYS[key]}, now {overrides[key]}; "
                "remove it there, and give the flag if it is meant"
            )
    ignored = [f"{key} ({FIXED_KEYS.get(key, 'set by the search')})" for key in differing]
    if ignored:
        log_once([f"--base {config.base}: not used: {', '.join(ignored)}"])


def base_values(config: SearchConfig) -> dict[str, Any]:
    """Return the content of the file --base; empty if there is none.

    Raises:
        UserError: unreadable file.
    """
    return read_yaml(config.base, "--base") if config.base else {}


def choose_metric(config: SearchConfig) -> SearchConfig:
    """Return the settings with the metric of multi-label runs if the trials are, and no other is set.

    Raises:
        UserError, ConfigError: unusable shards or settings, or a metric that the trials do not have.
    """
    base = base_settings(config, base_values(config))
    if not isinstance(base, TrainClassifierConfig):
        check_dataset(config.shards, config.metric_name, "--metric")
        return config
    multi_label = check_label_mode(base.model_copy(update={"monitor": None}))
    if config.metric is None:
        return config.model_copy(update={"metric": MONITORS[True][0]}) if multi_label else config
    if config.metric not in MONITORS[multi_label]:
        kind = "multi-label runs" if multi_label else "runs with one class per clip"
        raise UserError(
            f"--metric {config.metric}: not a metric of {kind}; available: {', '.join(MONITORS[multi_label])}"
        )
    return config


def load_search_space(
    config: SearchConfig, values: Mapping[str, Any] | None, base: TrainingConfig
) -> SearchSpace:
    """Return the space of the file --space with content `values`; if none, the default of the model family.

    Raises:
        ConfigError: as `parse_space`, or a key that the scheduler cannot tune.
    """
    normalized = config.scheduler == "pb2"
    if values is None:
        default = parse_space(DEFAULT_SPACES[config.model], base, f"default space of a {config.model}")
        compatible = {
            key: dimension
            for key, dimension in default.dimensions.items()
            if not _incompatibility(config, key, dimension)
            and not _no_effect(base, key, default)
            and not _changes_initial_network(base, key)
        }
        return SearchSpace(compatible, normalized)
    space = parse_space(values, base, f"--space {config.space}")
    for key, dimension in space.dimensions.items():
        if reason := _incompatibility(config, key, dimension):
            raise ConfigError(
                f"--space {config.space}: '{key}' cannot be tuned with --scheduler {config.scheduler}: "
                f"{reason}"
            )
        if reason := _no_effect(base, key, space):
            raise ConfigError(f"--space {config.space}: '{key}' cannot be tuned: {reason}")
    return SearchSpace(space.dimensions, normalized)


def _incompatibility(config: SearchConfig, key: str, dimension: Range | Choice) -> str:
    """Return why the scheduler cannot tune a key; empty if it can."""
    if config.mutates_params and key.startswith(("model.", "gan.")) and key != "model.dropout":
        return "it changes the architecture, so weights cannot be copied between trials"
    if config.mutates_params and key == "init_from":
        return "its weights are loaded only at the start, and trials then copy those of others"
    if config.scheduler == "pb2" and isinstance(dimension, Choice):
        return "pb2 needs numeric parameters; remove it or use pbt"
    return ""


def _no_effect(base: TrainingConfig, key: str, space: SearchSpace) -> str:
    """Return why a key has no effect with the other settings; empty if it has one."""
    if (
        key in SIZE_KEYS
        and isinstance(base, TrainClassifierConfig)
        and base.model.timm_name is not None
        and "model.arch" not in space.dimensions
    ):
        return f"{base.model.arch} has sizes of its own"
    return ""


def _changes_initial_network(base: TrainingConfig, key: str) -> bool:
    """Return whether weights of `init_from` would not fit networks with other values of a key."""
    return base.initial_run is not None and key in SIZE_KEYS
