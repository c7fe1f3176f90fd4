"""Table of the classes of many audio files, which are read by threads and classified in batches."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from pipeline.audio.clip_files import with_rows_read
from pipeline.audio.decode import AudioDecodeError
from pipeline.audio.features import ClipSource, FeatureConfig, load_clip, spectrogram, split_windows
from pipeline.audio.sound_arguments import check_source, source_name
from pipeline.classifier.outputs import Outputs
from pipeline.classifier.prediction.tables import predicted_labels
from pipeline.data.unlabeled import read_unlabeled
from pipeline.io.arguments import shown_value
from pipeline.io.concurrent import map_concurrently
from pipeline.io.errors import errors_without_flags
from pipeline.io.storage import user_path

# Files that are decoded concurrently.
THREADS = 4
# What yields other things than audio files: names of columns, keys, lines.
_NO_LISTS = (pd.DataFrame, Mapping, io.IOBase)


class ReadClip(NamedTuple):
    """Spectrograms of the windows of a file, or the reason why it cannot be read."""

    file: str
    mels: list[np.ndarray]
    reason: str


def list_sources(sources: str | Path | Iterable[ClipSource]) -> list[ClipSource]:
    """Return the given files, or all audio files of a folder.

    Raises:
        UserError: no audio in the folder.
        ValueError: neither a folder nor audio files.
    """
    if isinstance(sources, (bytes, bytearray, memoryview)):
        return [check_source(sources)]
    if not isinstance(sources, (str, os.PathLike)):
        if not isinstance(sources, Iterable) or isinstance(sources, _NO_LISTS):
            hint = "; of a table give the column of paths" if isinstance(sources, pd.DataFrame) else ""
            raise ValueError(
                f"sources {shown_value(sources)}: expected a folder, or a list of audio files{hint}"
            )
        return [check_source(source) for source in sources]
    with errors_without_flags():
        return list(read_unlabeled(user_path(sources)).clips["path"])


def read_files(
    sources: Sequence[ClipSource], features: FeatureConfig, windows: int
) -> Generator[ReadClip, None, None]:
    """Yield the spectrograms of up to `windows` windows of each file, in order.

    Raises:
        UserError: an object store cannot be reached.
    """

    def read(source: ClipSource) -> ReadClip:
        try:
            samples = load_clip(source, features)
        except AudioDecodeError as error:
            return ReadClip(source_name(source), [], str(error))
        parts = split_windows(samples, features, windows)
        return ReadClip(source_name(source), [spectrogram(part, features) for part in parts], "")

    return map_concurrently(read, with_rows_read(sources), THREADS)


def mean_outputs(
    clips: Sequence[ReadClip], predict: Callable[[np.ndarray], Outputs], shape: tuple[int, int]
) -> Outputs:
    """Return the mean outputs over the windows of each clip; NaN for unreadable ones.

    Args:
        clips: N clips.
        predict: returns the outputs of spectrograms.
        shape: of a spectrogram, `(n_mels, num_frames)`.
    """
    mels = [mel for clip in clips for mel in clip.mels]
    outputs = predict(np.stack(mels) if mels else np.empty((0, *shape), np.float32))
    return outputs.means([len(clip.mels) for clip in clips])


def file_table(
    clips: Sequence[ReadClip],
    outputs: Outputs,
    class_names: Sequence[str],
    thresholds: Sequence[float] | None,
) -> pd.DataFrame:
    """Return the columns file, label, probability, error, `p:<class>`, and embedding if there are any.

    `thresholds` are as for `predicted_labels`.
    """
    probabilities, embeddings = outputs
    reasons = [clip.reason for clip in clips]
    is_read = np.array([not reason for reason in reasons], bool)
    known = np.where(is_read[:, None], probabilities, -1.0)
    labels = predicted_labels(known, class_names, thresholds)
    shown_labels = [label if read else "" for label, read in zip(labels, is_read, strict=True)]
    facts = {
        # Texts also if there are none.
        "file": pd.Series([clip.file for clip in clips], dtype=str),
        "label": pd.Series(shown_labels, dtype=str),
        "probability": np.where(is_read, known.max(axis=1), np.nan).astype(np.float32),
        "error": pd.Series(reasons, dtype=str),
    }
    columns = [f"p:{name}" for name in class_names]
    table = pd.concat([pd.DataFrame(facts), pd.DataFrame(probabilities, columns=columns)], axis=1)
    if embeddings is not None:
        rows = zip(embeddings, is_read, strict=True)
        table["embedding"] = pd.Series([row if read else None for row, read in rows], dtype=object)
    return table
