"""Run a command: parse its flags, then call its function, with a Ray session for its work if it needs one."""

from __future__ import annotations

import logging
from importlib import import_module

from cluster.arguments.common_flags import CommonFlags
from cluster.arguments.flags import actions_help, parse
from cluster.arguments.registry import (
    ACTION_COMMANDS,
    COMMAND_SPECS,
    CommandSpec,
    load_config_class,
    resolve_command,
)
from cluster.connection.execution import command_execution, prepare_processes
from cluster.connection.session import set_environment
from cluster.connection.shared_folders import check_shared_folders
from models.config import Config
from pipeline.io.console import logger
from pipeline.io.errors import UserError
from pipeline.io.yaml_files import yaml_text


def dispatch(command: str, arguments: list[str], common: CommonFlags, job_arguments: list[str] | None) -> int:
    """Run a command; return its exit code.

    Args:
        command: name of the command.
        arguments: its arguments without common flags, up to `--`.
        common: common flags.
        job_arguments: arguments after `--`, the command that `submit` sends; None without `--`.

    Raises:
        UserError, ConfigError: in one line.
    """
    if command in ACTION_COMMANDS and command not in COMMAND_SPECS and arguments in (["-h"], ["--help"]):
        print(actions_help(command))
        return 0
    key, flags = resolve_command(command, arguments)
    spec = COMMAND_SPECS[key]
    if job_arguments is not None and key != "submit":
        raise UserError("only `melray submit` takes arguments after `--`")
    if spec.in_session:
        return _run_in_session(spec, key, flags, common)
    config = parse(load_config_class(key), key, flags, common.config)
    if key == "submit":
        from cluster.jobs.submit import SubmitConfig, submit

        assert isinstance(config, SubmitConfig)
        return submit(config, common, job_arguments)
    exit_code: int = getattr(import_module(spec.module), spec.function)(config, common)
    return exit_code


def _run_in_session(spec: CommandSpec, key: str, flags: list[str], common: CommonFlags) -> int:
    if spec.runs_without_ray:
        prepare_processes(common, spec.worker_module or spec.module, flags)
    else:
        # Ray reads its environment when it is first imported, which a command's module may do.
        set_environment(common.address)
    config = parse(load_config_class(key), key, flags, common.config)
    print_config(config)
    module = import_module(spec.module)
    if spec.check:
        getattr(module, spec.check)(config)
    with command_execution(common, needs_ray=not spec.runs_without_ray, command=key):
        if common.address is not None:
            check_shared_folders(config)
        getattr(module, spec.function)(config)
    return 0


def print_config(config: Config) -> None:
    """Print the resolved configuration as YAML that `--config` accepts, unless only warnings are shown."""
    if logger.isEnabledFor(logging.INFO):
        print(yaml_text(config.to_dict()).rstrip(), flush=True)
