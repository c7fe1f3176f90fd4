"""`melray doctor`: run the checks and report them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import tyro

from cluster.arguments.common_flags import CommonFlags
from cluster.connection.address import is_http, job_server
from cluster.connection.local_state import ended_cluster, running_cluster
from cluster.connection.session import session
from cluster.doctor.check import Check, fail, ok, report, warn
from cluster.doctor.cluster import check_connected_cluster, check_job_server
from cluster.doctor.host import check_host, import_failed
from cluster.doctor.storage import check_storage
from models.config import Config
from pipeline.io.console import duration
from pipeline.io.errors import UserError
from pipeline.io.storage import PathOrURI, is_remote


class DoctorConfig(Config):
    """Check host, cluster and storage; the exit code is 1 if a check fails.

    Each check prints a line: ok, warn or fail, the last two followed by a hint.
    The cluster is that of --address, or the local one of `melray cluster up` if it is running.
    """

    storage: tuple[str, ...] = ()
    """Folders or URIs, such as s3://bucket/shards, to write to and read from."""
    run: PathOrURI | None = None
    """Folder to check for free space (default: current)."""
    start: bool = False
    """Start a local Ray and run a test task, as commands without --address do."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print JSON: a list of objects with level, name, message and hint."""


def doctor(config: DoctorConfig, common: CommonFlags) -> int:
    """Print the report; return 1 if a check fails."""
    start = time.monotonic()
    checks = list(run_checks(config, common))
    elapsed = duration(time.monotonic() - start)
    checks.append(ok("time", f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC; checked in {elapsed}"))
    print(json.dumps([check._asdict() for check in checks], indent=1) if config.as_json else report(checks))
    return int(any(check.level == "fail" for check in checks))


def run_checks(config: DoctorConfig, common: CommonFlags) -> Iterator[Check]:
    """Run the checks that the configuration requests."""
    # The cluster first: Ray reads its environment when it is first imported.
    yield from check_ray(config.start, common)
    run_is_remote = is_remote(config.run)
    project = Path(__file__).resolve().parents[2]
    yield from check_host(project, Path.cwd() if config.run is None or run_is_remote else config.run)
    for location in (*config.storage, *([str(config.run)] if run_is_remote else [])):
        yield check_storage(location)


def check_ray(start: bool, common: CommonFlags) -> Iterator[Check]:
    """Check the cluster through its dashboard if that is known, else by joining it."""
    local, address = running_cluster(), common.address
    try:
        # In a job, `auto` is the cluster on which the job runs.
        in_job = bool(os.environ.get("RAY_ADDRESS")) and address == "auto"
        if start or (address is not None and not is_http(address) and (in_job or address != "auto")):
            with session(None if start else address, common.cpus if start else None):
                token = os.environ.get("RAY_AUTH_MODE") == "token"
                yield from check_connected_cluster(token, is_own=start)
        elif address is not None or local is not None:
            server = job_server(address)
            yield from check_job_server(server, local if server.is_local else None)
        else:
            none = "no local cluster (commands start Ray themselves; test with --start)"
            ended = ended_cluster()
            yield warn("ray", none, ended) if ended else ok("ray", none)
    except UserError as error:
        yield fail("ray", str(error), "check that the cluster is up, and its address and token")
    except ImportError as error:
        yield import_failed("ray", "ray", error)
