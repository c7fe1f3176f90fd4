"""Data between audio files and training: manifest → shards → memory-mapped dataset → splits → batches.

In the order to read:

- `clips`: rows of a manifest and their ids.
- `manifest`, `unlabeled`: list of clips with and without labels, from class folders (`class_folders`), a
  CSV, or a list of paths; `sources/` has their parts, `annotations/` those for events in recordings and the
  windows cut from these, and `published/` those that recognize the layouts of published datasets.
- `recording_headers`, `windows`: lengths of recordings, and names of their windows.
- `feature_choice`: spectrogram settings that are left out, chosen from the clips.
- `extraction`: spectrograms of the clips or windows of a work unit, and which of them are rejected.
- `shard_manifest`: manifest of a dataset, which marks it as complete.
- `shards`: file format of the spectrograms, Parquet shards and their `_manifest.json`.
- `duplicates`: clips with the same audio: digests, `duplicates.csv`, merged groups.
- `footer_file`: copies of the footers of all shards, so that an update does not read each shard.
- `publication`: lists of conspicuous clips and manifest of an extracted dataset.
- `existing_dataset`: whether an extraction may update or replace what its output folder contains.
- `dataset`: all rows of a dataset, with the spectrograms in a memory-mapped cache.
- `cache_fill`, `cache_space`, `row_cache`: this cache of a node: filled, limited, opened.
- `group_split`: stratified, grouped splits as pure functions on arrays.
- `labels`, `label_sets`: names of the classes of a row as one text, and the classes of all rows.
- `rows`: rows of a dataset without their spectrograms.
- `dataset_identity`, `identify`: whether a dataset is the one of an earlier run, although it was extracted
  again.
- `split`: training, validation and held-out rows of a training run.
- `split_warnings`: what scores of a split do not cover.
- `split_record`: which clips a run was trained on, for later commands.
- `initial_run`: clips that the initial weights of a run were trained on.
- `extra_rows`: additional training rows, generated or of other datasets.
- `loader`: epoch order, batch loading and normalization statistics.
- `partition`: rows that are shared among nodes, and batches in which every rank has rows of its node.
- `sound_dataset`, `torch_dataset`: a dataset for programs and notebooks, and for PyTorch.
- `uncached`, `shard_stream`: spectrograms read from the shards, where a cache would not fit.

Principle: a recording is never on both sides of a split, bad files are reported instead of dropped silently,
and a damaged or incomplete shard is detected when it is read. Nothing here imports Ray.
"""
