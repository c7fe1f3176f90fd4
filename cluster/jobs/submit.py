"""`melray submit`: sends melray and one of its commands to a cluster, where they run as a job."""

from __future__ import annotations

import secrets
import shlex
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.arguments.flags import Common, parse
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
from pipeline.io.errors import UserError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

# `python -m cluster.cli` would make its module __main__, whose functions workers could not import.
START = "from cluster.cli import main; main()"


class SubmitConfig(Config):
    """Runs a command on a cluster: `melray submit [flags] -- COMMAND [its flags]`.

    This checkout of melray travels with it. The job's paths are the cluster's: give URIs, or folders that all its machines share.
    """

    follow: bool = False
    """Show what the job prints until it ends, and end with its exit code."""
    preinstalled: bool = False
    """The cluster's machines have all packages that melray needs already; by default each installs them first, into an environment
    that later jobs find."""


def command(common: Common, arguments: list[str], submitted: list[str] | None) -> int:
    """Sends the words `submitted`, which followed the `--`.

    Raises:
        UserError: no command or a wrong one, too much to send, or a cluster that doesn't take it.
    """
    config = parse(SubmitConfig, "submit", arguments, common.config)
    if not submitted:
        raise UserError(
            "nothing to run: melray submit [flags] -- COMMAND [its flags], such as melray submit -- extract --data …"
        )
    server = job_server(common.address)
    root = project_root()
    files = packed_files(root)
    # Before the cluster is asked: a wrong flag is found in a second, not after minutes of installing.
    what = validate_command(submitted, root, set(files), server.here)
    check_size(root, files)
    client = job_client(server)
    job_id = send(client, root, files, what, config.preinstalled)
    print(f"job {job_id} submitted to {server.url}", flush=True)
    if config.follow:
        return follow(client, job_id)
    print(f"its log:   melray jobs logs {job_id} --follow{_address_flag(common, server)}")
    print(f"to end it: melray jobs stop {job_id}{_address_flag(common, server)}")
    return 0


def send(
    client: JobSubmissionClient, root: Path, files: list[Path], what: JobCommand, preinstalled: bool
) -> str:
    """Packs, uploads and starts; returns the job's id.

    Raises:
        UserError: the cluster refused it.
    """
    with tempfile.TemporaryDirectory(prefix="melray-") as folder:
        package = Path(folder) / "melray.zip"
        constraints = constraints_name(root)
        size = write_package(
            package, root, files, what.files | {constraints: (root / "constraints.txt").read_bytes()}
        )
        print(f"package: {len(files)} files, {size / MIB:.2f} MiB", flush=True)
        environment = runtime_env(package, root, constraints, preinstalled)
        job_id = new_id(what.words[0])
        with client_errors():
            return client.submit_job(
                entrypoint=entrypoint(what.words),
                submission_id=job_id,
                runtime_env=environment,
                metadata={"melray": shlex.join(what.words)},
            )


def runtime_env(package: Path, root: Path, constraints: str, preinstalled: bool) -> dict[str, Any]:
    """What Ray prepares on each machine before the job's code runs there; nothing secret may ever be in it, as anyone on the
    cluster can read it."""
    environment: dict[str, Any] = {"working_dir": str(package)}
    if not preinstalled:
        # Ray fills in where it has unpacked the package.
        limits = f"--constraint ${{RAY_RUNTIME_ENV_CREATE_WORKING_DIR}}/{constraints}"
        environment["pip"] = {"packages": [limits, *requirements(root, version("ray"))], "pip_check": False}
    return environment


def entrypoint(words: list[str]) -> str:
    """The line for the shell on the head; the command joins the cluster instead of starting a Ray of its own."""
    return shlex.join(["python", "-c", START, *words, "--address", "auto"])


def new_id(name: str) -> str:
    """Such as `melray-extract-20261125-174456-1f3a`."""
    return f"melray-{name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def _address_flag(common: Common, server: JobServer) -> str:
    return "" if server.here else f" --address {server.url}" if common.address else ""
