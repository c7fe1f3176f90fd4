"""Whether a run is multi-label: as set, or as its dataset; and the settings that only one kind of run has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import pandas as pd

from pipeline.classifier.config import TrainClassifierConfig
from pipeline.data.label_sets import count_label_sets
from pipeline.data.labels import split_labels
from pipeline.data.rows import LabeledRows, read_rows
from pipeline.data.shard_manifest import open_shards
from pipeline.io.errors import UserError

# Metrics of validation that a run can select its best epoch by; the first is the default.
MONITORS = {
    False: ("val_macro_f1", "val_accuracy", "val_loss"),
    True: ("val_map", "val_macro_f1", "val_loss"),
}


class Labeled(Protocol):
    """Manifest of a dataset, or its rows."""

    @property
    def multi_label(self) -> bool:
        """Whether a row has any number of classes."""


def check_label_mode(config: TrainClassifierConfig) -> bool:
    """Return whether a run is multi-label; rows are read only if their classes decide.

    Raises:
        UserError: as `is_multi_label`, or unusable shards.
    """
    manifests = [open_shards(folder) for folder in config.shard_folders]
    return _resolve(config, manifests, lambda i: read_rows(config.shard_folders[i]).table)


def is_multi_label(config: TrainClassifierConfig, datasets: Sequence[LabeledRows]) -> bool:
    """Return whether a run is multi-label.

    Args:
        config: settings of the run.
        datasets: its datasets, that of `shards` first.

    Raises:
        UserError: rows with no class or several in a run that is not multi-label, or settings that such a run
            does not have.
    """
    return _resolve(config, datasets, lambda i: datasets[i].table)


def monitored_metric(config: TrainClassifierConfig, multi_label: bool) -> str:
    """Return the metric that selects the best epoch."""
    return config.monitor or MONITORS[multi_label][0]


def _resolve(
    config: TrainClassifierConfig, datasets: Sequence[Labeled], table: Callable[[int], pd.DataFrame]
) -> bool:
    """Return whether a run is multi-label; `table` returns the rows of a dataset by its position."""
    multi_label = datasets[0].multi_label if config.multi_label is None else config.multi_label
    if not multi_label:
        for i, dataset in enumerate(datasets):
            if dataset.multi_label:
                _check_single_labels(config, i, table(i))
    if monitored_metric(config, multi_label) not in MONITORS[multi_label]:
        kind = "multi-label run" if multi_label else "run with one class per clip"
        raise UserError(
            f"--monitor {config.monitor}: not a metric of a {kind}; available: "
            f"{', '.join(MONITORS[multi_label])}"
        )
    if config.focal_gamma and not multi_label:
        raise UserError(f"--focal-gamma {config.focal_gamma:g} needs --multi-label: drop it, or add that")
    return multi_label


def _check_single_labels(config: TrainClassifierConfig, number: int, table: pd.DataFrame) -> None:
    """Check that each row of a multi-label dataset has one class.

    Raises:
        UserError: names the dataset, and the numbers of other rows.
    """
    sizes = table["label"].map({text: len(split_labels(text)) for text in table["label"].unique()}).to_numpy()
    if (sizes == 1).all():
        return
    flag = "--extra-shards" if number else "--shards"
    fix = "drop --no-multi-label" if config.multi_label is False else "add --multi-label"
    raise UserError(
        f"{flag} {config.shard_folders[number]}: {count_label_sets(sizes)}, which only a multi-label run can "
        f"train on: {fix}"
    )
