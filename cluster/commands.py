"""What each sub-command does: its settings, and the stage that runs them."""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

import yaml

from cluster.arguments.flags import Common, parse, split_common
from cluster.arguments.usage import COMMANDS, unknown_command
from cluster.connection.session import session, set_environment
from models.config import Config
from pipeline.io.errors import UserError


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
    "train-classifier": Stage("pipeline.classifier.train", "TrainClassifierConfig", "train_classifier"),
    "train-gan": Stage("pipeline.gan.train", "TrainGanConfig", "train_gan"),
    "crossval": Stage("pipeline.classifier.crossval", "CrossvalConfig", "crossval"),
    "crossval --tuned": Stage("tune.nested_crossval", "NestedConfig", "nested_crossval", "check_nested"),
    "predict": Stage("pipeline.classifier.predict", "PredictConfig", "predict"),
    "tune": Stage("tune.search", "SearchConfig", "search", "check"),
}


# The settings of the commands that are none of those.
SETTINGS = {
    "evaluate": ("pipeline.classifier.evaluate", "EvaluateConfig"),
    "generate": ("pipeline.gan.generate", "GenerateConfig"),
    "doctor": ("cluster.doctor.doctor", "DoctorConfig"),
}


def dispatch(name: str, arguments: list[str]) -> int:
    """Runs a sub-command; returns the exit code.

    Raises:
        UserError, ConfigError: by the user's doing, in one line.
    """
    # What follows a -- is not ours to read.
    own, submitted = arguments, None
    if name == "submit" and "--" in arguments:
        own, submitted = arguments[: arguments.index("--")], arguments[arguments.index("--") + 1 :]
    common, rest = split_common(own)
    if name == "submit":
        from cluster.jobs.submit import command as submit

        return submit(common, rest, submitted)
    if name in ("jobs", "cluster", "doctor"):
        return import_module(
            {"jobs": "cluster.jobs.jobs", "cluster": "cluster.local.up_down", "doctor": "cluster.doctor.doctor"}[name]
        ).command(common, rest)
    name, rest = stage_name(name, rest)
    if name in STAGES:
        run_stage(name, common, rest)
    else:
        {"evaluate": evaluate, "generate": generate}[name](common, rest)
    return 0


def stage_name(name: str, arguments: list[str]) -> tuple[str, list[str]]:
    """The stage of a command, which a flag may choose; and the other arguments."""
    if name == "crossval" and "--tuned" in arguments:
        return "crossval --tuned", [argument for argument in arguments if argument != "--tuned"]
    return name, arguments


def settings_of(name: str, arguments: list[str]) -> tuple[type[Config], list[str]]:
    """The class of a command's settings, and the flags that are read into it.

    Raises:
        UserError: no such command.
    """
    if name not in COMMANDS:
        raise UserError(unknown_command(name))
    name, rest = stage_name(name, arguments)
    module, settings = SETTINGS.get(name) or (STAGES[name].module, STAGES[name].settings)
    return getattr(import_module(module), settings), rest


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
    from pipeline.classifier.evaluate import EvaluateConfig
    from pipeline.classifier.evaluate import evaluate as run
    from pipeline.gan.evaluate import evaluate_gan
    from pipeline.model_file import kind_of

    config = parse(EvaluateConfig, "evaluate", arguments, common.config)
    if kind_of(config.run) == "generator":
        evaluate_gan(config.run, config.clips_per_class, config.out)
    else:
        run(config)


def generate(common: Common, arguments: list[str]) -> None:
    from pipeline.gan.generate import GenerateConfig, run_units, worth_ray
    from pipeline.gan.generate import generate as run

    config = parse(GenerateConfig, "generate", arguments, common.config)
    if not worth_ray(config):
        run(config)
        return
    with session(common.address, common.cpus):
        run(config, run_units)


def show(config: Config) -> None:
    """Prints the resolved settings, as YAML that --config takes."""
    print(yaml.safe_dump(config.values(), sort_keys=False, allow_unicode=True, default_flow_style=None).rstrip(), flush=True)
