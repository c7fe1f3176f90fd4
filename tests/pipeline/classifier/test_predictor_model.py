"""The runs of a cross-validation predict as one model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.classifier.inference import predict_probabilities
from pipeline.classifier.loop import train_loop
from pipeline.classifier.predict import PredictConfig, predict
from pipeline.classifier.predictor_model import load_predictor, predictor_digest
from pipeline.data.shard_manifest import open_shards
from pipeline.data.uncached import open_dataset_to_read
from pipeline.distributed.batch_job import run_in_process
from pipeline.io.errors import UserError
from pipeline.training.finished_run import read_run
from pipeline.training.model_file import MODEL_NAME, load_classifier, model_digest
from tests.helpers.runs import SINGLE_WORKER
from tests.helpers.sounds import train_config

pytestmark = pytest.mark.usefixtures("single_thread")
FOLDS = (1, 2, 3)


@pytest.fixture(scope="module")
def crossval_run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a cross-validation with three folds, which were trained differently."""
    run = tmp_path_factory.mktemp("crossval")
    for fold in FOLDS:
        train_loop(train_config(shards, run / f"fold_{fold}", epochs=2, seed=fold), SINGLE_WORKER)
    (run / "crossval.json").write_text(json.dumps({"folds": [{"fold": fold} for fold in FOLDS]}))
    return run


def test_probabilities_are_means_of_calibrated_ones(crossval_run: Path, shards: Path) -> None:
    mels = open_dataset_to_read(shards).mels[np.arange(20)]
    ensemble = load_predictor(crossval_run)
    assert ensemble.members == 3
    assert ensemble.metadata.class_names == open_shards(shards).class_names
    single = [
        predict_probabilities(load_classifier(crossval_run / f"fold_{fold}").model, mels) for fold in FOLDS
    ]
    assert not np.allclose(single[0], single[1], atol=1e-3)
    for shifts in (1, 4):
        if shifts > 1:
            single = [
                predict_probabilities(load_classifier(crossval_run / f"fold_{fold}").model, mels, shifts)
                for fold in FOLDS
            ]
        np.testing.assert_allclose(
            predict_probabilities(ensemble.model, mels, shifts), np.mean(single, axis=0), atol=1e-5
        )


def test_prediction_uses_all_folds(crossval_run: Path, shards: Path, tmp_path: Path) -> None:
    audio = shards.parent / "data"
    together = predict(PredictConfig(run=crossval_run, audio=(audio,), out=tmp_path / "all"), run_in_process)
    single = [
        predict(
            PredictConfig(run=crossval_run / f"fold_{fold}", audio=(audio,), out=tmp_path / str(fold)),
            run_in_process,
        )
        for fold in FOLDS
    ]
    means = np.mean([table.select_dtypes("float").to_numpy() for table in single], axis=0)
    assert means.shape == (30, 3)
    np.testing.assert_allclose(together.select_dtypes("float").to_numpy(), means, atol=1e-5)


def test_digest_is_that_of_all_models(crossval_run: Path, tmp_path: Path) -> None:
    assert predictor_digest(crossval_run / "fold_1") == model_digest(crossval_run / "fold_1")
    digests = {
        predictor_digest(crossval_run),
        *(model_digest(crossval_run / f"fold_{fold}") for fold in FOLDS),
    }
    assert len(digests) == 4


def test_unfinished_cross_validation_is_refused(crossval_run: Path, tmp_path: Path) -> None:
    (tmp_path / "fold_1").mkdir()
    for path in (crossval_run / "fold_1").iterdir():
        if path.is_file():
            (tmp_path / "fold_1" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "crossval.json").write_text((crossval_run / "crossval.json").read_text())
    with pytest.raises(UserError, match="fold_2: no such folder"):
        load_predictor(tmp_path)
    (tmp_path / "crossval.json").unlink()
    with pytest.raises(UserError, match=f"no {MODEL_NAME} in it"):
        load_predictor(tmp_path)


def test_nested_cross_validation_predicts_with_its_tuned_models(crossval_run: Path, tmp_path: Path) -> None:
    nested = tmp_path / "nested"
    shutil.copytree(crossval_run, nested / "tuned")
    arm = json.loads((crossval_run / "crossval.json").read_text())
    (nested / "crossval.json").write_text(json.dumps({"tuned": arm, "base": arm}))
    assert load_predictor(nested).members == 3
    assert predictor_digest(nested) == predictor_digest(crossval_run)
    run = read_run(nested)
    assert run.command == "crossval" and run.is_complete
    assert [part.name for part in run.parts] == []  # without settings of the folds
    for fold in (10, 2, 1):
        (nested / f"tuned/fold_{fold}").mkdir(exist_ok=True)
        (nested / f"tuned/fold_{fold}/config.json").write_text("{}")
    assert [part.name for part in run.parts] == ["fold_1", "fold_2", "fold_10"]
