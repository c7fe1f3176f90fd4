"""Entry point of the `melray` command.

Imports are deferred until they are needed: `melray --help` takes less than a tenth of a second.
"""

from __future__ import annotations

import os
import sys
import traceback

from cluster.arguments.usage import COMMANDS, overview, unknown_command

USER_ERROR, INTERRUPTED, BROKEN_PIPE = 2, 130, 141


def main() -> None:
    """Run the command line of this process and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run a command line, given without the program's name; return the exit code.

    The code is 0 after success, 2 after a user error, 130 after an interrupt, 141 if the reader of the output
    is gone, or the exit code of a job.
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
    # Arguments after `--` are the command of a job.
    end = remaining.index("--") if "--" in remaining else len(remaining)
    flags, job_arguments = remaining[:end], remaining[end + 1 :] if end < len(remaining) else None
    debug = "--debug" in flags
    from models.config import ConfigError
    from pipeline.io.errors import UserError, explain_os_error

    try:
        from cluster.arguments.common_flags import split_common_flags
        from cluster.commands import dispatch
        from pipeline.io.console import setup_logging

        common, flags = split_common_flags(flags)
        setup_logging(common.log_level)
        return dispatch(command, flags, common, job_arguments)
    except (UserError, ConfigError) as error:
        if debug:
            traceback.print_exc()
        return _print_error(str(error))
    except BrokenPipeError:
        # The reader of the output, such as `head`, has closed it; Python would report that again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        if debug or error.errno is None:
            raise
        return _print_error(
            explain_os_error(error, f"using {error.filename}" if error.filename else "working")
        )
    except KeyboardInterrupt:
        _print_on_stderr("\ninterrupted; run the command again to resume", "")
        return INTERRUPTED


def _print_error(text: str) -> int:
    _print_on_stderr(f"melray: error: {text}", "red")
    return USER_ERROR


def _print_on_stderr(text: str, style: str) -> None:
    if sys.stderr.isatty():
        from pipeline.io.console import console

        console.print(text, style=style, markup=False)
    else:
        print(text, file=sys.stderr)
