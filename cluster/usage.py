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
}

COMMON = """common flags:
  --config FILE.yaml    settings from a file; flags win over it
  --address ADDRESS     of a running Ray cluster; by default Ray starts on this machine
  --cpus N              CPUs that a local Ray may use; by default all
  --debug               show the traceback of an error
"""
