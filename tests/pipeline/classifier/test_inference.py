"""Inference on another device: the same results, with a copy of each batch and a read of each result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.classifier import Classifier, ClassifierConfig
from models.repetition import repeat_short_clips
from pipeline.classifier import inference
from pipeline.classifier.evaluate import Predictions, predict_any
from pipeline.classifier.inference import predict_probabilities
from pipeline.classifier.predict import PredictConfig, plan_job, read_audio
from pipeline.classifier.prediction.stages import Predictor, SpectrogramReader
from pipeline.classifier.prediction.tables import predicted_clips, read_unit
from pipeline.data.dataset import open_dataset
from pipeline.training.model_file import load_classifier
from tests.helpers.saved_classifier import save_classifier
from tests.helpers.simulated_device import DEVICE, TO_CPU, TO_DEVICE, simulated_device
from tests.helpers.sounds import SMALL_FEATURES, write_shards, write_tones


@pytest.fixture
def model() -> Classifier:
    torch.manual_seed(0)
    config = ClassifierConfig(channels=(4, 8), convs_per_block=1, embedding_dim=8)
    return Classifier(config, 16, 3).eval()


@pytest.fixture
def mels() -> np.ndarray:
    return np.random.default_rng(0).normal(-40, 10, (70, 16, 30)).astype(np.float16)


@pytest.mark.parametrize("shifts", [1, 3])
@pytest.mark.parametrize(("most", "batches"), [(512, 1), (32, 3)])
def test_device_gives_probabilities_of_cpu(
    shifts: int,
    most: int,
    batches: int,
    model: Classifier,
    mels: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inference, "MAX_BATCH_SIZE", most)
    expected = predict_probabilities(model, mels, shifts)
    with simulated_device() as copies:
        model.to(DEVICE)
        copies.clear()
        actual = predict_probabilities(model, mels, shifts, device=DEVICE)
        assert copies == {TO_DEVICE: batches, TO_CPU: 1}
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_model_left_on_cpu_is_an_error(model: Classifier, mels: np.ndarray) -> None:
    with simulated_device(), pytest.raises(RuntimeError, match="tensors of the device and of the CPU"):
        predict_probabilities(model, mels, device=DEVICE)


def test_prediction_on_device_equals_cpu(tmp_path: Path) -> None:
    data, run = write_tones(tmp_path / "data"), save_classifier(tmp_path / "run")
    config = PredictConfig(run=run, audio=(data,), out=tmp_path / "out", windows=2)
    (unit,) = plan_job(config, read_audio(config.audio).clips).units
    spectrograms = SpectrogramReader(SMALL_FEATURES, config.windows)(unit)
    tables = []
    for device in (torch.device("cpu"), DEVICE):
        with simulated_device():
            Predictor(run, 2, "fp32", lambda device=device: device)(unit, spectrograms)
        tables.append(read_unit(unit))
    expected, actual = tables
    texts = ["id", "label", "path", "reason", "warning"]
    assert actual.select(texts).equals(expected.select(texts))
    np.testing.assert_allclose(*(predicted_clips(table).probabilities for table in tables), atol=1e-6)


def test_evaluation_on_device_equals_cpu(tmp_path: Path) -> None:
    dataset = open_dataset(write_shards(tmp_path / "shards"))
    run = save_classifier(tmp_path / "run", dataset.class_names)
    saved, rows = load_classifier(run), np.arange(0, len(dataset.labels), 2)
    expected = predict_any(saved, dataset, rows, 2)
    with simulated_device():
        actual = predict_any(saved, dataset, rows, 2, DEVICE)
    assert isinstance(actual, Predictions) and isinstance(expected, Predictions)
    for name in ("labels", "predictions"):
        np.testing.assert_array_equal(getattr(actual.scores, name), getattr(expected.scores, name))
    for name in ("confidence", "true_probability"):
        values = (getattr(scores, name) for scores in (actual.scores, expected.scores))
        np.testing.assert_allclose(*values, atol=1e-6)


def test_shifts_of_a_short_clip_are_those_of_its_repetition(model: Classifier) -> None:
    """It is repeated once, although it then ends in silence, which looks like padding."""
    mel = np.full((1, 16, 64), -80.0, np.float32)
    mel[..., 0] = np.random.default_rng(0).normal(-30, 10, 16)  # shorter than the shortest period, 8 frames
    filled = repeat_short_clips(torch.from_numpy(mel))
    assert torch.equal(filled[..., 0], filled[..., 8]) and (filled[..., -1] == -80).all()
    assert not torch.equal(repeat_short_clips(filled), filled)
    shifted = [model(filled.roll(shift, dims=2), is_repeated=True) for shift in (0, 21, 43)]
    expected = torch.stack([logits.softmax(dim=1) for logits in shifted]).mean(dim=0)
    actual = predict_probabilities(model, mel, 3)
    np.testing.assert_allclose(actual, expected.detach().numpy(), atol=1e-6)
