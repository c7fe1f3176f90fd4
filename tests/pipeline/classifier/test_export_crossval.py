"""The models of a cross-validation are exported as one, which predicts what `melray predict` does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.audio.decode import decode
from pipeline.classifier.crossval import fold_config, report_folds
from pipeline.classifier.export import export_classifier
from pipeline.classifier.export_checks import predict_sound
from pipeline.classifier.predict import PredictConfig, predict
from pipeline.classifier.predictor_model import EnsembleRecord, load_predictor, predictor_digest
from pipeline.data.uncached import open_dataset_to_read
from pipeline.distributed.batch_job import run_in_process
from pipeline.training.export.config import ExportConfig
from pipeline.training.export.runtime import run_onnx
from tests.helpers.classifier_training import train_run
from tests.helpers.exported import run_torch_program
from tests.helpers.sounds import RATE, SMALL_NETWORK
from tests.pipeline.classifier.test_crossval import crossval_config

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")
# Tracing takes seconds, and minutes where many processes share the CPUs.
pytestmark = [pytest.mark.usefixtures("single_thread"), pytest.mark.timeout(600)]

FOLDS = (1, 2)
TOLERANCE = 1e-3
# Of probabilities of networks in 8-bit integers.
INT8_TOLERANCE = 0.1


@pytest.fixture(scope="module")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cross-validation of two folds, each of which is trained for a few epochs."""
    config = crossval_config(
        shards, tmp_path_factory.mktemp("cv") / "run", epochs=6, learning_rate=1e-2, model=SMALL_NETWORK
    )
    config.run.mkdir()
    runs = {fold: fold_config(config, fold) for fold in FOLDS}
    for train_config in runs.values():
        train_run(train_config)
    report_folds(config, open_dataset_to_read(shards), runs)
    return config.run


@pytest.fixture(scope="module")
def expected(run: Path, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Path, np.ndarray]:
    """Return the probabilities of `melray predict` for each recording."""
    out = tmp_path_factory.mktemp("predicted") / "out"
    table = predict(PredictConfig(run=run, audio=(shards.parent / "data",), out=out), run_in_process)
    values = table[[f"p:{name}" for name in load_predictor(run).metadata.class_names]].to_numpy()
    return dict(zip(map(Path, table["path"]), values, strict=True))


def export(run: Path, out: Path, **settings: object) -> Path:
    export_classifier(ExportConfig(run=run, out=out, **settings))
    return out


def test_crossval_predicts_unlike_each_of_its_models(run: Path, expected: dict[Path, np.ndarray]) -> None:
    record = EnsembleRecord.read(run)
    assert record is not None and record.member_temperature != 1.0  # the export has to apply it
    for fold in record.runs:
        saved = load_predictor(fold)
        single = [predict_sound(saved, decode(path, RATE), trim=True) for path in expected]
        assert np.abs(single - np.stack([*expected.values()])).max() > 10 * TOLERANCE


def test_onnx_model_of_crossval_predicts_as_melray(
    run: Path, expected: dict[Path, np.ndarray], tmp_path: Path
) -> None:
    model = export(run, tmp_path / "model.onnx")
    session = run_onnx(model.read_bytes())
    for path, probabilities in expected.items():
        (actual,) = session(decode(path, RATE)[None])
        np.testing.assert_allclose(actual, probabilities, atol=TOLERANCE, err_msg=path.name)
    file = onnxruntime.InferenceSession(model)
    assert [value.shape for value in file.get_outputs()] == [["batch", 3]]
    metadata = file.get_modelmeta().custom_metadata_map
    assert metadata["models"] == "2" and metadata["run_digest"] == predictor_digest(run)
    assert json.loads(metadata["class_names"]) == ["tone 0", "tone 1", "tone 2"]


@pytest.mark.slow
def test_torch_program_of_crossval_predicts_without_melray(
    run: Path, expected: dict[Path, np.ndarray], tmp_path: Path
) -> None:
    model = export(run, tmp_path / "model.pt2")
    outputs, metadata = run_torch_program(model, [decode(path, RATE)[None] for path in expected], tmp_path)
    np.testing.assert_allclose(np.concatenate(outputs), [*expected.values()], atol=TOLERANCE)
    assert json.loads(metadata["models"]) == 2


@pytest.mark.slow
def test_int8_model_of_crossval_predicts_alike(
    run: Path, expected: dict[Path, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = export(run, tmp_path / "model.onnx", quantize="int8")
    # The clips that the first model held out.
    assert "int8 against float32 on 6 held-out clips: same prediction 100.0%" in capsys.readouterr().out
    session = run_onnx(model.read_bytes())
    actual = np.concatenate([session(decode(path, RATE)[None]) for path in expected])
    probabilities = np.stack([*expected.values()])
    assert 0 < np.abs(actual - probabilities).max() < INT8_TOLERANCE
    assert (actual.argmax(axis=1) == probabilities.argmax(axis=1)).all()
