"""Examples of classes in a report: the most probable clips of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pipeline.classifier.clip_audio import row_audio
from pipeline.classifier.evaluation_rows import EvaluatedRows
from pipeline.classifier.report_page import Example
from pipeline.report.selection import evenly_spaced


def most_probable(
    rows: EvaluatedRows,
    classes: np.ndarray,
    clips_of: Callable[[int], tuple[np.ndarray, np.ndarray]],
    class_names: Sequence[str],
) -> list[Example]:
    """Return the most probable clip of each class; of many classes, evenly spaced ones.

    Args:
        rows: the evaluated clips.
        classes: class indices with clips.
        clips_of: returns the clips of a class, as positions among the rows, and its probability in each.
        class_names: names of the classes.
    """
    examples, clip_ids = [], rows.clip_ids
    for label in classes[evenly_spaced(len(classes))].tolist():
        clips, probabilities = clips_of(label)
        best = clips[probabilities.argmax()]
        audio = row_audio(rows.dataset, rows.rows[best])
        examples.append(Example(str(clip_ids[best]), class_names[label], rows.mel(best), audio))
    return examples
