"""HTML report of a search.

Modules in reading order:

report                computes what the page shows, and writes it
templates/            the page: edit it to change how it looks and reads
charts                Plotly figures of trials, hyperparameters and their importances
parallel_coordinates  each trial as a line over all hyperparameters and the score
axes                  ranges, ticks and positions of scores and hyperparameters
results               trials with finite scores, and how scores and values are formatted

Principle: as in `pipeline.report`, Python computes and the template shows. Nothing here needs Ray.
"""
