"""Multi-label training without a cluster: targets, determinism, resume, two workers, splits and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import torch
import torch.nn.functional as F

from models.batch_augment import add_sounds, unite_targets
from models.classifier import ClassifierConfig
from models.settings import MixUpConfig, SpecAugmentConfig
from pipeline.classifier.inference import class_priors, predict_probabilities
from pipeline.classifier.loop import train_loop
from pipeline.classifier.prepare import prepare
from pipeline.classifier.step import make_batch, plan_step, train_step
from pipeline.classifier.train import begin_run, describe_result, train_in_process
from pipeline.data.dataset import open_dataset
from pipeline.data.loader import epoch_order
from pipeline.data.rows import Rows
from pipeline.data.split import row_folds, split_rows
from pipeline.data.split_config import SplitConfig
from pipeline.data.split_warnings import split_warnings
from pipeline.gan.train import train_gan
from pipeline.io.errors import UserError
from pipeline.training.model_file import load_classifier
from pipeline.training.run_folder import RunFolder
from tests.helpers.classifier_training import assert_nearly_equal, interrupted_at, train_on_workers
from tests.helpers.label_sets import write_label_set_shards
from tests.helpers.runs import SINGLE_WORKER, load_weights, tensors_equal
from tests.helpers.sounds import gan_config, train_config, write_shards

pytestmark = pytest.mark.usefixtures("single_thread")
# A frequency mask would hide a tone, which is in two of 16 bands.
LIGHT = SpecAugmentConfig(roll=0.1, freq_masks=0, freq_shift=0.0)
PLAIN = ClassifierConfig(
    channels=(8,), convs_per_block=1, embedding_dim=8, dropout=0.0, norm="group", texture=True
)


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_label_set_shards(tmp_path_factory.mktemp("windows") / "shards", folds=True)


def run_loop(shards: Path, run: Path, **settings: Any) -> dict[str, Any]:
    run.mkdir(parents=True, exist_ok=True)
    return train_loop(train_config(shards, run, **{"spec_augment": LIGHT} | settings), SINGLE_WORKER)


def test_training_recognizes_simultaneous_tones(windows: Path, tmp_path: Path) -> None:
    result = run_loop(windows, tmp_path, epochs=25, learning_rate=1e-2, fold=1)
    dataset, saved = open_dataset(windows), load_classifier(tmp_path)
    rows = split_rows(dataset, train_config(windows, tmp_path, fold=1)).held_out
    targets, probabilities = dataset.targets[rows], predict_probabilities(saved.model, dataset.mels[rows])
    chance = targets.mean(axis=0).mean()
    assert sklearn.metrics.average_precision_score(targets, probabilities) > 0.9 > 2 * chance
    assert np.abs(probabilities.sum(axis=1) - 1).max() > 0.5
    metadata = saved.metadata
    assert metadata.multi_label and metadata.thresholds is not None
    predicted = probabilities >= metadata.thresholds
    assert sklearn.metrics.f1_score(targets, predicted, average="micro") > 0.8
    train = prepare(train_config(windows, tmp_path, fold=1), SINGLE_WORKER).split.train
    np.testing.assert_allclose(class_priors(metadata), dataset.targets[train].mean(axis=0), rtol=1e-6)
    history = RunFolder(tmp_path).read_history()
    best = max(history, key=lambda epoch: (epoch["val_map"], -epoch["val_loss"]))
    assert result["val_map"] == best["val_map"]
    text = describe_result({"total_seconds": 1.0, **result})
    assert "validation macro average precision 0.9" in text or "precision 1.000" in text


def test_validation_scores_are_those_of_scikit_learn(windows: Path, tmp_path: Path) -> None:
    result = run_loop(windows, tmp_path, epochs=2, keep="last", val_fraction=0.4)
    saved = load_classifier(tmp_path)
    state = prepare(train_config(windows, tmp_path, val_fraction=0.4), SINGLE_WORKER)
    rows = state.split.val
    targets, mels = state.dataset.targets[rows], state.dataset.mels[rows]
    probabilities = predict_probabilities(saved.model, mels)
    expected = sklearn.metrics.average_precision_score(targets, probabilities)
    assert result["val_map"] == pytest.approx(expected, rel=1e-6)
    predicted = probabilities >= saved.metadata.thresholds
    f1 = sklearn.metrics.f1_score(targets, predicted, average="macro")
    assert result["val_macro_f1"] == pytest.approx(f1)
    assert saved.model.temperature == result["temperature"]
    saved.model.temperature = 1.0
    uncalibrated = predict_probabilities(saved.model, mels)
    losses = [sklearn.metrics.log_loss(targets[:, c], uncalibrated[:, c]) for c in range(targets.shape[1])]
    assert result["val_loss"] == pytest.approx(np.mean(losses), rel=1e-5)


SETTINGS = {"focal_gamma": 2.0, "sampling": "balanced", "epochs": 3}


def test_resumed_multi_label_run_equals_uninterrupted(windows: Path, tmp_path: Path) -> None:
    run_loop(windows, tmp_path / "uninterrupted", **SETTINGS)
    with interrupted_at(9):
        run_loop(windows, tmp_path / "interrupted", **SETTINGS)
    run_loop(windows, tmp_path / "interrupted", **SETTINGS)
    assert tensors_equal(load_weights(tmp_path / "uninterrupted"), load_weights(tmp_path / "interrupted"))
    thresholds = {
        load_classifier(tmp_path / name).metadata.thresholds for name in ("uninterrupted", "interrupted")
    }
    assert len(thresholds) == 1


@pytest.mark.slow
def test_two_workers_equal_one_for_label_sets(windows: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = SETTINGS | {"model": PLAIN, "batch_size": 15, "spec_augment": LIGHT}
    settings |= {"sampling": "uniform", "class_weights": True}
    run_loop(windows, tmp_path / "one", **settings)
    two = train_config(windows, tmp_path / "two", **settings)
    train_on_workers(two, tmp_path / "rendezvous")
    metrics = ("train_loss", "val_loss", "val_map", "val_macro_f1")
    assert_nearly_equal(tmp_path / "one", tmp_path / "two", metrics)


def test_multi_label_step_equals_plain_pytorch(windows: Path, tmp_path: Path) -> None:
    config = train_config(
        windows,
        tmp_path,
        mixup=MixUpConfig(rate=0.0),
        augmentation_strength=0.0,
        model=PLAIN,
        label_smoothing=0.0,
    )
    state = prepare(config, SINGLE_WORKER)
    batch = state.split.train[:8]
    mels = torch.from_numpy(state.dataset.mels[batch].astype(np.float32))
    targets = torch.from_numpy(state.dataset.targets[batch].astype(np.float32))
    model = prepare(config, SINGLE_WORKER).model
    logits_BHC = model(mels, separate_heads=True)
    loss = F.binary_cross_entropy_with_logits(logits_BHC, targets[:, None].expand_as(logits_BHC))
    assert float(train_step(state, plan_step(state, batch, 0))) == pytest.approx(loss.item(), rel=1e-5)
    # At first, the network predicts the frequency of each class.
    prior = state.dataset.targets[state.split.train].mean(axis=0)
    assert len(model.output_layers) == 2
    for layer in model.output_layers:
        np.testing.assert_allclose(torch.sigmoid(layer.bias).detach(), prior, rtol=1e-4)


def test_mixed_samples_have_sounds_and_classes_of_both(windows: Path, tmp_path: Path) -> None:
    no_masks = SpecAugmentConfig(time_masks=0, freq_masks=0)
    config = train_config(
        windows, tmp_path, mixup=MixUpConfig(rate=1.0), augmentation_strength=0.0, spec_augment=no_masks
    )
    state = prepare(config, SINGLE_WORKER)
    rows = state.split.train[:16]
    inputs = plan_step(state, rows, 0)
    assert isinstance(inputs, dict)
    batch = make_batch(state, inputs)
    partner = inputs["partner_B"].numpy()
    targets = state.dataset.targets[rows]
    np.testing.assert_array_equal(batch.target_BC.numpy(), targets | targets[partner])
    own = state.dataset.mels[rows].astype(np.float32)
    assert (batch.mel_BMT.numpy() > own - 1e-3).all()


def test_added_sounds_have_the_sum_of_powers() -> None:
    mels = torch.tensor([[[-20.0]], [[-20.0]], [[-40.0]]])
    partners = torch.tensor([[[-20.0]], [[-200.0]], [[-20.0]]])
    lam = torch.tensor([0.5, 0.6, 1.0])
    added = add_sounds(mels, partners, lam).flatten().tolist()
    assert added == pytest.approx([-20 + 10 * np.log10(2), -20, -40], abs=1e-4)
    quieter = add_sounds(torch.tensor([[[-200.0]]]), torch.tensor([[[-20.0]]]), torch.tensor([0.999]))
    assert quieter.item() == pytest.approx(-30, abs=0.1)
    targets, others = torch.tensor([[1.0, 0.0]] * 3), torch.tensor([[0.0, 1.0]] * 3)
    assert unite_targets(targets, others, lam).tolist() == [[1, 1], [1, 1], [1, 0]]


def test_balanced_sampling_is_by_rarest_class(windows: Path, tmp_path: Path) -> None:
    state = prepare(train_config(windows, tmp_path), SINGLE_WORKER)
    orders = [
        epoch_order(state.labels, state.split.train, "balanced", np.random.default_rng(seed))
        for seed in range(50)
    ]
    sampled = np.bincount(state.labels[np.concatenate(orders)], minlength=4)
    np.testing.assert_allclose(sampled / sampled.sum(), 1 / 4, atol=0.03)  # three classes, and background


def test_balanced_sampling_begins_and_smooths_with_sampled_frequencies(tmp_path: Path) -> None:
    shards = write_label_set_shards(tmp_path / "shards", recordings=20, rates=(0.7, 0.5, 0.03))
    config = train_config(shards, tmp_path, sampling="balanced", label_smoothing=0.5)
    state = prepare(config, SINGLE_WORKER)
    orders = [
        epoch_order(state.labels, state.split.train, "balanced", np.random.default_rng(seed))
        for seed in range(300)
    ]
    sampled = state.dataset.targets[np.concatenate(orders)].mean(axis=0)
    rare = state.dataset.targets[state.split.train, 2].mean()
    assert sampled[2] > 4 * rare > 0
    for layer in state.model.output_layers:
        np.testing.assert_allclose(torch.sigmoid(layer.bias).detach(), sampled, atol=0.02)
    # A prediction of the frequencies is then the best constant: smoothing has not moved the mean target.
    assert state.multi_label is not None
    targets = torch.from_numpy(state.dataset.targets[np.concatenate(orders)].astype(np.float32))
    logits = torch.tensor(sampled, dtype=torch.float32).logit().requires_grad_()
    state.multi_label.loss(logits.expand_as(targets), targets, config).mean().backward()
    assert logits.grad is not None
    np.testing.assert_allclose(logits.grad, 0, atol=0.005)


@pytest.mark.parametrize("seed", range(5))
def test_windows_of_a_recording_are_never_separated(windows: Path, seed: int) -> None:
    dataset = open_dataset(windows)
    groups = dataset.table["group"].to_numpy()
    split = split_rows(dataset, SplitConfig(seed=seed, fold=2, num_folds=5))
    parts = [set(groups[rows]) for rows in (split.train, split.val, split.held_out)]
    assert all(parts) and sum(map(len, parts)) == 20 == len(set().union(*parts))
    total = dataset.targets.sum(axis=0)
    for rows in (split.val, split.held_out):
        assert (dataset.targets[rows].sum(axis=0) > 0).all()
    assert (dataset.targets[split.train].sum(axis=0) > 0.4 * total).all()
    folds = row_folds(dataset, SplitConfig(seed=seed, num_folds=4))
    rates = np.array([dataset.targets[folds == fold].mean(axis=0) for fold in range(1, 5)])
    assert np.abs(rates - dataset.targets.mean(axis=0)).max() < 0.15


def test_one_class_with_background_is_trained(tmp_path: Path) -> None:
    shards = write_label_set_shards(tmp_path / "one", recordings=12, rates=(0.4,))
    result = run_loop(shards, tmp_path / "run", epochs=15, learning_rate=1e-2)
    assert result["val_map"] > 0.9
    dataset = open_dataset(shards)
    split = split_rows(dataset, train_config(shards, tmp_path))
    assert split_warnings(dataset, split) == []


def test_unvalidated_class_of_label_sets_is_named(windows: Path) -> None:
    dataset = open_dataset(windows)
    table = dataset.table[["tone 2" not in label for label in dataset.table["label"]]]
    split = split_rows(Rows(dataset.class_names, table.reset_index(drop=True), True), SplitConfig())
    (warning, untrained) = split_warnings(Rows(dataset.class_names, table, True), split)
    assert warning.startswith("not validated: 'tone 2': no recording with the class is validated; add")
    assert untrained.startswith("no training clip of 'tone 2'")


def test_clips_of_the_same_classes_are_refused(tmp_path: Path) -> None:
    shards = write_label_set_shards(tmp_path / "all", recordings=6, rates=(1.0, 1.0))
    with pytest.raises(UserError, match="all clips of the training data have the same classes"):
        begin_run(train_config(shards, tmp_path / "run"))


def test_more_folds_than_recordings_of_label_sets_are_refused(tmp_path: Path) -> None:
    shards = write_label_set_shards(tmp_path / "few", recordings=3)
    with pytest.raises(UserError, match="5 folds requested, but there are only 3 recordings"):
        begin_run(train_config(shards, tmp_path / "run", num_folds=5, fold=1))


def test_label_sets_need_a_multi_label_run(windows: Path, tmp_path: Path) -> None:
    pattern = r"--shards .*: \d+ of 120 rows have no class and \d+ have several.*: drop --no-multi-label$"
    with pytest.raises(UserError, match=pattern):
        begin_run(train_config(windows, tmp_path / "run", multi_label=False))
    assert not (tmp_path / "run").exists()


def test_settings_of_other_kind_of_run_are_refused(windows: Path, shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--monitor val_accuracy: not a metric of a multi-label run"):
        begin_run(train_config(windows, tmp_path, monitor="val_accuracy"))
    with pytest.raises(UserError, match="--monitor val_map: not a metric of a run with one class"):
        begin_run(train_config(shards, tmp_path, monitor="val_map"))
    with pytest.raises(UserError, match="--focal-gamma 2 needs --multi-label"):
        begin_run(train_config(shards, tmp_path, focal_gamma=2.0))


def test_single_labels_can_be_trained_as_label_sets(shards: Path, tmp_path: Path) -> None:
    summary = train_in_process(train_config(shards, tmp_path, multi_label=True, epochs=2))
    assert "val_map" in summary and load_classifier(tmp_path).metadata.multi_label


def test_extra_shards_of_one_label_join_label_sets(windows: Path, tmp_path: Path) -> None:
    extra = write_shards(tmp_path / "tones", copies=0)
    config = train_config(windows, tmp_path / "run", extra_shards=(extra,), epochs=1)
    assert begin_run(config) is None
    state = prepare(config, SINGLE_WORKER)
    rows = state.split.train[state.split.train >= 120]
    assert len(rows) == 30 and state.multi_label is not None
    assert (state.multi_label.classes[rows].sum(axis=1) == 1).all()
    run_loop(windows, tmp_path / "run", extra_shards=(extra,), epochs=1)
    with pytest.raises(UserError, match=r"--extra-shards .* have several.*: add --multi-label$"):
        begin_run(train_config(extra, tmp_path / "other", extra_shards=(windows,)))


def test_run_without_validation_has_no_thresholds(windows: Path, tmp_path: Path) -> None:
    run_loop(windows, tmp_path, val_fraction=0.0, epochs=1)
    metadata = load_classifier(tmp_path).metadata
    assert metadata.multi_label and metadata.thresholds is None


def test_gan_refuses_label_sets(windows: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--shards .*: a multi-label dataset.*a GAN generates clips of one"):
        train_gan(gan_config(windows, tmp_path / "gan"))
    assert not (tmp_path / "gan").exists()
