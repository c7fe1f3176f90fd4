"""`melray submit`: send melray and one of its commands to a cluster and start them there as a job."""

from __future__ import annotations

import secrets
import shlex
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.arguments.common_flags import CommonFlags
from cluster.connection.address import JobServer, job_server
from cluster.connection.dashboard import client_errors, job_client
from cluster.jobs.command import JobCommand, validate_command
from cluster.jobs.jobs import follow
from cluster.jobs.package import (
    MIB,
    check_size,
    constraints_name,
    packed_files,
    project_root,
    requirements,
    write_package,
)
from models.config import Config
from pipeline.io.console import logger
from pipeline.io.errors import UserError
from pipeline.io.text import plural

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

# `python -m cluster.cli` would make its module __main__, whose functions workers cannot import.
START = "from cluster.cli import main; main()"


class SubmitConfig(Config):
    """Submit a command as a cluster job: `melray submit [flags] -- COMMAND [its flags]`.

    This checkout of melray is sent with it. Paths must be valid on the cluster: URIs, or folders shared by
    all nodes.
    """

    follow: bool = False
    """Stream the job's log and return its exit code."""
    preinstalled: bool = False
    """Skip dependency installation: the image already has all packages. Otherwise each node installs them
    into an environment that later jobs reuse."""


def submit(config: SubmitConfig, common: CommonFlags, job_arguments: list[str] | None) -> int:
    """Submit the command after `--`, `job_arguments`; return 0, or the job's exit code under `--follow`.

    Raises:
        UserError: missing or invalid command, too large a package, or a cluster that rejects it.
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
    check_size(root, files)
    client = job_client(server)
    job_id = send(client, root, files, command, config.preinstalled)
    print(f"job {job_id} submitted to {server.url}", flush=True)
    if config.follow:
        return follow(client, job_id)
    address = _address_flag(common, server)
    print(f"logs: melray jobs logs {job_id} --follow{address}\nstop: melray jobs stop {job_id}{address}")
    return 0


def send(
    client: JobSubmissionClient, root: Path, files: list[Path], command: JobCommand, preinstalled: bool
) -> str:
    """Package, upload and start a command; return the job id.

    Raises:
        UserError: the cluster rejected it.
    """
    with tempfile.TemporaryDirectory(prefix="melray-") as folder:
        package = Path(folder) / "melray.zip"
        constraints = constraints_name(root)
        extra_files = command.files | {constraints: (root / "constraints.txt").read_bytes()}
        size = write_package(package, root, files, extra_files)
        logger.info("package: %s, %.2f MiB", plural(len(files), "file"), size / MIB)
        with client_errors():
            return client.submit_job(
                entrypoint=entrypoint(command.arguments),
                submission_id=new_job_id(command.arguments[0]),
                runtime_env=runtime_env(package, root, constraints, preinstalled),
                metadata={"melray": shlex.join(command.arguments)},
            )


def runtime_env(package: Path, root: Path, constraints: str, preinstalled: bool) -> dict[str, Any]:
    """Return the environment that Ray prepares on each node before the job's code runs.

    Anyone on the cluster can read it, so it must never hold a secret.
    """
    environment: dict[str, Any] = {"working_dir": str(package)}
    if not preinstalled:
        # Ray replaces the variable by the folder of the unpacked package.
        constraint = f"--constraint ${{RAY_RUNTIME_ENV_CREATE_WORKING_DIR}}/{constraints}"
        environment["pip"] = {
            "packages": [constraint, *requirements(root, version("ray"))],
            "pip_check": False,
        }
    return environment


def entrypoint(arguments: list[str]) -> str:
    """Return the shell command that the head runs; with `--address auto` it joins the cluster."""
    return shlex.join(["python", "-c", START, *arguments, "--address", "auto"])


def new_job_id(command: str) -> str:
    """Return a new id such as `melray-extract-20261125-174456-1f3a`."""
    return f"melray-{command}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def _address_flag(common: CommonFlags, server: JobServer) -> str:
    return f" --address {server.url}" if common.address and not server.is_local else ""
