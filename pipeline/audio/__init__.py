"""Signal processing: pure functions of numpy arrays, and of torch tensors in the vocoder. Never imports Ray.

In the order in which a clip passes through them:

- `file_types`: which files are recordings, by ending or content.
- `clip_files`: reads the files of clips in object stores or Parquet files ahead of decoding.
- `parquet_column`, `parquet_rows`, `parquet_batches`: which column of a Parquet file has audio files, the
  content of these, and batches of them that are read independently.
- `decode`: audio file → mono samples at one sample rate, of all streams of the file, with warnings; damaged
  files are used if enough is there. `decoding/` has its parts.
- `open_recording`: open streams of a recording; one that can only be read from its start stays open.
- `recordings`: windows of recordings of any length, read in blocks.
- `waveform`: resample, trim silence, crop or pad to a fixed length, write WAV files.
- `augment`: waveform augmentations of a given strength, and the random generator of each row.
- `mel`, `mel_filters`: samples → log-mel spectrogram in dB, equal to librosa's.
- `features`: one clip → its shard rows, by all of the above; `FeatureConfig`, the settings that training,
  prediction and generation share.
- `feature_settings`, `feature_defaults`, `clip_formats`: what a user leaves out of these settings is chosen
  from sample rates and lengths of the clips.
- `sounds`: all that for programs and notebooks.
- `cpu_time`: estimated CPU time of all that.
- `vocoder`: log-mel spectrogram → samples.
- `loudness`: loudness and peak of synthesized clips.
- `synthesize`: synthetic sounds of ten classes.
- `synthetic_dataset`: a labeled dataset of them for `melray demo`, tests and benchmarks.

Randomness is passed in as a `numpy.random.Generator`, seeded per row: results do not depend on the worker or
on the processing order.
"""
