"""Clips to evaluate a classifier on: parts of its own split, or other data that it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.audio.features import FeatureConfig, feature_mismatch
from pipeline.classifier.command_configs import EvaluateConfig
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.predictor_model import AnyClassifier, member_runs
from pipeline.classifier.refit import VALIDATED_NAME
from pipeline.data.clips import shown_list
from pipeline.data.dataset import ShardDataset
from pipeline.data.identify import identify
from pipeline.data.label_sets import count_label_sets, label_sets
from pipeline.data.labels import split_labels
from pipeline.data.split_record import SPLIT_NAME, read_split_record, shared_rows
from pipeline.data.split_warnings import name_list
from pipeline.data.uncached import open_dataset_to_read
from pipeline.io.console import logger
from pipeline.io.errors import UserError
from pipeline.io.text import plural
from pipeline.training.run import load_run_data
from pipeline.training.run_folder import RunFolder


@dataclass(frozen=True)
class EvaluatedRows:
    """Some rows of a dataset."""

    dataset: ShardDataset
    rows: np.ndarray
    """Row indices `[shape=(N,)]`."""

    @property
    def clip_ids(self) -> np.ndarray:
        """Clip id of each row `[shape=(N,)]`."""
        return self.dataset.table["clip_id"].to_numpy()[self.rows]

    def mel(self, i: int) -> np.ndarray:
        """Spectrogram of the `i`-th of the rows, in dB `[shape=(n_mels, num_frames)]`."""
        return np.asarray(self.dataset.mels[self.rows[i]])


def select_rows(config: EvaluateConfig, saved: AnyClassifier) -> tuple[ShardDataset, np.ndarray, str]:
    """Return the dataset, the indices of the rows to evaluate on, and their description.

    Raises:
        UserError: unusable shards, or no such rows.
    """
    if config.shards is not None and not _are_own_shards(config.run, config.shards):
        return select_new_rows(config, config.shards, saved)
    train_config, dataset, split = load_run_data(
        config.run, TrainClassifierConfig, "give the clips to evaluate on by --shards", config.shards
    )
    rows_by_split = {
        "held-out": split.held_out,
        "validation": split.val,
        "all": original_rows(dataset),
    }
    name = config.split
    if name == "auto":
        name = "held-out" if len(split.held_out) else "validation"
    if name == "validation" and train_config.refit:
        raise UserError(
            "--split validation: the model was trained on these clips too (--refit); evaluate the validated "
            f"one by --run {_validated_run(config.run)}, or this one on other clips by --shards"
        )
    if len(rows_by_split[name]) == 0:
        raise UserError(
            f"--split {name}: no such clips in this run; choose another split, or labeled clips by --shards"
        )
    description = {
        "held-out": f"fold {train_config.fold}, held out",
        "validation": "validation clips",
        "all": "all clips, those trained on included",
    }[name]
    if config.shards is not None:
        logger.info("--shards %s: the run's own data; evaluating on its %s", config.shards, description)
    return dataset, rows_by_split[name], description


def _validated_run(run: Path) -> Path:
    """Return the run with validation of a run with `--refit`; of an ensemble that of its first member."""
    return member_runs(run)[0] / VALIDATED_NAME


def _are_own_shards(run: Path, shards: Path) -> bool:
    """Return whether shards have the content that a run was trained on, at whatever path."""
    content = RunFolder(run).read_config(("shards_digest",))
    return content is not None and identify(shards).is_recorded(content)


def select_new_rows(
    config: EvaluateConfig, shards: Path, saved: AnyClassifier
) -> tuple[ShardDataset, np.ndarray, str]:
    """Return other data than the run's own, as `select_rows`: by default without clips that were trained on.

    Raises:
        UserError: unusable shards, another split than `auto` or `all`, or no clip that was not trained on.
    """
    if config.split not in ("auto", "all"):
        raise UserError(
            f"--split {config.split}: only the run's own data has it, not that in --shards {shards}; "
            "drop --split"
        )
    dataset = open_dataset_to_read(shards)
    check_features(dataset.features, saved.metadata.features, shards)
    rows, description = _without_trained(config, shards, dataset)
    chosen_on = rows[recorded_as("validation", config.run, dataset.table.iloc[rows])]
    if len(chosen_on):
        logger.warning(
            "--shards %s: %d of %d clips, such as '%s', are validation clips of the run, on which its epoch "
            "and calibration were chosen: scores may be too high",
            shards,
            len(chosen_on),
            len(rows),
            dataset.table["clip_id"].to_numpy()[chosen_on[0]],
        )
        description += f", {plural(len(chosen_on), 'validation clip')} included"
    return dataset, rows, description


def _without_trained(config: EvaluateConfig, shards: Path, dataset: ShardDataset) -> tuple[np.ndarray, str]:
    """Return the rows of other data to evaluate on, and their description; errors as `select_new_rows`."""
    rows = original_rows(dataset)
    trained_on = rows[recorded_as("train", config.run, dataset.table.iloc[rows])]
    if not len(trained_on):
        return rows, f"all of {shards}"
    example = dataset.table["clip_id"].to_numpy()[trained_on[0]]
    found = (
        f"--shards {shards}: the run was trained on {len(trained_on)} of {len(rows)} clips, or on others of "
        f"the same recordings, such as '{example}'"
    )
    if config.split == "all":
        logger.warning("%s: accuracy on them is no estimate for new clips", found)
        return rows, f"all of {shards}, {len(trained_on)} clips trained on included"
    if len(trained_on) == len(rows):
        raise UserError(f"{found}: give other clips, or --split all to evaluate on them nevertheless")
    logger.warning("%s: they are left out; --split all includes them", found)
    return np.setdiff1d(rows, trained_on), f"{shards} without clips trained on"


def recorded_as(part: str, run: Path, table: pd.DataFrame) -> np.ndarray:
    """Return the mask of the rows in a part of a run's split, bool `[shape=(N,)]`.

    Logs once, for the part `train`, if the split is unknown.
    """
    mask = np.zeros(len(table), bool)
    for member in member_runs(run):
        record = read_split_record(member / SPLIT_NAME)
        if record is not None:
            mask |= shared_rows(table, record[record["split"] == part])
        elif part == "train":
            logger.warning(
                "--run %s: cannot check whether it was trained on clips of --shards: no %s in it",
                member,
                SPLIT_NAME,
            )
    return mask


def original_rows(dataset: ShardDataset) -> np.ndarray:
    """Return the indices of the rows that are not augmented copies."""
    return np.flatnonzero(dataset.table["copy"].to_numpy() == 0)


def check_classes(dataset: ShardDataset, rows: np.ndarray, saved: AnyClassifier) -> None:
    """Check that a model knows the classes of some rows.

    Raises:
        UserError: names the classes that it does not know, or the numbers of rows with several or none if it
            predicts one class per clip.
    """
    texts = pd.unique(dataset.table["label"].to_numpy()[rows])
    names = {name for text in texts for name in (split_labels(text) if dataset.multi_label else [text])}
    class_names = saved.metadata.class_names
    if unknown := sorted(names - set(class_names)):
        raise UserError(
            f"--shards: the model does not know {name_list(unknown)}, only {shown_list(class_names, 20)}; "
            "leave these clips out, or train with them"
        )
    if dataset.multi_label and not saved.metadata.multi_label:
        sizes = label_sets(dataset.table.iloc[rows], class_names, True).sizes
        if (sizes != 1).any():
            raise UserError(
                f"--shards: {count_label_sets(sizes)}, but the model predicts one class per clip; train it "
                "with --multi-label"
            )


def check_features(shards: FeatureConfig, model: FeatureConfig, path: Path) -> None:
    """Check that shards have the spectrograms that a model was trained on.

    Raises:
        UserError: with the first setting that differs.
    """
    mismatch = feature_mismatch(shards, model, "the model uses")
    if mismatch is not None:
        raise UserError(f"--shards {path} use {mismatch}; extract with the settings of the model")
