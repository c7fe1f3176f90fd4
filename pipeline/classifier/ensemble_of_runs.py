"""`melray ensemble`: trained runs as one, which predicts the mean of their probabilities.

The runs may differ in everything but classes and spectrogram settings: seed, network, copies, split. What
prediction and evaluation need of them is copied, so that the new run can be moved, and outlives them.

The temperature of their mean is fitted on clips that no model was trained on. A cross-validation predicts
each clip that it was trained on by the model that held it out: the mean with its other models is a little
more cautious.

RUN/member_1/, RUN/member_2/, …  copies of the runs: weights, settings, clips that they were trained on
RUN/ensemble.json                members, and the temperature of their mean
RUN/evaluation.json, confusion.csv, report.html    evaluation on the clips that the temperature was fitted on;
                                 the folder of each member has one of its own
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from models.ensemble import logits_of_mean
from pipeline.classifier.command_configs import EnsembleConfig
from pipeline.classifier.ensemble_calibration import (
    RowLogits,
    calibrate_logits,
    predict_row_logits,
    predictions_at,
)
from pipeline.classifier.evaluate import CONFUSION_NAME, EVALUATION_NAME, describe_scores, write_any
from pipeline.classifier.evaluation_rows import check_features, original_rows, recorded_as
from pipeline.classifier.predictor_model import (
    EnsembleRecord,
    PredictorModel,
    combine,
    load_predictor,
    member_runs,
)
from pipeline.data.dataset import ShardDataset
from pipeline.data.split_record import SPLIT_NAME
from pipeline.data.uncached import open_dataset_to_read
from pipeline.distributed.devices import process_device
from pipeline.io.console import logger
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.files import write_bytes_atomically
from pipeline.io.folder_lock import own_folder
from pipeline.io.storage import is_remote, remove_files, remove_tree, to_path
from pipeline.io.text import plural
from pipeline.training.model_file import METADATA_NAME, MODEL_NAME
from pipeline.training.run_content import CROSSVAL_NAME, ENSEMBLE_NAME, check_run_folder
from pipeline.training.run_folder import RunFolder

_MODEL_FILES = (MODEL_NAME, METADATA_NAME, SPLIT_NAME)
_EVALUATION_FILES = (EVALUATION_NAME, CONFUSION_NAME, "report.html")
_RECORD_FILES = ("config.json", ENSEMBLE_NAME, CROSSVAL_NAME, f"tuned/{CROSSVAL_NAME}")

# With fewer clips, one more or less changes an accuracy by more than five points.
MIN_CLIPS = 20


def combine_runs(config: EnsembleConfig) -> None:
    """Copy the models of the members, calibrate and evaluate their mean, and write `ensemble.json`.

    Raises:
        UserError: unusable members, or with other classes or spectrograms than the first; unusable shards; a
            folder of another command.
    """
    _check_folder(config)
    members = [load_predictor(run) for run in config.members]
    ensemble = combine(EnsembleRecord(list(config.members)), members, "--members")
    logits = _calibration_logits(config, members, ensemble)
    with own_folder(config.run, "ensemble", "--run") as owner:
        names = [f"member_{i + 1}" for i in range(len(members))]
        with report_os_errors("writing to", config.run):
            _copy_members(config, names)
        record: dict[str, Any] = {"members": names}
        if logits is not None:
            record |= _calibrate(config, names, logits)
        owner.check()
        with report_os_errors("writing to", config.run):
            RunFolder(config.run).write_json(ENSEMBLE_NAME, record)
    print(f"ensemble of {plural(ensemble.members, 'model')}: {config.run}", flush=True)


class _CalibrationLogits(NamedTuple):
    """Logits for clips that no model was trained on."""

    dataset: ShardDataset
    members: list[RowLogits]
    ensemble: RowLogits


def _calibration_logits(
    config: EnsembleConfig, members: Sequence[PredictorModel], ensemble: PredictorModel
) -> _CalibrationLogits | None:
    """Return logits of the members and of the ensemble; None, with a warning, without suitable clips.

    Raises:
        UserError: unusable shards.
    """
    path = config.shards or _known_shards(config.members)
    if path is None:
        logger.warning(
            "the shards of the members are gone: the ensemble is neither calibrated nor evaluated; give "
            "labeled clips by --shards"
        )
        return None
    dataset = open_dataset_to_read(path)
    check_features(dataset.features, ensemble.metadata.features, path)
    originals = original_rows(dataset)
    table = dataset.table.iloc[originals]
    models = [
        _models_of_member(run, saved, table) for run, saved in zip(config.members, members, strict=True)
    ]
    # Clips that each member can predict by a model that was not trained on them.
    usable = np.logical_and.reduce(
        [np.any([model.is_unseen for model in of_member], axis=0) for of_member in models]
    )
    rows = originals[usable]
    if not len(rows):
        logger.warning(
            "each clip of %s was used in the training of a member, or is in its held-out fold: the ensemble "
            "is neither calibrated nor evaluated; give other labeled clips by --shards",
            path,
        )
        return None
    device = process_device(config.device)
    logger.info("predicting %s, on which the ensemble is calibrated", plural(len(rows), "clip"))
    if len(rows) < MIN_CLIPS:
        logger.warning(
            "no more than %s of %s that no member was trained on: probabilities and scores are unreliable; "
            "train members with the same --split-seed, or give other labeled clips by --shards",
            plural(len(rows), "clip"),
            path,
        )
    logits = [
        RowLogits(member, rows, _unseen_logits(of_member, usable, dataset, rows, device))
        for member, of_member in zip(members, models, strict=True)
    ]
    mean = logits_of_mean(
        [torch.from_numpy(row_logits.values) for row_logits in logits], ensemble.metadata.multi_label
    )
    return _CalibrationLogits(dataset, logits, RowLogits(ensemble, rows, mean.numpy()))


class _Model(NamedTuple):
    """A model of a cross-validation, or the one of another member."""

    saved: PredictorModel
    is_unseen: np.ndarray
    """Whether the model was not trained on each clip, and may be calibrated on it, bool `[shape=(N,)]`."""


def _models_of_member(run: Path, saved: PredictorModel, table: pd.DataFrame) -> list[_Model]:
    """Return the models of a member of which each has clips of its own that it was not trained on.

    Of a run these are the clips that it validates on, not its held-out fold, which is there to score it; of a
    cross-validation the held-out fold of each model, but not clips on which its epoch was chosen. Clips that
    are not in the split of a model are unseen, too.
    """
    record = EnsembleRecord.read(run)
    if record is None or not record.is_crossval:
        models, runs, seen = [saved.model], [run], ("train", "held-out")
    else:
        members: Any = saved.model.members
        models, runs, seen = list(members), record.runs, ("train", "validation")
    return [
        _Model(
            PredictorModel(model, saved.metadata),
            ~np.logical_or.reduce([recorded_as(split, path, table) for split in seen]),
        )
        for model, path in zip(models, runs, strict=True)
    ]


def _unseen_logits(
    models: Sequence[_Model],
    usable: np.ndarray,
    dataset: ShardDataset,
    rows: np.ndarray,
    device: torch.device,
) -> np.ndarray:
    """Predict each row by the mean of the models that were not trained on it; return logits `[shape=(N, C)]`.

    Args:
        models: models of a member.
        usable: which of the clips that `models` are about are predicted, bool.
        dataset: dataset with these clips.
        rows: their rows `[shape=(N,)]`.
        device: device that predicts.
    """
    is_unseen_KN = np.stack([model.is_unseen[usable] for model in models])
    metadata = models[0].saved.metadata
    result = np.empty((len(rows), len(metadata.class_names)), np.float32)
    for unseen_K in np.unique(is_unseen_KN, axis=1).T:
        own = np.flatnonzero((is_unseen_KN == unseen_K[:, None]).all(axis=0))
        logits = [
            predict_row_logits(model.saved, dataset, rows[own], 1, device).values
            for model, is_used in zip(models, unseen_K, strict=True)
            if is_used
        ]
        mean = logits_of_mean(
            [torch.from_numpy(np.asarray(values)) for values in logits], metadata.multi_label
        )
        result[own] = mean.numpy()
    return result


def _known_shards(members: Sequence[Path]) -> Path | None:
    """Return the shards of the first member whose shards are still there."""
    for member in members:
        content = RunFolder(member_runs(member)[0]).read_config() or {}
        if "shards" in content and (path := to_path(Path(content["shards"]))).is_dir():
            return path
    return None


def _check_folder(config: EnsembleConfig) -> None:
    """Raise `UserError` if the folder has results of another command, or one of the members."""
    folder, *members = (path if is_remote(path) else path.resolve() for path in (config.run, *config.members))
    for i, (member, target) in enumerate(zip(config.members, members, strict=True)):
        if target in members[:i]:
            raise UserError(f"--members {member}: given twice")
        if type(target) is type(folder) and target.is_relative_to(folder):
            raise UserError(f"--run {config.run} contains --members {member}; choose another --run")
    check_run_folder(config.run, ("ensemble",))


def _copy_members(config: EnsembleConfig, names: Sequence[str]) -> None:
    """Replace the members in the folder, and delete what was computed from former ones."""
    # The record of the ensemble first: without it the folder is none.
    remove_files(config.run / name for name in (ENSEMBLE_NAME, *_EVALUATION_FILES))
    for path in list(config.run.glob("member_*")):
        remove_tree(path)
    for name, source in zip(names, config.members, strict=True):
        for file in _prediction_files(source):
            target = config.run / name / file
            target.parent.mkdir(parents=True, exist_ok=True)
            write_bytes_atomically(target, (source / file).read_bytes())


def _prediction_files(run: Path) -> Iterator[PurePosixPath]:
    """Yield what prediction and evaluation need of a run, and of the runs that it consists of."""
    record = EnsembleRecord.read(run)
    names = (*_RECORD_FILES, *(_MODEL_FILES if record is None else ()))
    yield from (PurePosixPath(name) for name in names if (run / name).is_file())
    for part in [] if record is None else record.runs:
        folder = PurePosixPath(*part.relative_to(run).parts)
        yield from (folder / file for file in _prediction_files(part))


def _calibrate(config: EnsembleConfig, names: Sequence[str], logits: _CalibrationLogits) -> dict[str, Any]:
    """Evaluate the members, then fit and evaluate the ensemble; return the fitted values for its record."""
    description = "clips that no member was trained on"
    for name, path, member in zip(names, config.members, logits.members, strict=True):
        predictions = predictions_at(1.0, member, logits.dataset)
        metrics = write_any(config.run / name, predictions, member.saved, [], description, 1)
        print(f"{path}: {describe_scores(metrics)}", flush=True)
    record, metrics = calibrate_logits(config.run, logits.ensemble, logits.dataset, description)
    print(f"together, on {plural(metrics['clips'], 'clip')}: {describe_scores(metrics)}", flush=True)
    return record
