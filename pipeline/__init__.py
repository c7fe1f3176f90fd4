"""The pipeline: from audio folders to trained models, evaluation and predictions.

    pipeline/
      io/            errors, console, files; paths on local disk or in an object store
      audio/         decoding, augmentation, log-mel spectrograms, vocoder, synthetic sounds
      data/          manifest, shards, memory-mapped dataset, splits, batches
      report/        HTML reports: page, charts, spectrograms, audio players
      distributed/   cluster resources, resumable batch jobs, quarantine of crashing clips, worker processes
      extract.py     melray extract: audio files → shards
      training/      shared by both model families: run folder, checkpoints, process group, Ray Train
      classifier/    melray train-classifier, crossval, predict; evaluation of classifiers
      gan/           melray train-gan, generate; evaluation of generators

Imports point in one direction only (`a ← b`: b may import a), enforced by `tests/test_layers.py`:

    io ← audio ← data ← training ← classifier ← gan
    io ← distributed ← training, extract
    io, audio ← report ← classifier, gan

Models are defined in `models/`, without file access. Hyperparameter search (`tune/`) and the command line and
cluster jobs (`cluster/`) import this package: models ← pipeline ← tune ← cluster.

Principles: `io`, `audio`, `data` and `report` never import Ray, so everything in them is tested without a
cluster. A configuration class is defined next to the code that uses it; each command is a function of one.
Every job resumes after a crash: results are written atomically, and complete results are not computed again.
"""
