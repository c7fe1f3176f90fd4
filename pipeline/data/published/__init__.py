"""Layouts in which datasets are published, recognized by their tables and by which files exist.

- `audio_search`: where the audio files are that a table names.
- `dataset_card`: configurations and splits that the card of a Hugging Face dataset lists, and which of them
  is read (`card_settings`); `card_audio` finds the audio files of one.
- `folder_tables`: which table of a folder lists its audio files (Hugging Face `metadata.csv`, Kaggle
  `train.csv`).
- `named_files`: splits of files by the card or by their names.
- `labeled_data`: labeled clips of a table or folder, and what was recognized.
- `parquet_audio`: which Parquet files have audio in them, and which of them are read.
- `parquet_clips`: the clips in these, by the rows that `parquet_records` reads
  (`parquet_labels` their classes, `parquet_texts` their columns); `parquet_splits`: which of
  these are held out.
"""
