"""Experiment trackers: a command's runs in MLflow and Weights & Biases, under `--log-to`.

    names.py          names of the trackers; their packages
    tracking.py       a process per tracker for the duration of a command
    process.py        that process: follows the run folders until the command ends
    follower.py       sends what is new in each run folder, and records what was sent
    tracked_runs.py   run folders of a command as parent and child runs
    run_files.py      what of a run folder is sent: parameters, results, artifacts, the model
    record.py         record in the run folder: id of the tracker's run, and what it has
    client.py         what a tracker can do
    mlflow_client.py  MLflow
    wandb_client.py   Weights & Biases

A tracker reads the files that training writes anyway, in a process of its own. So training neither waits for
a tracker nor changes with it, on whatever node it runs, and what a tracker has missed while it was down is
sent when it answers again, or when the command is run again.
"""
