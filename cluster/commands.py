"""What each sub-command does: its settings, and the stage that runs them."""

from __future__ import annotations

from importlib import import_module

import yaml

from cluster.arguments.flags import Common, parse, split_common
from cluster.arguments.registry import STAGES, stage_name
from cluster.connection.session import session, set_environment
from models.config import Config


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
            {
                "jobs": "cluster.jobs.jobs",
                "cluster": "cluster.local.up_down",
                "doctor": "cluster.doctor.doctor",
            }[name]
        ).command(common, rest)
    name, rest = stage_name(name, rest)
    if name in STAGES:
        run_stage(name, common, rest)
    else:
        {"evaluate": evaluate, "generate": generate}[name](common, rest)
    return 0


def run_stage(name: str, common: Common, arguments: list[str]) -> None:
    """Runs a command of `STAGES`."""
    stage = STAGES[name]
    set_environment(common.address)
    module = import_module(stage.module)
    config = parse(getattr(module, stage.settings), name, arguments, common.config)
    print_config(config)
    if stage.check:
        getattr(module, stage.check)(config)
    with session(common.address, common.cpus):
        getattr(module, stage.run)(config)


def evaluate(common: Common, arguments: list[str]) -> None:
    # One process does it in seconds, or minutes for a generator: no Ray.
    from pipeline.classifier.evaluate import EvaluateConfig
    from pipeline.classifier.evaluate import evaluate as run
    from pipeline.gan.evaluate import evaluate_gan
    from pipeline.training.model_file import model_kind

    config = parse(EvaluateConfig, "evaluate", arguments, common.config)
    if model_kind(config.run) == "generator":
        evaluate_gan(config.run, config.clips_per_class, config.out)
    else:
        run(config)


def generate(common: Common, arguments: list[str]) -> None:
    from pipeline.gan.generate import GenerateConfig, needs_cluster, run_units
    from pipeline.gan.generate import generate as run

    config = parse(GenerateConfig, "generate", arguments, common.config)
    if not needs_cluster(config):
        run(config)
        return
    with session(common.address, common.cpus):
        run(config, run_units)


def print_config(config: Config) -> None:
    """Prints the resolved settings, as YAML that --config takes."""
    print(
        yaml.safe_dump(
            config.to_dict(), sort_keys=False, allow_unicode=True, default_flow_style=None
        ).rstrip(),
        flush=True,
    )
