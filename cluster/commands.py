"""What each sub-command does: its settings, and the stage that runs them."""

from __future__ import annotations

from importlib import import_module

import yaml

from cluster.flags import Common, parse, split_common
from cluster.session import session
from models.config import Config

# Commands that are one stage in a Ray session: its module, its settings, its function. Imported only when called.
STAGES = {
    "demo": ("cluster.demo", "DemoConfig", "run_demo"),
    "extract": ("pipeline.extract", "ExtractConfig", "extract"),
    "train-classifier": ("pipeline.classifier_run", "TrainClassifierConfig", "train_classifier"),
    "train-gan": ("pipeline.gan_run", "TrainGanConfig", "train_gan"),
    "crossval": ("pipeline.crossval", "CrossvalConfig", "crossval"),
    "predict": ("pipeline.predict", "PredictConfig", "predict"),
}


def dispatch(name: str, arguments: list[str]) -> None:
    """Runs a sub-command.

    Raises:
        UserError, ConfigError: by the user's doing, in one line.
    """
    common, rest = split_common(arguments)
    if name in STAGES:
        run_stage(name, common, rest)
    else:
        {"evaluate": evaluate, "generate": generate}[name](common, rest)


def run_stage(name: str, common: Common, arguments: list[str]) -> None:
    """Runs a command of `STAGES`."""
    module_name, settings, function = STAGES[name]
    module = import_module(module_name)
    config = parse(getattr(module, settings), name, arguments, common.config)
    show(config)
    with session(common.address, common.cpus):
        getattr(module, function)(config)


def evaluate(common: Common, arguments: list[str]) -> None:
    # One process does it in seconds, or minutes for a generator: no Ray.
    from pipeline.evaluate import EvaluateConfig
    from pipeline.evaluate import evaluate as run
    from pipeline.gan_evaluate import evaluate_gan
    from pipeline.model_file import kind_of

    config = parse(EvaluateConfig, "evaluate", arguments, common.config)
    if kind_of(config.run) == "generator":
        evaluate_gan(config.run, config.clips_per_class, config.out)
    else:
        run(config)


def generate(common: Common, arguments: list[str]) -> None:
    from pipeline.generate import GenerateConfig, run_units, worth_ray
    from pipeline.generate import generate as run

    config = parse(GenerateConfig, "generate", arguments, common.config)
    if not worth_ray(config):
        run(config)
        return
    with session(common.address, common.cpus):
        run(config, run_units)


def show(config: Config) -> None:
    """Prints the resolved settings, as YAML that --config takes."""
    print(yaml.safe_dump(config.values(), sort_keys=False, allow_unicode=True, default_flow_style=None).rstrip(), flush=True)
