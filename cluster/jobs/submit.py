"""`melray submit`: send melray and one of its commands to a cluster and start them there as a job."""

from __future__ import annotations

import os
import secrets
import shlex
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from pydantic import Field, model_validator

from cluster.arguments.common_flags import CommonFlags
from cluster.connection.address import JobServer, job_server
from cluster.connection.dashboard import client_errors, job_client
from cluster.connection.nodes import Node, read_nodes
from cluster.jobs.command import JobCommand, validate_command
from cluster.jobs.entrypoint import (
    EntrypointResources,
    computes_in_process,
    default_resources,
    shell_command,
)
from cluster.jobs.jobs import follow
from cluster.jobs.log_files import dashboard_page
from cluster.jobs.package import (
    MIB,
    check_extras,
    check_size,
    constraints,
    packed_files,
    project_root,
    requirements,
    write_package,
)
from cluster.jobs.shared_folders import describe_local_paths
from cluster.jobs.variables import describe_variables, job_variables, tracker_warnings
from cluster.jobs.versions import check_versions, read_versions
from models.config import Config
from pipeline.distributed.worker_options import parse_amounts, parse_labels
from pipeline.io.console import logger
from pipeline.io.errors import UserError
from pipeline.io.text import plural

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient


class SubmitConfig(Config):
    """Submit a command as a cluster job: `melray submit [flags] -- COMMAND [its flags]`.

    This checkout of melray is sent with it. Paths must be valid on the cluster: URIs, or folders shared by
    all nodes.
    """

    follow: bool = False
    """Stream the job's log and return its exit code; a lost connection is opened again."""
    preinstalled: bool = False
    """Skip dependency installation: the image already has all packages. Otherwise each node installs them
    into an environment that later jobs reuse."""
    extras: tuple[str, ...] = ()
    """Optional packages of melray to install, by the names of their extras, such as `av` for m4a, aac and
    other formats; those that the command needs by its settings are installed anyway."""
    install_timeout: float = Field(60.0, gt=0)
    """Minutes that a node may take to install the packages. The head allows 15 minutes before the command
    starts, unless Ray was started there with a larger RAY_JOB_START_TIMEOUT_SECONDS."""
    env: tuple[str, ...] = ()
    """Environment variables of the job: NAME, with its value here, or NAME=value. melray never prints a
    value, but everyone with access to the cluster can read it, by Ray's job API and in Ray's log files:
    prefer a role of the nodes to AWS_SECRET_ACCESS_KEY."""
    storage_env: bool = True
    """Also send the variables that say where storage and trackers (--log-to) are, if they are set here, such
    as AWS_ENDPOINT_URL, AWS_REGION and MLFLOW_TRACKING_URI; never keys."""
    entrypoint_num_cpus: float | None = Field(None, ge=0)
    """CPUs that the command's own process holds, on any node (default: up to 4 for evaluate, which computes
    in it; 0 for others, whose process runs on the head)."""
    entrypoint_num_gpus: float | None = Field(None, ge=0)
    """GPUs that the command's own process holds (default: 1 for evaluate if the cluster has GPUs)."""
    entrypoint_resources: tuple[str, ...] = ()
    """Custom Ray resources that it holds, each as NAME=AMOUNT."""
    entrypoint_label_selector: tuple[str, ...] = ()
    """Labels of its node, each as KEY=VALUE."""

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        parse_amounts("--entrypoint-resources", self.entrypoint_resources)
        parse_labels("--entrypoint-label-selector", self.entrypoint_label_selector)
        return self


class Job(NamedTuple):
    """What is sent to a cluster."""

    command: JobCommand
    variables: dict[str, str]
    entrypoint: EntrypointResources
    install_ray: str | None
    """Release of Ray that the packages are installed for; None if they are preinstalled."""
    install_timeout_s: int
    extras: tuple[str, ...] = ()
    """Optional packages of melray that it needs, by the names of their extras."""


def submit(config: SubmitConfig, common: CommonFlags, job_arguments: list[str] | None) -> int:
    """Submit the command after `--`, `job_arguments`; return 0, or the job's exit code under `--follow`.

    Raises:
        UserError: missing or invalid command, too large a package, or a cluster that does not suit or rejects
            it.
    """
    if not job_arguments:
        raise UserError(
            "no command: use melray submit [flags] -- COMMAND [its flags], "
            "such as melray submit -- extract --data …"
        )
    server = job_server(common.address)
    root = project_root()
    files = packed_files(root)
    # Before any request to the cluster: an invalid flag is found in a second, not after the installation.
    command = validate_command(job_arguments, root, set(files), server.is_local)
    trackers = getattr(command.config, "log_to", ())
    extras = tuple(dict.fromkeys((*trackers, *config.extras, *needed_extras(command.key, command.config))))
    variables = job_variables(config.env, config.storage_env, os.environ, trackers)
    check_size(root, files)
    check_extras(root, config.extras)
    versions = read_versions(server)
    check_versions(server.url, versions, root, not config.preinstalled)
    nodes = read_nodes(server)
    entrypoint = choose_resources(config, command, nodes)
    if not server.is_local and (line := describe_local_paths(command.local_paths, nodes)):
        logger.warning("%s", line)
    if line := describe_variables(config.env, variables):
        logger.info("%s", line)
    for line in tracker_warnings(trackers, variables, os.environ):
        logger.warning("%s", line)
    install_ray = None if config.preinstalled else versions.ray
    job = Job(command, variables, entrypoint, install_ray, round(60 * config.install_timeout), extras)
    job_id = send(job_client(server), root, files, job)
    print(f"job {job_id} submitted to {server.url}", flush=True)
    _print_places(server, job_id)
    return follow(server, job_id) if config.follow else 0


