"""Hyperparameter search with Ray Tune and Optuna.

config.py          settings of a search
space.py           search space: ranges and choices by dotted key
settings.py        base settings and search space, from the configuration and its YAML files
trials.py          records of trials and the files of a search
plan.py            number of concurrent trials and resources of each
study.py           trials as an Optuna study; importance of hyperparameters
searcher.py        suggestions: TPE or random search
schedulers.py      early stopping (ASHA) and populations (PBT, PB2)
trial/             execution of one trial on its workers
recorder.py        Ray Tune callback that records trials
search_writer.py   writes their records in the background
live_table.py      live view on the console
result.py          best.yaml, table, report and printed results
trials_table.py    trials.csv, and `melray.read_search`
result_grid.py     trials as `ray.tune.ResultGrid`, for programs
report/            HTML report
tracked_search.py  parent and child runs for experiment trackers
ray_tune.py        runs the trials
search.py          melray tune
nested_crossval.py melray crossval --tuned

A trial is an ordinary training run, and JSON files are the only state: a resumed search rebuilds the study
and the scheduler from them and makes the same suggestions as one that was never interrupted.
"""
