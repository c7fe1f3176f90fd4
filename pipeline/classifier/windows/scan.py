"""Outputs of a classifier for the windows of one recording, which is read in pieces."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np

from pipeline.audio.decode import AudioDecodeError, OnWarning
from pipeline.audio.features import ClipSource, FeatureConfig
from pipeline.audio.recordings import read_windows, window_spectrograms
from pipeline.classifier.outputs import Outputs
from pipeline.data.loader import batch_slices

# Windows whose spectrograms are in memory together.
CHUNK_WINDOWS = 64


def scan_windows(
    source: ClipSource,
    starts: Sequence[float],
    features: FeatureConfig,
    predict: Callable[[np.ndarray], Outputs],
    on_warning: OnWarning,
    on_done: Callable[[int], None],
) -> Outputs:
    """Return the outputs of windows of a recording; NaN for those that cannot be read.

    Args:
        source: the recording.
        starts: first second of each window, ascending.
        features: settings of the spectrograms, and length of the windows.
        predict: returns the outputs of spectrograms in dB `[shape=(N, n_mels, num_frames)]`.
        on_warning: called with each reason why the samples may not be what they should be.
        on_done: called with the number of windows that have been classified since the last call.

    Raises:
        AudioDecodeError: nothing of the recording can be read.
        UserError: the object store cannot be reached.
    """
    parts: list[Outputs] = []
    errors: list[AudioDecodeError] = []
    outcomes = read_windows(source, starts, features.seconds, features.mel.sample_rate, on_warning=on_warning)
    with closing(outcomes):
        for chunk in batch_slices(len(starts), CHUNK_WINDOWS):
            count = len(starts[chunk])
            windows = window_spectrograms(itertools.islice(outcomes, count), features)
            parts.append(predict(windows.mels).with_missing(windows.readable, count))
            errors += windows.errors
            on_done(count)
    if len(errors) == len(starts):
        raise errors[0]
    return Outputs.join(parts)
