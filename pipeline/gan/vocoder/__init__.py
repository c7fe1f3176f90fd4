"""Vocoders that are trained on a user's own recordings, for the sounds of generators.

In the order to read:

config    settings of `melray train-vocoder`
clips     samples of the rows of a dataset, from their audio files, and random segments of them
state     what training changes: network, optimizer, history; checkpoints and the model
loop      training loop of one worker
scores    errors of the vocoder and of Griffin-Lim alone on clips that were not trained on, and their sounds
train     command `train-vocoder`: start, resume or report a run
load      the vocoder of a run, for the spectrograms of a generator
"""
