"""`melray jobs`: list the jobs of a cluster, show and follow their logs, stop them."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated

import tyro
from pydantic import Field

from cluster.arguments.common_flags import CommonFlags
from cluster.connection.address import JobServer, job_server
from cluster.connection.dashboard import client_errors, job_client
from cluster.jobs.details import STOPPED, JobDetails, find_job, read_job, read_jobs, read_log
from cluster.jobs.log_files import driver_log
from cluster.jobs.log_stream import LogStream
from models.config import Config
from pipeline.io.console import duration, logger
from pipeline.io.errors import UserError

STOP_TIMEOUT_S = 30


class JobsConfig(Config):
    """List jobs, the latest first.

    `melray jobs logs ID` shows the log of a job, `melray jobs stop ID` stops it.
    """

    limit: int = Field(20, ge=1)
    """Maximum number of jobs to list."""


class LogsConfig(Config):
    """Show the log of a job; the exit code is the job's once it has finished."""

    id: Annotated[str, tyro.conf.Positional]
    """Job id."""
    follow: bool = False
    """Follow the log until the job ends; a lost connection is opened again."""


class StopConfig(Config):
    """Stop a job."""

    id: Annotated[str, tyro.conf.Positional]
    """Job id."""


def show_jobs(config: JobsConfig, common: CommonFlags) -> int:
    """Print a table of jobs."""
    jobs = read_jobs(job_server(common.address))
    # Commands are cut on a terminal only.
    width = shutil.get_terminal_size((140, 20)).columns if sys.stdout.isatty() else 10_000
    print("\n".join(format_table(jobs[: config.limit], time.time(), width)) if jobs else "no jobs")
    return 0


def format_table(jobs: Iterable[JobDetails], now: float, width: int) -> list[str]:
    """Return a line of id, state, start, duration and command per job, the command cut at `width` columns."""
    rows = [("id", "state", "started", "took", "command")]
    for job in jobs:
        start, end = job.start_time / 1000, job.end_time / 1000 or now
        rows.append(
            (
                job.submission_id,
                job.status.lower(),
                datetime.fromtimestamp(start).strftime("%m-%d %H:%M:%S") if start else "",
                duration(max(0.0, end - start)) if start else "",
                format_command(job),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join([*(cell.ljust(size) for cell, size in zip(row[:4], widths, strict=True)), row[4]])
        for row in rows
    ]
    limit = max(width, sum(widths) + 20)
    return [line if len(line) <= limit else line[: limit - 1] + "…" for line in lines]


def format_command(job: JobDetails) -> str:
    """Return the command of a job as it was typed, or its entry point if melray did not submit it."""
    return " ".join((job.metadata.get("melray") or job.entrypoint).split())


def show_logs(config: LogsConfig, common: CommonFlags) -> int:
    """Print the log of a job, until the job ends under `--follow`; return the job's exit code."""
    server = job_server(common.address)
    job = find_job(server, config.id)
    if config.follow:
        return follow(server, config.id)
    sys.stdout.write(read_log(server, config.id))
    return job.exit_code


def follow(server: JobServer, job_id: str) -> int:
    """Stream the log of a job until it ends; return its exit code.

    Raises:
        UserError: the connection is lost and cannot be opened again; the job may still be running.
    """
    try:
        job = LogStream(server, job_id, _print_text).print_to_end()
    except KeyboardInterrupt:
        logger.warning(
            "the job keeps running. Logs: melray jobs logs %s --follow%s  Stop: melray jobs stop %s%s",
            *(job_id, server.address_flag) * 2,
        )
        return STOPPED
    outcome = f"{job.status.lower()} after {duration(job.seconds)}"
    if job.exit_code:
        file = driver_log(server, job)
        logger.warning("%s %s: %s", job_id, outcome, job.failure_reason)
        where = f"{server.address_flag}, or {file}" if file else server.address_flag
        logger.warning("its log: melray jobs logs %s%s", job_id, where)
    else:
        logger.info("%s %s", job_id, outcome)
    return job.exit_code


def _print_text(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


@client_errors()
def stop(config: StopConfig, common: CommonFlags) -> int:
    """Stop a job and wait until it has stopped."""
    server = job_server(common.address)
    job = find_job(server, config.id)
    if job.has_ended:
        print(f"{config.id} has already finished: {job.status.lower()}")
        return 0
    job_client(server).stop_job(config.id)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while not (job := read_job(server, config.id)).has_ended:
        if time.monotonic() > deadline:
            raise UserError(
                f"{config.id} did not stop within {STOP_TIMEOUT_S} s; `melray jobs` shows its state"
            )
        time.sleep(0.2)
    print(f"{config.id} {job.status.lower()}")
    return 0
