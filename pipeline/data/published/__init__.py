"""Layouts in which datasets are published, recognized by their tables and by which files exist.

- `audio_search`: where the audio files are that a table names.
- `folder_tables`: which table of a folder lists its audio files (Hugging Face `metadata.csv`, Kaggle
  `train.csv`).
- `labeled_data`: labeled clips of a table or folder, and what was recognized.
- `parquet_audio`: Parquet files with audio in them, which are refused in one line.
"""
