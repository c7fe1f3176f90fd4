"""The `melray` command: picks a sub-command and runs it in a Ray session.

Nothing heavy is imported before it is needed: `melray --help` answers at once.
"""

from __future__ import annotations

import os
import sys
import traceback

from cluster.arguments.usage import COMMANDS, COMMON, unknown_command


def main() -> None:
    """Entry point: ends the process with 0 (or a job's code), with 2 after a user's error, with 130 after an interrupt."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs one command line, without the program's name; returns the exit code."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        from importlib.metadata import version

        print(f"melray {version('melray')}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        return _fail(unknown_command(name))
    # What follows a -- is a job's.
    own = rest[: rest.index("--")] if "--" in rest else rest
    debug = "--debug" in own
    rest = [argument for argument in own if argument != "--debug"] + rest[len(own) :]
    from models.config import ConfigError
    from pipeline.io.errors import UserError

    try:
        from cluster.commands import dispatch

        return dispatch(name, rest)
    except (UserError, ConfigError) as error:
        if debug:
            traceback.print_exc()
        return _fail(str(error))
    except BrokenPipeError:
        # Whoever reads our output, such as `head`, has seen enough; Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if debug or error.errno is None:
            raise
        from pipeline.io.errors import explain_os_error

        return _fail(explain_os_error(error, f"using {error.filename}" if error.filename else "working"))
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130


def overview() -> str:
    """What `melray --help` shows."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {purpose}" for name, purpose in COMMANDS.items()]
    return "\n".join(
        [
            "melray: sound classifiers and sound generators on a Ray cluster, from folders of audio to submission.csv and new sounds",
            "",
            "usage: melray COMMAND [flags]      (melray COMMAND --help lists all flags of a command)",
            "",
            *lines,
            "",
            COMMON.rstrip(),
        ]
    )


def _fail(text: str) -> int:
    print(f"melray: error: {text}", file=sys.stderr)
    return 2
