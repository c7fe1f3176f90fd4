"""Jobs of a cluster: the list, their logs, and an end before their time."""

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

from cluster.arguments.flags import Common
from cluster.arguments.subcommands import Action, run_action
from cluster.connection.address import job_server
from cluster.connection.dashboard import client_errors, job_client
from models.config import Config
from pipeline.io.console import duration
from pipeline.io.errors import UserError

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

STOPPED = 130  # as after an interrupt


class JobsConfig(Config):
    """Lists jobs, the latest first. `melray jobs logs ID` shows what one prints, `melray jobs stop ID` ends it."""

    limit: int = Field(20, ge=1)
    """So many, at most."""


class LogsConfig(Config):
    """Shows what a job has printed; the exit code is the job's, once it has ended."""

    id: Annotated[str, tyro.conf.Positional]
    """The job."""
    follow: bool = False
    """Go on until the job ends."""


class StopConfig(Config):
    """Ends a job."""

    id: Annotated[str, tyro.conf.Positional]
    """The job."""


def command(common: Common, arguments: list[str]) -> int:
    """`melray jobs [logs ID|stop ID]`.

    Raises:
        UserError: no such job, or a cluster that can't be asked.
    """
    actions = {
        "": Action(JobsConfig, show_jobs),
        "logs": Action(LogsConfig, show_logs),
        "stop": Action(StopConfig, stop),
    }
    with client_errors():
        return run_action("jobs", actions, common, arguments)


def show_jobs(config: JobsConfig, common: Common) -> int:
    """Prints a table."""
    jobs = [job for job in job_client(job_server(common.address)).list_jobs() if job.submission_id]
    jobs.sort(key=lambda job: job.start_time or 0, reverse=True)
    # Into a file or a pipe the commands go whole.
    width = shutil.get_terminal_size((140, 20)).columns if sys.stdout.isatty() else 10_000
    print("\n".join(table(jobs[: config.limit], time.time(), width)) if jobs else "no jobs yet")
    return 0


def table(jobs: Iterable[JobDetails], now: float, width: int) -> list[str]:
    """Lines of id, state, start, time taken and command; the command is cut to what `width` leaves."""
    rows = [("id", "state", "started", "took", "command")]
    for job in jobs:
        begin, finish = (job.start_time or 0) / 1000, (job.end_time or 0) / 1000 or now
        started = datetime.fromtimestamp(begin).strftime("%m-%d %H:%M:%S") if begin else ""
        rows.append(
            (
                job.submission_id or "",
                job.status.lower(),
                started,
                duration(max(0.0, finish - begin)) if begin else "",
                format_command(job),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join([*(cell.ljust(size) for cell, size in zip(row[:4], widths, strict=True)), row[4]])
        for row in rows
    ]
    return [
        line if len(line) <= max(width, sum(widths) + 20) else line[: max(width, sum(widths) + 20) - 1] + "…"
        for line in lines
    ]


def format_command(job: JobDetails) -> str:
    """What was submitted: as it was typed, if melray did it."""
    return " ".join(((job.metadata or {}).get("melray") or job.entrypoint).split())


def show_logs(config: LogsConfig, common: Common) -> int:
    """Prints a log, to its end if the job is to be followed."""
    client = job_client(job_server(common.address))
    find(client, config.id)
    if config.follow:
        return follow(client, config.id)
    sys.stdout.write(client.get_job_logs(config.id))
    return exit_code(client.get_job_info(config.id))


def follow(client: JobSubmissionClient, job_id: str) -> int:
    """Prints what a job prints until it ends; returns its exit code.

    Raises:
        UserError: the connection was lost, while the job goes on.
    """
    import aiohttp

    again = f"melray jobs logs {job_id} --follow"
    try:
        asyncio.run(_tail(client, job_id))
        info = client.get_job_info(job_id)
        while not info.status.is_terminal():  # the log ends a moment before the job does
            time.sleep(0.2)
            info = client.get_job_info(job_id)
    except KeyboardInterrupt:
        print(
            f"\nthe job goes on; to see it again: {again}\nto end it: melray jobs stop {job_id}",
            file=sys.stderr,
        )
        return STOPPED
    except (RuntimeError, OSError, aiohttp.ClientError):
        raise UserError(f"lost sight of {job_id}, which may go on: {again}") from None
    code = exit_code(info)
    took = duration(((info.end_time or 0) - (info.start_time or 0)) / 1000)
    print(
        f"{job_id} {info.status.lower()} after {took}" + (f": {failure_reason(info)}" if code else ""),
        file=sys.stderr,
    )
    return code


async def _tail(client: JobSubmissionClient, job_id: str) -> None:
    async for text in client.tail_job_logs(job_id):
        sys.stdout.write(text)
        sys.stdout.flush()


def stop(config: StopConfig, common: Common) -> int:
    """Asks a job to end, and waits for it."""
    client = job_client(job_server(common.address))
    info = find(client, config.id)
    if info.status.is_terminal():
        print(f"{config.id} has ended already: {info.status.lower()}")
        return 0
    client.stop_job(config.id)
    deadline = time.monotonic() + 30
    while not (info := client.get_job_info(config.id)).status.is_terminal():
        if time.monotonic() > deadline:
            raise UserError(
                f"{config.id} is asked to stop and has not in 30 s; melray jobs shows when it has"
            )
        time.sleep(0.2)
    print(f"{config.id} {info.status.lower()}")
    return 0


def find(client: JobSubmissionClient, job_id: str) -> JobDetails:
    """What is known of a job.

    Raises:
        UserError: there is none of this id; the line names the nearest.
    """
    import difflib

    jobs = {job.submission_id: job for job in client.list_jobs() if job.submission_id}
    if job_id in jobs:
        return jobs[job_id]
    near = difflib.get_close_matches(job_id, jobs, n=1)
    raise UserError(
        f"no job '{job_id}'; " + (f"did you mean '{near[0]}'?" if near else "melray jobs lists them")
    )


def exit_code(info: JobDetails) -> int:
    """The code of a job that has ended, as a shell would give it; 0 while it runs."""
    state = info.status
    if state == "FAILED":
        code = info.driver_exit_code
        return 1 if not code else 128 - code if code < 0 else code
    return STOPPED if state == "STOPPED" else 0


def failure_reason(info: JobDetails) -> str:
    """Why a job ended so, in one line: its exit code, or what kept it from starting."""
    if info.driver_exit_code is not None:
        return f"exit code {info.driver_exit_code}"
    lines = (info.message or "").strip().splitlines()
    return lines[-1].strip() if lines else "no reason given"