def needed_extras(key: str, config: Config) -> list[str]:
    """Return the extras of melray that a command needs, apart from those of trackers."""
    extras = [key] if key in ("export", "serve") else []
    arch = getattr(getattr(config, "model", None), "arch", "")
    if isinstance(arch, str) and arch.startswith("timm:"):
        extras.append("timm")
    if any(str(getattr(config, name)).startswith("hf://") for name in type(config).model_fields):
        extras.append("hf")
    return extras


def choose_resources(config: SubmitConfig, command: JobCommand, nodes: Sequence[Node]) -> EntrypointResources:
    """Return the resources of the command's own process: as the flags say, or as its work needs them."""
    chosen = EntrypointResources()
    if computes_in_process(command.key):
        chosen = default_resources(command.config, nodes)
    chosen = EntrypointResources(
        chosen.cpus if config.entrypoint_num_cpus is None else config.entrypoint_num_cpus,
        chosen.gpus if config.entrypoint_num_gpus is None else config.entrypoint_num_gpus,
        parse_amounts("--entrypoint-resources", config.entrypoint_resources),
        parse_labels("--entrypoint-label-selector", config.entrypoint_label_selector),
    )
    if chosen.request:
        logger.info(
            "%s runs on %s (other amounts: --entrypoint-num-cpus, --entrypoint-num-gpus)",
            command.arguments[0],
            chosen,
        )
    return chosen


def _print_places(server: JobServer, job_id: str) -> None:
    print(f"logs: melray jobs logs {job_id} --follow{server.address_flag}")
    print(f"stop: melray jobs stop {job_id}{server.address_flag}")
    print(f"dashboard: {dashboard_page(server, job_id)}", flush=True)


def send(client: JobSubmissionClient, root: Path, files: list[Path], job: Job) -> str:
    """Package, upload and start a command; return the job id.

    Raises:
        UserError: the cluster rejected it.
    """
    command = job.command
    with tempfile.TemporaryDirectory(prefix="melray-") as folder:
        package = Path(folder) / "melray.zip"
        name, content = constraints(root, job.install_ray)
        extra_files = command.files | {name: content}
        size = write_package(package, root, files, extra_files)
        logger.info("package: %s, %.2f MiB", plural(len(files), "file"), size / MIB)
        with _without_values(job.variables), client_errors():
            return client.submit_job(
                entrypoint=shell_command(command.arguments),
                submission_id=new_job_id(command.arguments[0]),
                runtime_env=runtime_env(package, root, job),
                metadata={"melray": shlex.join(command.arguments)},
                **job.entrypoint.request,
            )


@contextmanager
def _without_values(variables: Mapping[str, str]) -> Iterator[None]:
    """Remove the values of variables from errors: a server may repeat the request that it rejects."""
    try:
        yield
    except UserError as error:
        text = str(error)
        for name, value in variables.items():
            text = text.replace(value, f"<{name}>") if value else text
        raise UserError(text) from None


def runtime_env(package: Path, root: Path, job: Job) -> dict[str, Any]:
    """Return the environment that Ray prepares on each node before the job's code runs.

    Anyone on the cluster can read it: it holds secrets only if a user named them.
    """
    environment: dict[str, Any] = {"working_dir": str(package)}
    if job.variables:
        environment["env_vars"] = job.variables
    if job.install_ray is not None:
        # Ray replaces the variable by the folder of the unpacked package.
        name, _ = constraints(root, job.install_ray)
        constraint = f"--constraint ${{RAY_RUNTIME_ENV_CREATE_WORKING_DIR}}/{name}"
        environment["pip"] = {
            "packages": [constraint, *requirements(root, job.install_ray, job.extras)],
            "pip_check": False,
        }
        # Ray's own limit is 10 minutes, in which a slow network does not transfer CUDA.
        environment["config"] = {"setup_timeout_seconds": job.install_timeout_s}
    return environment


def new_job_id(command: str) -> str:
    """Return a new id such as `melray-extract-20261125-174456-1f3a`."""
    return f"melray-{command}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
