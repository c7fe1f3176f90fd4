"""`melray jobs`: list the jobs of a cluster, show and follow their logs, stop them."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic import Field

from cluster.arguments.common_flags import CommonFlags
from cluster.connection.address import job_server
from cluster.connection.dashboard import client_errors, job_client
from models.config import Config
from pipeline.io.console import duration, logger
from pipeline.io.errors import UserError

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

STOPPED = 130  # the exit code after an interrupt
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
    """Follow the log until the job ends."""


class StopConfig(Config):
    """Stop a job."""

    id: Annotated[str, tyro.conf.Positional]
    """Job id."""


@client_errors()
def show_jobs(config: JobsConfig, common: CommonFlags) -> int:
    """Print a table of jobs."""
    jobs = [job for job in job_client(job_server(common.address)).list_jobs() if job.submission_id]
    jobs.sort(key=lambda job: job.start_time or 0, reverse=True)
    # Commands are cut on a terminal only.
    width = shutil.get_terminal_size((140, 20)).columns if sys.stdout.isatty() else 10_000
    print("\n".join(format_table(jobs[: config.limit], time.time(), width)) if jobs else "no jobs")
    return 0


def format_table(jobs: Iterable[JobDetails], now: float, width: int) -> list[str]:
    """Return a line of id, state, start, duration and command per job, the command cut at `width` columns."""
    rows = [("id", "state", "started", "took", "command")]
    for job in jobs:
        start, end = (job.start_time or 0) / 1000, (job.end_time or 0) / 1000 or now
        rows.append(
            (
                job.submission_id or "",
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
    return " ".join(((job.metadata or {}).get("melray") or job.entrypoint).split())


@client_errors()
def show_logs(config: LogsConfig, common: CommonFlags) -> int:
    """Print the log of a job, until the job ends under `--follow`; return the job's exit code."""
    client = job_client(job_server(common.address))
    find_job(client, config.id)
    if config.follow:
        return follow(client, config.id)
    sys.stdout.write(client.get_job_logs(config.id))
    return exit_code(client.get_job_info(config.id))


def follow(client: JobSubmissionClient, job_id: str) -> int:
    """Stream the log of a job until it ends; return its exit code.

    Raises:
        UserError: connection lost; the job may still be running.
    """
    import aiohttp

    logs_command = f"melray jobs logs {job_id} --follow"
    try:
        asyncio.run(_stream_log(client, job_id))
        info = client.get_job_info(job_id)
        while not info.status.is_terminal():  # the log ends a moment before the job does
            time.sleep(0.2)
            info = client.get_job_info(job_id)
    except KeyboardInterrupt:
        logger.warning("the job keeps running. Logs: %s  Stop: melray jobs stop %s", logs_command, job_id)
        return STOPPED
    except (RuntimeError, OSError, aiohttp.ClientError):
        raise UserError(f"connection lost; {job_id} may still be running: {logs_command}") from None
    code = exit_code(info)
    outcome = (
        f"{info.status.lower()} after {duration(((info.end_time or 0) - (info.start_time or 0)) / 1000)}"
    )
    if code:
        logger.warning("%s %s: %s", job_id, outcome, failure_reason(info))
    else:
        logger.info("%s %s", job_id, outcome)
    return code


async def _stream_log(client: JobSubmissionClient, job_id: str) -> None:
    async for text in client.tail_job_logs(job_id):
        sys.stdout.write(text)
        sys.stdout.flush()


@client_errors()
def stop(config: StopConfig, common: CommonFlags) -> int:
    """Stop a job and wait until it has stopped."""
    client = job_client(job_server(common.address))
    info = find_job(client, config.id)
    if info.status.is_terminal():
        print(f"{config.id} has already finished: {info.status.lower()}")
        return 0
    client.stop_job(config.id)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while not (info := client.get_job_info(config.id)).status.is_terminal():
        if time.monotonic() > deadline:
            raise UserError(
                f"{config.id} did not stop within {STOP_TIMEOUT_S} s; `melray jobs` shows its state"
            )
        time.sleep(0.2)
    print(f"{config.id} {info.status.lower()}")
    return 0


def find_job(client: JobSubmissionClient, job_id: str) -> JobDetails:
    """Return the details of a job.

    Raises:
        UserError: no job of this id; the message names the closest one.
    """
    import difflib

    jobs = {job.submission_id: job for job in client.list_jobs() if job.submission_id}
    if job_id in jobs:
        return jobs[job_id]
    matches = difflib.get_close_matches(job_id, jobs, n=1)
    hint = f"did you mean '{matches[0]}'?" if matches else "`melray jobs` lists them"
    raise UserError(f"no job '{job_id}'; {hint}")


def exit_code(info: JobDetails) -> int:
    """Return the exit code of a finished job, as a shell would give it; 0 while it is running."""
    state = info.status
    if state == "FAILED":
        code = info.driver_exit_code
        return 1 if not code else 128 - code if code < 0 else code
    return STOPPED if state == "STOPPED" else 0


def failure_reason(info: JobDetails) -> str:
    """Return in one line why a job failed: its exit code, or what prevented its start."""
    if info.driver_exit_code is not None:
        return f"exit code {info.driver_exit_code}"
    lines = (info.message or "").strip().splitlines()
    return lines[-1].strip() if lines else "no reason given"
