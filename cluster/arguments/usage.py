"""The sub-commands and the flags that all of them have, in words."""

# What each sub-command is for; cluster/commands.py runs it.
COMMANDS = {
    "demo": "generate a small set of sounds and go the whole way with it",
    "extract": "turn audio files into shards of log-mel spectrograms",
    "train-classifier": "train a sound classifier on shards",
    "train-gan": "train a generator of new sounds on shards",
    "tune": "search for better settings of a training",
    "crossval": "train and score once for each fold",
    "evaluate": "score a trained classifier or generator; JSON figures and an HTML report",
    "predict": "classify unlabelled files; writes submission.csv",
    "generate": "make new sounds of chosen classes with a trained generator",
    "submit": "run one of these commands as a job of a cluster",
    "jobs": "list a cluster's jobs, show their logs, stop them",
    "cluster": "start a cluster of several nodes on this machine, look at it, end it",
    "doctor": "check this machine, a cluster and storage; says what to do about what is wrong",
}

COMMON = """common flags:
  --config FILE.yaml    settings from a file; flags win over it
  --address ADDRESS     of a running Ray cluster: auto (that of `melray cluster up`; in a job, its own), HOST:PORT, ray://HOST:PORT,
                        or, for submit, jobs, cluster status and doctor, http://HOST:PORT; by default Ray starts on this machine
  --cpus N              CPUs that a local Ray may use, or each node of `melray cluster up`; by default all
  --debug               show the traceback of an error
"""


def unknown_command(name: str) -> str:
    """One line for a word that is no command."""
    import difflib

    near = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"commands: {', '.join(COMMANDS)}"
    return f"unknown command '{name}'; {hint}"
