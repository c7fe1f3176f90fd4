"""Windows of recordings in `melray predict --window`: from samples to events.

settings     `--window`: grid of windows, thresholds
stage        first stage: spectrograms of windows
merge        tables of windows become windows.parquet, events and predictions of recordings:
results        windows of a recording, collected
pooling        mean, maximum or noisy-or over windows
events         events from overlapping windows
annotation_files  events.csv, Raven tables, Audacity labels
event_scores   scores of events by annotated ones
files          windows.parquet, windows.csv
"""
