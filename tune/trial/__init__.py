"""Execution of one trial.

spec.py      specification of trials for workers; training settings of a trial
scores.py    training as a stream of scores, one per epoch
workers.py   process group of a trial with several workers
trainable.py Ray Tune trainable, one epoch per step

Training loops are generators, so a trial advances epoch by epoch; spec.py and scores.py do not depend on Ray.
"""
