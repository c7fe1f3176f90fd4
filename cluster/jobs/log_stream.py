"""Log of a job as it grows, over several connections if they are lost.

A connection lasts as long as an SSH tunnel, a port forwarding or a proxy between here and the cluster: hours
at best. Each new one sends the log from its beginning, of which the part already printed is dropped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from cluster.connection.address import JobServer
from cluster.connection.dashboard import NoResponseError
from cluster.jobs.details import JobDetails, read_job, read_log
from cluster.jobs.log_files import installation_log
from pipeline.io.console import duration, logger
from pipeline.io.errors import UserError

# Seconds without output after which the log is looked at in another way: the connection may be dead although
# nothing has closed it. Ray's server does not answer pings.
SILENCE_S = 30.0
# Seconds before the first attempt to reconnect, and at most between two; each waits twice as long.
FIRST_DELAY_S, MAX_DELAY_S = 0.5, 15.0
# Seconds without a connection after which the job is no longer followed.
RECONNECT_TIMEOUT_S = 600.0
# Attempts to read the rest of the log of a job that has ended: its node may be gone.
MAX_ATTEMPTS_AFTER_END = 3
# Seconds that a job may take to end after its log, and between two looks at its state.
END_TIMEOUT_S, POLL_S = 30.0, 0.2


class LogStream:
    """Prints the log of a job, each character once."""

    def __init__(self, server: JobServer, job_id: str, write: Callable[[str], Any]):
        """`write` prints a piece of the log."""
        self._server, self._job_id, self._write = server, job_id, write
        self._printed = 0
        self._is_connected, self._was_lost = False, False
        self._known_length = 0
        """Length of the log at the last look at it without a connection's help."""

    def print_to_end(self) -> JobDetails:
        """Print the log until the job has ended; return the job.

        Raises:
            UserError: no connection for `RECONNECT_TIMEOUT_S`, or a cluster that no longer knows the job.
        """
        last_contact, delay, attempts_after_end = time.monotonic(), FIRST_DELAY_S, 0
        while True:
            start = time.monotonic()
            try:
                asyncio.run(self._print_connection())
                return self._wait_for_end()
            except NoResponseError as error:
                now = time.monotonic()
                if self._is_connected:
                    last_contact = now
                    delay = FIRST_DELAY_S if now - start > MAX_DELAY_S else delay
                self._report_loss(error, now - last_contact)
            if (job := self._ended_job()) is not None:
                attempts_after_end += 1
                if self._print_rest() or attempts_after_end >= MAX_ATTEMPTS_AFTER_END:
                    return job
            time.sleep(delay)
            delay = min(2 * delay, MAX_DELAY_S)

    async def _print_connection(self) -> None:
        """Print what one connection sends and was not printed before, until the log ends.

        Raises:
            NoResponseError: the connection failed or was lost.
        """
        skip = self._printed
        start = time.monotonic()
        async for text in _receive(self._server, self._job_id):
            if text is None:
                if self._check_silence(time.monotonic() - start):
                    return
                continue
            self._report_connection()
            new = text[skip:]
            skip = max(0, skip - len(text))
            self._printed += len(new)
            self._write(new)

    def _check_silence(self, seconds: float) -> bool:
        """Log why there is no output if the job has not started; return whether it has ended.

        Raises:
            NoResponseError: the connection is dead, as there is output.
        """
        job = read_job(self._server, self._job_id)
        if job.status == "PENDING":
            logger.info(
                "waiting for %s: a node installs packages (%s), or resources of the entry point are missing",
                duration(seconds),
                installation_log(self._server),
            )
        elif self._known_length > self._printed:
            raise NoResponseError(f"connection to {self._server.url} is dead")
        else:  # what was written since the last output may be on its way
            self._known_length = len(read_log(self._server, self._job_id))
        return job.has_ended

    def _report_connection(self) -> None:
        if self._was_lost:
            logger.info("connected again")
        self._is_connected, self._was_lost = True, False

    def _report_loss(self, error: NoResponseError, seconds: float) -> None:
        """Log, once, that the connection was lost; raise an error if that was long ago."""
        if seconds > RECONNECT_TIMEOUT_S:
            raise UserError(
                f"no connection to {self._server.url} for {duration(seconds)}; {self._job_id} may still be "
                f"running: melray jobs logs {self._job_id} --follow{self._server.address_flag}"
            ) from error
        if not self._was_lost:
            logger.warning("connection to %s lost, reconnecting; the job keeps running", self._server.url)
        self._is_connected, self._was_lost = False, True

    def _ended_job(self) -> JobDetails | None:
        """Return the job if it is known to have ended."""
        try:
            job = read_job(self._server, self._job_id)
        except NoResponseError:
            return None
        return job if job.has_ended else None

    def _print_rest(self) -> bool:
        """Print the rest of the log of a job that has ended; return whether it is available."""
        try:
            rest = read_log(self._server, self._job_id)[self._printed :]
        except UserError as error:
            logger.warning("the log of %s is not available: %s", self._job_id, error)
            return False
        self._printed += len(rest)
        self._write(rest)
        return True

    def _wait_for_end(self) -> JobDetails:
        """Return the job once it has ended: a moment after its log.

        Raises:
            NoResponseError: no response; or the log was cut off, since the job is still running.
        """
        deadline = time.monotonic() + END_TIMEOUT_S
        while time.monotonic() < deadline:
            job = read_job(self._server, self._job_id)
            if job.has_ended:
                return job
            time.sleep(POLL_S)
        raise NoResponseError(f"the log of {self._job_id} was cut off")


async def _receive(server: JobServer, job_id: str) -> AsyncIterator[str | None]:
    """Yield an empty text once connected, then pieces of the log of a job from its beginning.

    None stands for `SILENCE_S` without output. Otherwise as `JobSubmissionClient.tail_job_logs`, which waits
    indefinitely at a connection that is dead but was not closed.

    Raises:
        NoResponseError: the connection failed or was lost.
    """
    import aiohttp

    headers = server.token.header if server.token else {}
    try:
        async with (
            aiohttp.ClientSession(headers=headers, trust_env=True) as session,
            session.ws_connect(f"{server.url}/api/jobs/{job_id}/logs/tail") as socket,
        ):
            yield ""
            while True:
                try:
                    message = await socket.receive(timeout=SILENCE_S)
                except TimeoutError:
                    yield None
                    continue
                if message.type is aiohttp.WSMsgType.CLOSE and message.data == aiohttp.WSCloseCode.OK:
                    return
                if message.type is not aiohttp.WSMsgType.TEXT:
                    raise NoResponseError(f"connection to {server.url} lost")
                yield message.data
    except (aiohttp.ClientError, OSError) as error:
        if isinstance(error, aiohttp.WSServerHandshakeError) and error.status < 500:
            read_job(server, job_id)  # raises an error with the reason
        raise NoResponseError(f"no connection to {server.url}") from error
