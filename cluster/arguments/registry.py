"""Commands with their configuration classes and the functions that run them."""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

from cluster.arguments.usage import COMMANDS, unknown_command
from models.config import Config
from pipeline.io.errors import UserError


class CommandSpec(NamedTuple):
    """Names of the code of a command; its module is imported only when the command is called."""

    module: str
    config_class: str
    function: str
    """Takes the configuration if `in_session`; otherwise also the common flags, and returns the exit code."""
    in_session: bool = True
    """Whether the function may run work on Ray."""
    runs_without_ray: bool = False
    """Whether the function itself starts Ray, if its work needs it (`pipeline/distributed/execution.py`)."""
    check: str = ""
    """Function that validates the configuration before Ray is started."""
    config_module: str = ""
    """Module of the configuration class, where it is not `module`, which is slower to import."""
    worker_module: str = ""
    """Module that its worker processes need; `module` itself leaves it to them."""
    computes_in_process: bool = False
    """Whether all of its work runs in its own process, also on a cluster."""


# A key with a space is a command with its action, or with a flag that selects another configuration.
COMMAND_SPECS = {
    "demo": CommandSpec("cluster.demo", "DemoConfig", "run_demo", runs_without_ray=True),
    "extract": CommandSpec("pipeline.extract", "ExtractConfig", "extract", runs_without_ray=True),
    "train-classifier": CommandSpec(
        "pipeline.classifier.train",
        "TrainClassifierConfig",
        "train_classifier",
        runs_without_ray=True,
        config_module="pipeline.classifier.config",
        worker_module="pipeline.classifier.loop",
    ),
    "train-gan": CommandSpec(
        "pipeline.gan.train",
        "TrainGanConfig",
        "train_gan",
        runs_without_ray=True,
        config_module="pipeline.gan.config",
    ),
    "tune": CommandSpec("tune.search", "SearchConfig", "search", check="check", config_module="tune.config"),
    "crossval": CommandSpec(
        "pipeline.classifier.crossval",
        "CrossvalConfig",
        "crossval",
        runs_without_ray=True,
        config_module="pipeline.classifier.config",
    ),
    "crossval --tuned": CommandSpec(
        "tune.nested_crossval",
        "NestedCrossvalConfig",
        "nested_crossval",
        check="check_nested",
        config_module="tune.config",
    ),
    "ensemble": CommandSpec(
        "cluster.model_commands",
        "EnsembleConfig",
        "ensemble",
        in_session=False,
        config_module="pipeline.classifier.command_configs",
        computes_in_process=True,
    ),
    "evaluate": CommandSpec(
        "cluster.model_commands",
        "EvaluateConfig",
        "evaluate",
        in_session=False,
        config_module="pipeline.classifier.command_configs",
        computes_in_process=True,
    ),
    "predict": CommandSpec(
        "pipeline.classifier.predict",
        "PredictConfig",
        "write_predictions",
        runs_without_ray=True,
        config_module="pipeline.classifier.prediction.config",
    ),
    "show": CommandSpec(
        "cluster.model_commands",
        "ShowConfig",
        "show",
        in_session=False,
        config_module="pipeline.classifier.command_configs",
        computes_in_process=True,
    ),
    "generate": CommandSpec(
        "cluster.model_commands",
        "GenerateConfig",
        "generate",
        in_session=False,
        config_module="pipeline.gan.config",
    ),
    "export": CommandSpec(
        "cluster.model_commands",
        "ExportConfig",
        "export",
        in_session=False,
        config_module="pipeline.training.export.config",
        computes_in_process=True,
    ),
    "serve": CommandSpec(
        "cluster.serving.serve",
        "ServeConfig",
        "serve",
        in_session=False,
        config_module="cluster.serving.config",
    ),
    "submit": CommandSpec("cluster.jobs.submit", "SubmitConfig", "submit", in_session=False),
    "jobs": CommandSpec("cluster.jobs.jobs", "JobsConfig", "show_jobs", in_session=False),
    "jobs logs": CommandSpec("cluster.jobs.jobs", "LogsConfig", "show_logs", in_session=False),
    "jobs stop": CommandSpec("cluster.jobs.jobs", "StopConfig", "stop", in_session=False),
    "cluster up": CommandSpec("cluster.local.up_down", "UpConfig", "up", in_session=False),
    "cluster status": CommandSpec("cluster.local.up_down", "StatusConfig", "status", in_session=False),
    "cluster down": CommandSpec("cluster.local.up_down", "DownConfig", "down", in_session=False),
    "doctor": CommandSpec("cluster.doctor.doctor", "DoctorConfig", "doctor", in_session=False),
}
ACTION_COMMANDS = ("jobs", "cluster")


def command_specs(command: str) -> list[str]:
    """Return the keys in `COMMAND_SPECS` of a command, such as `jobs`, `jobs logs` and `jobs stop`."""
    return [key for key in COMMAND_SPECS if key == command or key.startswith(f"{command} ")]


def resolve_command(command: str, arguments: list[str]) -> tuple[str, list[str]]:
    """Return the key in `COMMAND_SPECS` that a command line selects, and the remaining arguments.

    Raises:
        UserError: unknown command, or a missing or unknown action.
    """
    if command not in COMMANDS:
        raise UserError(unknown_command(command))
    if command == "crossval" and "--tuned" in arguments:
        return "crossval --tuned", [argument for argument in arguments if argument != "--tuned"]
    if command not in ACTION_COMMANDS:
        return command, arguments
    has_action = bool(arguments) and not arguments[0].startswith("-")
    key = f"{command} {arguments[0]}" if has_action else command
    if key not in COMMAND_SPECS:
        problem = f"unknown action '{arguments[0]}'" if has_action else "an action is missing"
        raise UserError(f"melray {command}: {problem}; choose {', '.join(actions(command))}")
    return key, arguments[1:] if has_action else arguments


def actions(command: str) -> list[str]:
    """Return the actions of a command, such as `logs` and `stop` of `jobs`."""
    return [key.split()[1] for key in command_specs(command) if " " in key]


def load_config_class(key: str) -> type[Config]:
    """Import the configuration class of a command; `key` is one of `COMMAND_SPECS`."""
    spec = COMMAND_SPECS[key]
    module = import_module(spec.config_module or spec.module)
    config_class: type[Config] = getattr(module, spec.config_class)
    return config_class
