"""`melray doctor`: is everything here that a command needs, and what to do where it isn't."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import tyro

from cluster.arguments.flags import Common, parse
from cluster.connection.address import is_http, job_server
from cluster.connection.local_state import running_cluster
from cluster.connection.session import session
from cluster.doctor.check import Check, fail, ok, report
from cluster.doctor.cluster import check_connected_cluster, check_job_server
from cluster.doctor.machine import check_machine
from cluster.doctor.storage import check_storage
from models.config import Config
from pipeline.io.console import duration
from pipeline.io.errors import UserError
from pipeline.io.storage import PathOrURI, is_remote


class DoctorConfig(Config):
    """Checks this machine, a cluster and storage, a line each: ok, warn, or fail with what to do; exit code 1 after a fail.

    It looks at the cluster of --address, or that of `melray cluster up` if it runs.
    """

    storage: tuple[str, ...] = ()
    """Folders or URIs, such as s3://bucket/shards, to write to and read from."""
    run: PathOrURI | None = None
    """Folder where results shall go: is there room? By default the present one."""
    start: bool = False
    """Start a Ray of its own and run something on it, as commands without --address do."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """For scripts: a list of objects with level, what, found and remedy."""


def command(common: Common, arguments: list[str]) -> int:
    """Prints the report; 1 where something fails."""
    config = parse(DoctorConfig, "doctor", arguments, common.config)
    begin = time.monotonic()
    checks = list(run_checks(config, common))
    checks.append(
        ok(
            "time",
            f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC; looked at all in {duration(time.monotonic() - begin)}",
        )
    )
    print(json.dumps([check._asdict() for check in checks], indent=1) if config.as_json else report(checks))
    return int(any(check.level == "fail" for check in checks))


def run_checks(config: DoctorConfig, common: Common) -> Iterator[Check]:
    """All checks that the settings ask for."""
    # The cluster first: Ray reads its environment when something first imports it.
    yield from check_ray(config.start, common)
    on_a_store = is_remote(config.run)
    yield from check_machine(
        Path(__file__).resolve().parents[2], Path.cwd() if config.run is None or on_a_store else config.run
    )
    for place in (*config.storage, *([str(config.run)] if on_a_store else [])):
        yield check_storage(place)


def check_ray(start: bool, common: Common) -> Iterator[Check]:
    """The cluster, by its dashboard where that is known, or else from within."""
    local, address = running_cluster(), common.address
    try:
        # In a job, `auto` is the cluster that the job runs on.
        inside = bool(os.environ.get("RAY_ADDRESS")) and address == "auto"
        if start or (address is not None and not is_http(address) and (inside or address != "auto")):
            with session(None if start else address, common.cpus if start else None):
                yield from check_connected_cluster(os.environ.get("RAY_AUTH_MODE") == "token")
        elif address is not None or local is not None:
            server = job_server(address)
            yield from check_job_server(server, local if server.here else None)
        else:
            yield ok("ray", "no cluster runs here, and commands start a Ray of their own; --start tries that")
    except UserError as error:
        yield fail("ray", str(error), "see that it is up and that the address and the token are right")
