"""Command names, their purposes and the flags that all commands accept, as text."""

from __future__ import annotations

# One line per command; cluster/arguments/registry.py names the code of each.
COMMANDS = {
    "demo": "run the whole pipeline on synthetic sounds",
    "extract": "extract log-mel spectrograms from audio files into shards",
    "train-classifier": "train a sound classifier on shards",
    "train-gan": "train a conditional GAN on shards",
    "tune": "tune hyperparameters",
    "crossval": "cross-validate a classifier",
    "ensemble": "combine trained classifiers into one run",
    "evaluate": "compute metrics of a classifier or generator; HTML report",
    "predict": "classify unlabeled audio files; writes submission.csv",
    "show": "show a recording with its detected events; HTML page",
    "generate": "generate sounds of chosen classes with a trained generator",
    "export": "write a model as one ONNX or torch file",
    "serve": "serve trained runs over HTTP, with a page to use them",
    "submit": "submit a command as a cluster job",
    "jobs": "list cluster jobs, show their logs, stop them",
    "cluster": "start, inspect or stop a local multi-node cluster",
    "doctor": "check host, cluster and storage; hints for each problem",
}

# At most 80 columns, so that no terminal breaks the lines.
COMMON_FLAGS = """common flags:
  --config FILE.yaml    YAML file with settings; flags take precedence
  --address ADDRESS     Ray cluster to use: HOST:PORT, ray://HOST:PORT, or auto
                        (that of `melray cluster up`; in a job, its own); for
                        submit, jobs, cluster status and doctor also
                        http://HOST:PORT (default: start Ray on this host; in a
                        job: auto)
  --cpus N              CPUs of this host to use, or of each node of
                        `melray cluster up` (default: all)
  --ray, --no-ray       always or never run work on Ray (default: on this host,
                        in plain processes if it would take less time than
                        Ray's start)
  --log-level LEVEL     least severe log messages shown on stderr: debug (with
                        Ray's own), info, warning or error (default: info)
  --quiet               same as --log-level warning; settings are not printed,
                        results are
  --debug               print the traceback of an error
"""


def overview() -> str:
    """Return the text of `melray --help`."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {purpose}" for name, purpose in COMMANDS.items()]
    return "\n".join(
        [
            "melray: train sound classifiers and conditional sound GANs from folders of audio",
            "",
            "usage: melray COMMAND [flags]       (melray COMMAND --help lists the flags)",
            "",
            *lines,
            "",
            COMMON_FLAGS.rstrip(),
        ]
    )


def unknown_command(name: str) -> str:
    """Return the one-line error for a word that is not a command, with the closest commands as a hint."""
    import difflib

    # `train` is the start of two commands, of which the nearest by letters is not the likeliest.
    begun = [command for command in COMMANDS if name and command.startswith(name)]
    matches = begun or difflib.get_close_matches(name, COMMANDS, n=1)
    guesses = " or ".join(f"'{match}'" for match in matches)
    hint = f"did you mean {guesses}?" if matches else f"commands: {', '.join(COMMANDS)}"
    return f"unknown command '{name}'; {hint}"
