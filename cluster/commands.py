"""What each sub-command does: its settings, and the stage that runs them."""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

import yaml

from cluster.flags import Common, parse, split_common
from cluster.session import session, set_environment
from models.config import Config


class Stage(NamedTuple):
    """A command that is one stage in a Ray session, by names, as its module is imported only when it is called."""

    module: str
    settings: str
    run: str
    check: str = ""
    """A function of the settings that finds what is wrong with them in less time than Ray takes to start."""


STAGES = {
    "demo": Stage("cluster.demo", "DemoConfig", "run_demo"),
    "extract": Stage("pipeline.extract", "ExtractConfig", "extract"),
    "train-classifier": Stage("pipeline.classifier_run", "TrainClassifierConfig", "train_classifier"),
    "train-gan": Stage("pipeline.gan_run", "TrainGanConfig", "train_gan"),
    "crossval": Stage("pipeline.crossval", "CrossvalConfig", "crossval"),
    "crossval --tuned": Stage("tune.nested", "NestedConfig", "nested_crossval", "check_nested"),
    "predict": Stage("pipeline.predict", "PredictConfig", "predict"),
    "tune": Stage("tune.search", "SearchConfig", "search", "check"),
}


def dispatch(name: str, arguments: list[str]) -> None:
    """Runs a sub-command.

    Raises:
        UserError, ConfigError: by the user's doing, in one line.
    """
    common, rest = split_common(arguments)
    if name == "crossval" and "--tuned" in rest:
        rest.remove("--tuned")
        name = "crossval --tuned"
    if name in STAGES:
        run_stage(name, common, rest)
    else:
        {"evaluate": evaluate, "generate": generate}[name](common, rest)


def run_stage(name: str, common: Common, arguments: list[str]) -> None:
    """Runs a command of `STAGES`."""
    stage = STAGES[name]
    set_environment(common.address)
    module = import_module(stage.module)
    config = parse(getattr(module, stage.settings), name, arguments, common.config)
    show(config)
    if stage.check:
        getattr(module, stage.check)(config)
    with session(common.address, common.cpus):
        getattr(module, stage.run)(config)


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
