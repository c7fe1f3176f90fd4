"""Execution of one trial.

spec.py        specification of trials for workers; training settings of a trial
scores.py      training as a stream of scores, one per epoch
workers.py     process group of a trial with several workers
trainable.py   Ray Tune trainable, one epoch per step
replaced.py    runs that trials of a population lose
unrecorded.py  epochs of which the search ended before their score arrived

Training loops are generators, so a trial advances epoch by epoch; spec.py and scores.py do not depend on Ray.
"""
