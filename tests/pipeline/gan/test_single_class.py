"""A GAN of a single class: all stages, with embeddings by networks of random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from models.gan_metrics import frechet_distance
from pipeline.data.dataset import open_dataset
from pipeline.data.identify import identify
from pipeline.data.split import split_rows
from pipeline.data.split_warnings import split_warnings
from pipeline.gan.config import GenerateConfig, TrainGanConfig
from pipeline.gan.data_checks import check_dataset
from pipeline.gan.evaluate import evaluate_gan
from pipeline.gan.generate import generate
from pipeline.gan.loop import train_loop
from pipeline.gan.reference_classifier import embed_and_classify
from pipeline.gan.sound_generator import SoundGenerator
from pipeline.gan.train_reference_classifier import get_reference_classifier
from pipeline.io.errors import UserError
from pipeline.training.model_file import create_classifier
from pipeline.training.run_folder import RunFolder
from tests.helpers.runs import SINGLE_WORKER
from tests.helpers.sounds import SMALL_FEATURES, gan_config, train_config, write_shards


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainGanConfig:
    """Settings of a GAN of tones of one pitch, trained for a few steps."""
    folder = tmp_path_factory.mktemp("single")
    shards = write_shards(folder, classes=1, clips=30)
    config = gan_config(
        shards, folder / "run", epoch_steps=20, sample_every=1, val_fraction=0.4, select_best=True
    )
    torch.set_num_threads(1)
    RunFolder(config.run).begin("train-gan", config.identity(), shards, [identify(shards)])
    get_reference_classifier(config, "selection")
    train_loop(config, SINGLE_WORKER)
    return config


def test_epoch_is_selected_by_frechet_distance(config: TrainGanConfig) -> None:
    history = RunFolder(config.run).read_history()
    assert all(entry["frechet"] > 0 and "class_accuracy" not in entry for entry in history)
    assert history[0]["best"]


def test_evaluation_has_no_class_accuracy(config: TrainGanConfig, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = evaluate_gan(config.run, 10)
    assert metrics["class_accuracy"] is None and metrics["real_class_accuracy"] is None
    frechet = metrics["frechet"]
    assert frechet["real"] < 0.5 * min(frechet["generated"], frechet["untrained"])
    text = capsys.readouterr().out
    assert text.startswith("10 generated clips: Fréchet distance ")
    page = (config.run / "report.html").read_text()
    assert "a network with random weights" in page and "Class accuracy" not in page


def test_weights_are_random_and_statistics_those_of_the_clips(config: TrainGanConfig) -> None:
    classifier = get_reference_classifier(config, "selection")
    trained = dict(classifier.model.named_parameters())
    torch.manual_seed(config.seed)
    random = create_classifier(classifier.metadata.model, SMALL_FEATURES.mel.n_mels, 1, multi_label=False)
    assert all(torch.equal(value, trained[name]) for name, value in random.named_parameters())
    means = [value for name, value in classifier.model.named_buffers() if name.endswith("running_mean")]
    assert means and all(mean.abs().max() > 0.01 for mean in means)


def test_random_embeddings_tell_sounds_apart(config: TrainGanConfig) -> None:
    """Clips with noise of rising level are farther and farther from real ones."""
    dataset = open_dataset(config.shards)
    rows = split_rows(dataset, config).val
    classifier = get_reference_classifier(config, "selection")
    labels, rng = np.zeros(len(rows), int), np.random.default_rng(0)
    real = embed_and_classify(classifier, dataset.mels[rows], labels).embeddings
    distances = []
    for decibels in (0.0, 1.0, 3.0, 9.0):
        noisy = dataset.mels[rows] + decibels * rng.standard_normal((len(rows), *dataset.features.shape))
        embeddings = embed_and_classify(classifier, noisy.astype(np.float32), labels).embeddings
        distances.append(frechet_distance(embeddings, real))
    assert distances == sorted(distances) and distances[0] < 0.01 * distances[1] < distances[3]


def test_clips_are_generated_without_prediction(config: TrainGanConfig, tmp_path: Path) -> None:
    table = generate(GenerateConfig(run=config.run, out=tmp_path / "clips", count=2))
    assert table["kept"].all() and table["confidence"].isna().all()
    assert len(pd.read_csv(tmp_path / "clips" / "generated.csv")) == 2
    clip = SoundGenerator(config.run, "cpu").generate("tone 0", 1)
    assert clip.predicted_label == "" and np.isnan(clip.confidence)
    with pytest.raises(UserError, match=r"^--min-confidence 0\.5: the generator has a single class"):
        generate(GenerateConfig(run=config.run, out=tmp_path / "other", min_confidence=0.5))


def test_class_accuracy_selects_nothing(config: TrainGanConfig) -> None:
    with pytest.raises(UserError, match=r"^--monitor class_accuracy: .* has a single class"):
        check_dataset(config.shards, "class_accuracy", "--monitor")


def test_classifier_of_a_single_class_is_refused(config: TrainGanConfig, tmp_path: Path) -> None:
    settings = train_config(config.shards, tmp_path / "run")
    with pytest.raises(UserError, match="fewer than two classes"):
        split_rows(open_dataset(config.shards), settings)


def test_split_is_not_called_unable_to_tell_classes_apart(config: TrainGanConfig) -> None:
    dataset = open_dataset(config.shards)
    assert not split_warnings(dataset, split_rows(dataset, config))
