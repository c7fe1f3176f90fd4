"""Entry point of the `melray` command.

Imports are deferred until they are needed: `melray --help` takes less than a tenth of a second.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback

from cluster.arguments.usage import COMMANDS, overview, unknown_command
from cluster.output_encoding import spell_unprintable_characters
from cluster.process import current_folder_exists, prepare_process

USER_ERROR, INTERRUPTED, BROKEN_PIPE = 2, 130, 141


def main() -> None:
    """Run the command line of this process and exit with its code."""
    prepare_process()
    spell_unprintable_characters()
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        # `kill`, Slurm and Kubernetes: the same end as by Ctrl-C, with everything cleaned up.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        try:
            code = run(sys.argv[1:])
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader of the output, such as `head`, has closed it.
        _discard_stdout()
        code = BROKEN_PIPE
    except OSError as error:
        if error.errno is None:  # not of the system, but of a library: a defect, or a library that is missing
            raise
        _discard_stdout()
        code = _print_error(f"cannot write the output: {error.strerror or error}")
    except KeyboardInterrupt:
        _print_on_stderr("\ninterrupted; run the command again to resume", "")
        code = INTERRUPTED
    # A second Ctrl-C would end what is cleaned up at exit with a traceback.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


def _discard_stdout() -> None:
    """Drop what is still to be written: Python would report the error again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(arguments: list[str]) -> int:
    """Run a command line, given without the program's name; return the exit code.

    The code is 0 after success, 2 after a user error, or the exit code of a job; `main` adds 130 after an
    interrupt, and 141 if the reader of the output is gone.
    """
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        return 0 if arguments else USER_ERROR
    if arguments[0] in ("-V", "--version"):
        from importlib.metadata import version

        print(f"melray {version('melray')}")
        return 0
    command, remaining = arguments[0], arguments[1:]
    if command not in COMMANDS:
        return _print_error(unknown_command(command))
    if not current_folder_exists():
        return _print_error(
            "the current folder has been deleted: change to another one, or `cd` into it again"
        )
    # Arguments after `--` are the command of a job.
    end = remaining.index("--") if "--" in remaining else len(remaining)
    flags, job_arguments = remaining[:end], remaining[end + 1 :] if end < len(remaining) else None
    try:
        return _run_command(command, flags, job_arguments)
    except BrokenPipeError:
        raise
    except Exception as error:
        message = _explain(error)
        if message is None:
            raise
        if "--debug" in flags:
            traceback.print_exc()
        return _print_error(message)


def _run_command(command: str, flags: list[str], job_arguments: list[str] | None) -> int:
    from cluster.arguments.common_flags import split_common_flags
    from cluster.commands import dispatch
    from pipeline.io.console import setup_logging

    common, flags = split_common_flags(flags, command)
    if common.address is None and common.ray is not False and in_job():
        common = common._replace(address="auto")
    setup_logging(common.log_level)
    return dispatch(command, flags, common, job_arguments)


def in_job() -> bool:
    """Return whether this process is the entry point of a job, which has the address of its cluster."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ and bool(os.environ.get("RAY_ADDRESS"))


def _explain(error: Exception) -> str | None:
    """Return what the user can do about an error, in one line; None for a defect of melray."""
    from cluster.shadowing import explain_shadowing

    # First: a file of the user may have prevented the imports below.
    if (message := explain_shadowing(error)) is not None:
        return message
    from models.config import ConfigError
    from pipeline.io.errors import UserError, explain_os_error
    from pipeline.io.store_errors import StoreError

    if isinstance(error, UserError | ConfigError):
        return str(error)
    if isinstance(error, StoreError):
        return explain_os_error(error, f"using {error.uri}")
    if isinstance(error, OSError) and error.errno is not None:
        return explain_os_error(error, f"using {error.filename}" if error.filename else "working")
    if isinstance(error, MemoryError):
        return f"not enough memory ({' '.join(str(error).split()) or 'allocation failed'})"
    return None


def _print_error(text: str) -> int:
    _print_on_stderr(f"melray: error: {text}", "red")
    return USER_ERROR


def _print_on_stderr(text: str, style: str) -> None:
    if sys.stderr.isatty():
        from pipeline.io.console import console

        console.print(text, style=style, markup=False)
    else:
        print(text, file=sys.stderr)
