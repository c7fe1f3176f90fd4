"""Names of class folders as BirdNET-Analyzer reads them for the training of custom classifiers."""

from __future__ import annotations

from pipeline.data.labels import join_labels

# Folders of recordings in which no class sounds, in lower case.
NON_EVENT_CLASSES = frozenset(("noise", "other", "background", "silence"))


def birdnet_label(folder: str) -> str:
    """Return the classes of a folder, as in `labels.py`: several are separated by commas.

    `-A` has recordings without class A, such as of a sound that is confused with it; it counts as background.
    """
    names = [name.strip() for name in folder.split(",")]
    return join_labels(
        name for name in names if name and not name.startswith("-") and name.lower() not in NON_EVENT_CLASSES
    )
