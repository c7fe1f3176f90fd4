"""`melray predict`, from its settings to its tables; the command itself is `pipeline/classifier/predict.py`.

config          settings
plan            what will be written, checked before anything is predicted
stages          spectrograms, then probabilities
recording_list  recordings, their lengths and windows
tables          tables of work units, of few and of thousands of classes
merge           these tables become predictions.parquet, submission.csv and lists of conspicuous files
"""
