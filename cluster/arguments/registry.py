"""Commands, and the settings and functions that run them."""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

from cluster.arguments.usage import COMMANDS, unknown_command
from models.config import Config
from pipeline.io.errors import UserError


class CommandSpec(NamedTuple):
    """A command that is one stage in a Ray session, by names, as its module is imported only when it is called."""

    module: str
    settings: str
    run: str
    check: str = ""
    """A function of the settings that finds what is wrong with them in less time than Ray takes to start."""


STAGES = {
    "demo": CommandSpec("cluster.demo", "DemoConfig", "run_demo"),
    "extract": CommandSpec("pipeline.extract", "ExtractConfig", "extract"),
    "train-classifier": CommandSpec("pipeline.classifier.train", "TrainClassifierConfig", "train_classifier"),
    "train-gan": CommandSpec("pipeline.gan.train", "TrainGanConfig", "train_gan"),
    "crossval": CommandSpec("pipeline.classifier.crossval", "CrossvalConfig", "crossval"),
    "crossval --tuned": CommandSpec(
        "tune.nested_crossval", "NestedConfig", "nested_crossval", "check_nested"
    ),
    "predict": CommandSpec("pipeline.classifier.predict", "PredictConfig", "predict"),
    "tune": CommandSpec("tune.search", "SearchConfig", "search", "check"),
}


# The settings of the commands that are none of those.
CONFIG_CLASSES = {
    "evaluate": ("pipeline.classifier.evaluate", "EvaluateConfig"),
    "generate": ("pipeline.gan.generate", "GenerateConfig"),
    "doctor": ("cluster.doctor.doctor", "DoctorConfig"),
}


def stage_name(name: str, arguments: list[str]) -> tuple[str, list[str]]:
    """The stage of a command, which a flag may choose; and the other arguments."""
    if name == "crossval" and "--tuned" in arguments:
        return "crossval --tuned", [argument for argument in arguments if argument != "--tuned"]
    return name, arguments


def config_class(name: str, arguments: list[str]) -> tuple[type[Config], list[str]]:
    """The class of a command's settings, and the flags that are read into it.

    Raises:
        UserError: no such command.
    """
    if name not in COMMANDS:
        raise UserError(unknown_command(name))
    name, rest = stage_name(name, arguments)
    module, settings = CONFIG_CLASSES.get(name) or (STAGES[name].module, STAGES[name].settings)
    return getattr(import_module(module), settings), rest
