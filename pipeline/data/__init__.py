"""Data between audio files and training: manifest → shards → memory-mapped dataset → splits → batches.

In the order to read:

- `manifest`: list of labeled clips, from class folders or a CSV.
- `shards`: file format of the spectrograms, Parquet shards and their `_manifest.json`.
- `dataset`: all rows of a dataset, with the spectrograms in a memory-mapped cache.
- `group_split`: stratified, grouped splits as pure functions on arrays.
- `split`: training, validation and held-out rows of a training run, and additional training shards.
- `loader`: epoch order, batch loading and normalization statistics.

Principle: a recording is never on both sides of a split, bad files are reported instead of dropped silently,
and a damaged or incomplete shard is detected when it is read. Nothing here imports Ray.
"""
