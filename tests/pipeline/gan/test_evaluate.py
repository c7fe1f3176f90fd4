"""Evaluation of a GAN: metrics measure what they claim, held-out clips are independent of training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.classifier import loop as classifier_loop
from pipeline.data.identify import identify
from pipeline.data.shard_manifest import open_shards
from pipeline.distributed.batch_job import run_in_process
from pipeline.extract import extract
from pipeline.gan import evaluate, train_reference_classifier
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.evaluate import (
    FIRST_SEED,
    default_clips_per_class,
    evaluate_gan,
    generate_and_resynthesize,
)
from pipeline.gan.evaluation_metrics import EvaluatedClips, SearchedClips, compute_metrics, describe_metrics
from pipeline.gan.loop import train_loop
from pipeline.gan.reference_classifier import load_other_classifier
from pipeline.gan.sampling import generate_mel, latents_from_seed
from pipeline.gan.train_reference_classifier import get_reference_classifier, reference_classifier_config
from pipeline.io.errors import UserError
from pipeline.training.model_file import load_generator
from pipeline.training.run import load_run_data
from pipeline.training.run_folder import RunFolder
from tests.helpers.html_page import Page
from tests.helpers.runs import SINGLE_WORKER
from tests.helpers.sounds import SMALL_FEATURES, extract_config, gan_config, write_shards, write_tones

CLASS_NAMES = ("a", "b", "c")
# Windows that overlap by half, which resynthesis needs.
FEATURES = SMALL_FEATURES.model_copy(
    update={"mel": SMALL_FEATURES.mel.model_copy(update={"hop_length": 128})}
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tones")
    config = extract_config(write_tones(folder / "data"), folder / "shards", features=FEATURES)
    extract(config, run_in_process)
    return folder / "shards"


def train(config: TrainGanConfig) -> TrainGanConfig:
    torch.set_num_threads(1)
    RunFolder(config.run).begin("train-gan", config.identity(), config.shards, [identify(config.shards)])
    train_loop(config, SINGLE_WORKER)
    return config


@pytest.fixture(scope="module")
def gan(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run of a GAN trained for a few steps, with its evaluation classifier."""
    config = gan_config(shards, tmp_path_factory.mktemp("gan"), epochs=1, epoch_steps=50, fold=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_reference_classifier, "EPOCHS", 15)
        get_reference_classifier(config, "evaluation")
    return train(config).run


def make_clips(
    rng: np.random.Generator,
    means: list[float],
    count: int = 60,
    std: float = 1.0,
    predictions: np.ndarray | None = None,
) -> EvaluatedClips:
    """Clips of three classes with normally distributed embeddings; predictions are correct by default."""
    labels = np.repeat(np.arange(3), count // 3)
    embeddings = np.array(means)[labels][:, None] + std * rng.standard_normal((count, 4))
    predictions = labels if predictions is None else predictions
    confidence = (predictions == labels).astype(np.float32)
    mels = 5 * rng.standard_normal((count, 2, 2))
    return EvaluatedClips(mels, labels, embeddings, predictions, confidence)


def metrics_of(
    generated: EvaluatedClips, untrained: EvaluatedClips, train: EvaluatedClips, held_out: EvaluatedClips
) -> dict[str, Any]:
    rows = np.arange(len(train.labels))
    searched = SearchedClips(rows, train.labels, train.embeddings, len(rows))
    return compute_metrics(generated, untrained, train, held_out, searched, CLASS_NAMES)


class TestMetrics:
    rng = np.random.default_rng(0)
    real = make_clips(rng, [0, 5, 10], 600), make_clips(rng, [0, 5, 10], 300)
    untrained = make_clips(rng, [40, 40, 40])

    def metrics(self, generated: EvaluatedClips) -> dict:
        return metrics_of(generated, self.untrained, *self.real)

    def test_clips_distributed_like_real_ones(self) -> None:
        metrics = self.metrics(make_clips(self.rng, [0, 5, 10]))
        assert metrics["class_accuracy"] == metrics["real_class_accuracy"] == 1.0
        assert metrics["frechet"]["generated"] < 0.05 * metrics["frechet"]["untrained"]
        assert 0.7 < metrics["density"] < 1.3 and metrics["coverage"] > 0.8 * metrics["real_coverage"]
        assert 0.7 < metrics["nearest"]["ratio"] < 1.3
        assert metrics["confusion"] == [[20, 0, 0], [0, 20, 0], [0, 0, 20]]

    def test_copies_of_training_clips_are_suspected(self) -> None:
        train, _ = self.real
        every_tenth = slice(None, None, 10)
        copies = EvaluatedClips(
            train.mels[every_tenth],
            train.labels[every_tenth],
            train.embeddings[every_tenth] + 1e-6,
            train.predictions[every_tenth],
            train.confidence[every_tenth],
        )
        nearest = self.metrics(copies)["nearest"]
        assert nearest["suspected_copies"] == 60 and nearest["ratio"] < 1e-3

    def test_single_clip_per_class_lowers_coverage(self) -> None:
        metrics = self.metrics(make_clips(self.rng, [0, 5, 10], std=0.01))
        assert metrics["coverage"] < 0.5 * metrics["real_coverage"] and metrics["density"] > 1.0

    @pytest.mark.parametrize("fewer", ["generated", "train"])
    def test_coverage_compares_equally_many_clips(self, fewer: str) -> None:
        """Four clips of each class cover less than forty, whichever side has them."""
        clips = {"generated": make_clips(self.rng, [0, 5, 10], 120), "train": self.real[0]}
        clips[fewer] = make_clips(self.rng, [0, 5, 10], 12)
        metrics = metrics_of(clips["generated"], self.untrained, clips["train"], self.real[1])
        assert metrics["coverage"] == pytest.approx(metrics["real_coverage"], abs=0.15)
        assert metrics["coverage"] < 0.5

    def test_class_metrics_follow_predictions(self) -> None:
        predictions = np.array([0] * 20 + [2] * 15 + [1] * 5 + [2] * 20)
        metrics = self.metrics(make_clips(self.rng, [0, 5, 10], predictions=predictions))
        assert [entry["class_accuracy"] for entry in metrics["per_class"]] == [1.0, 0.25, 1.0]
        assert [entry["most_confused_with"] for entry in metrics["per_class"]] == [None, "c", None]
        assert [entry["confidence"] for entry in metrics["per_class"]] == [1.0, 0.25, 1.0]
        assert metrics["class_accuracy"] == 0.75


def with_copies(clips: EvaluatedClips, classes: list[int]) -> EvaluatedClips:
    """Replace the clips of some classes by copies of one clip."""
    mels, embeddings = clips.mels.copy(), clips.embeddings.copy()
    for label in classes:
        mask = clips.labels == label
        mels[mask], embeddings[mask] = mels[mask][0], embeddings[mask][0]
    return replace(clips, mels=mels, embeddings=embeddings)


class TestClassesWithoutVariety:
    rng = np.random.default_rng(1)
    train, held_out = make_clips(rng, [0, 5, 10], 60), make_clips(rng, [0, 5, 10], 30)
    generated = make_clips(rng, [0, 5, 10], std=2.0)

    def metrics(self, train: EvaluatedClips, held_out: EvaluatedClips) -> dict:
        metrics = metrics_of(self.generated, self.generated, train, held_out)
        json.dumps(metrics, allow_nan=False)
        return metrics

    @pytest.mark.parametrize("side", ["training", "held-out"])
    def test_class_of_copies_is_left_out(self, side: str) -> None:
        train = with_copies(self.train, [1]) if side == "training" else self.train
        held_out = with_copies(self.held_out, [1]) if side == "held-out" else self.held_out
        metrics = self.metrics(train, held_out)
        assert metrics["left_out_classes"] == ["b"] and metrics["frechet"]["held_out_clips"] == 20
        others = np.array([0, 2])
        expected = self.metrics(self.train.of_classes(others), self.held_out.of_classes(others))
        for name in ("frechet", "density", "coverage"):
            assert metrics[name] == expected[name]
        assert metrics["nearest"]["ratio"] == expected["nearest"]["ratio"]
        assert "without classes that have no variety or no held-out clips: 'b'" in describe_metrics(metrics)

    def test_classes_without_held_out_clips_are_left_out(self) -> None:
        """With them, the Fréchet distance would be that of different sets of classes."""
        metrics = self.metrics(self.train, self.held_out.of_classes(np.array([0, 1])))
        assert metrics["left_out_classes"] == ["c"]
        assert metrics["frechet"]["real"] < 5.0

    def test_metrics_are_undefined_without_variety(self) -> None:
        copies = [0, 1, 2]
        metrics = self.metrics(with_copies(self.train, copies), with_copies(self.held_out, copies))
        values = [metrics[name] for name in ("density", "coverage", "real_density", "real_coverage")]
        values += [metrics["frechet"][name] for name in ("generated", "untrained", "real")]
        nearest = [
            metrics["nearest"][name] for name in ("generated", "held_out", "ratio", "suspected_copies")
        ]
        assert {*values, *nearest} == {None}
        assert metrics["class_accuracy"] == 1.0 and len(metrics["per_class"]) == 3
        assert "nearest-neighbor distance ratio n/a" in describe_metrics(metrics)
        assert "held-out clips, too few to distinguish similar generators" in describe_metrics(metrics)

    def test_ratio_is_undefined_if_held_out_clips_are_copies(self) -> None:
        metrics = self.metrics(self.train, self.train)
        assert metrics["nearest"]["ratio"] is None and metrics["nearest"]["suspected_copies"] is None
        assert metrics["nearest"]["generated"] > 0 and metrics["frechet"]["generated"] > 0


def test_evaluation_writes_metrics_and_report(
    gan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = evaluate_gan(gan, 6, tmp_path)
    assert json.loads((tmp_path / "evaluation.json").read_text()) == metrics
    confusion = pd.read_csv(tmp_path / "confusion.csv")
    assert confusion.groupby("label")["clips"].sum().to_dict() == dict.fromkeys(
        ("tone 0", "tone 1", "tone 2"), 6
    )
    assert metrics["clips"] == 18 and metrics["frechet"]["held_out_clips"] == 6
    # The quality of such a small generator depends on the floating-point arithmetic of the CPU (test_loop.py
    # tests that it learns); real tones are classified correctly and close to each other on any.
    assert metrics["class_accuracy"] == pytest.approx(
        np.mean([entry["class_accuracy"] for entry in metrics["per_class"]])
    )
    assert metrics["real_class_accuracy"] == 1.0
    frechet = metrics["frechet"]
    assert frechet["real"] < 0.1 * min(frechet["generated"], frechet["untrained"])
    html = (tmp_path / "report.html").read_text()
    assert "tone 2" in html and "data:audio" in html
    # Self-contained: no element refers to another file, and the policy of the page forbids network access.
    page = Page(html)
    assert any("default-src 'none'" in (attrs.get("content") or "") for attrs in page.find_all("meta"))
    references = [attrs[key] or "" for _, attrs in page.tags for key in ("src", "href") if key in attrs]
    assert all(reference.startswith(("data:", "#")) for reference in references)
    assert "18 generated clips" in capsys.readouterr().out


def test_copies_are_searched_among_all_training_clips(
    gan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MAX_REAL_CLIPS", "REAL_CLIPS_PER_CLASS"):  # the training clips of the other metrics
        monkeypatch.setattr(evaluate, name, 2)
    expected = evaluate_gan(gan, 3, tmp_path / "all")["nearest"]
    assert expected["searched_clips"] == expected["training_clips"] > 6
    monkeypatch.setattr(evaluate, "SEARCHED_AT_ONCE", 5)
    assert evaluate_gan(gan, 3, tmp_path / "parts")["nearest"] == pytest.approx(expected)
    monkeypatch.setattr(evaluate, "MAX_SEARCHED_CLIPS", 5)
    few = evaluate_gan(gan, 3, tmp_path / "few")["nearest"]
    assert few["searched_clips"] == 5 and few["generated"] > expected["generated"]


def test_augmented_training_clips_are_no_real_ones(gan: Path, tmp_path: Path) -> None:
    expected = evaluate_gan(gan, 3, tmp_path / "originals")
    shutil.copytree(gan, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    content = json.loads(path.read_text())
    content["config"]["augmentation_strength"] = 1.0
    path.write_text(json.dumps(content))
    metrics = evaluate_gan(tmp_path / "run", 3)
    assert metrics["nearest"]["training_clips"] == 2 * expected["nearest"]["training_clips"]
    for name in ("frechet", "real_density", "real_coverage"):
        assert metrics[name] == expected[name]


def test_evaluation_is_reproducible(gan: Path, tmp_path: Path) -> None:
    assert evaluate_gan(gan, 3, tmp_path / "a") == evaluate_gan(gan, 3, tmp_path / "b")


def test_frechet_distances_compare_equally_many_clips() -> None:
    rng = np.random.default_rng(2)
    train, held_out, generated = (make_clips(rng, [0, 5, 10], count) for count in (600, 60, 30))
    frechet = metrics_of(generated, generated, train, held_out)["frechet"]
    assert frechet["clips"] == 30 and frechet["held_out_clips"] == 60
    few = with_class_sizes(train, [10, 10, 10], step=20)
    assert frechet["real"] == metrics_of(few, few, few, held_out)["frechet"]["generated"]


def with_class_sizes(clips: EvaluatedClips, sizes: list[int], step: int = 1) -> EvaluatedClips:
    """Return a number of clips of each class, every `step`-th."""
    rows = [np.flatnonzero(clips.labels == label)[::step][:size] for label, size in enumerate(sizes)]
    return EvaluatedClips(*(values[np.concatenate(rows)] for values in vars(clips).values()))


def test_frechet_distance_does_not_depend_on_frequencies_of_classes() -> None:
    """A generator that makes sounds of a frequent class for a rare one is worse, not better."""
    rng = np.random.default_rng(3)
    generated, untrained = make_clips(rng, [0, 5, 10], 90), make_clips(rng, [40, 40, 40], 90)
    confused = make_clips(rng, [0, 0, 0], 90)
    train = with_class_sizes(make_clips(rng, [0, 5, 10], 1800), [600, 80, 40])
    held_out = with_class_sizes(make_clips(rng, [0, 5, 10], 600), [150, 20, 10])
    perfect = metrics_of(generated, untrained, train, held_out)
    frechet = perfect["frechet"]
    assert frechet["clips"] == 30 + 20 + 10
    assert frechet["generated"] < 3 and frechet["real"] < 3
    assert metrics_of(confused, untrained, train, held_out)["frechet"]["generated"] > 10
    assert perfect["coverage"] == pytest.approx(perfect["real_coverage"], abs=0.15)


def test_classifier_of_another_run_can_score(
    gan: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reference = tmp_path / "reference"
    shutil.copytree(gan / "reference_classifiers" / "evaluation", reference)
    expected = evaluate_gan(gan, 3, tmp_path / "own")
    assert evaluate_gan(gan, 3, tmp_path / "other", reference_run=reference) == expected
    assert "--reference-run" not in caplog.text
    record = pd.read_parquet(reference / "split.parquet")
    record.assign(split="train").to_parquet(reference / "split.parquet")
    evaluate_gan(gan, 3, tmp_path / "leak", reference_run=reference)
    assert "was trained on 6 of the 6 real clips" in caplog.text


def test_moved_dataset_is_given_by_flag(shards: Path, gan: Path, tmp_path: Path) -> None:
    run, moved = tmp_path / "run", tmp_path / "moved"
    shutil.copytree(gan, run)
    shutil.copytree(shards, moved)
    content = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(content | {"shards": str(tmp_path / "gone")}))
    with pytest.raises(UserError, match=r"shards in .*/gone are missing: give the dataset .* by --shards"):
        evaluate_gan(run, 3)
    assert evaluate_gan(run, 3, shards=moved) == evaluate_gan(gan, 3, tmp_path / "expected")
    (tmp_path / "new").mkdir()
    with pytest.raises(UserError, match=r"^--shards .*: not the clips that --run .* was trained with: give"):
        evaluate_gan(run, 3, shards=write_shards(tmp_path / "new", clips=12))


def test_run_that_cannot_be_written_to_is_evaluated(
    gan: Path, tmp_path: Path, read_only: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_reference_classifier, "EPOCHS", 15)
    run, out = tmp_path / "run", tmp_path / "out"
    shutil.copytree(gan, run, ignore=shutil.ignore_patterns("reference_classifiers"))
    published = read_only(run)
    expected = evaluate_gan(gan, 3, tmp_path / "expected")
    with pytest.raises(UserError, match="read-only 0"):
        evaluate_gan(published, 3)
    assert evaluate_gan(published, 3, out) == expected
    monkeypatch.setattr(classifier_loop, "train_epoch", None)  # the classifier is trained once
    assert evaluate_gan(published, 3, out) == expected
    assert not (run / "reference_classifiers").exists()


def test_several_models_cannot_score(gan: Path, tmp_path: Path) -> None:
    (tmp_path / "ensemble.json").write_text("{}")
    (tmp_path / "member_1").mkdir()
    with pytest.raises(UserError, match=r"^--reference-run .* is an ensemble: .* such as .*/member_1$"):
        evaluate_gan(gan, 3, reference_run=tmp_path)


def test_classifier_of_other_classes_is_refused(gan: Path) -> None:
    metadata = load_generator(gan).metadata
    with pytest.raises(UserError, match="has other classes than the generator; train it on the same"):
        load_other_classifier(
            gan / "reference_classifiers/evaluation",
            metadata.model_copy(update={"class_names": ("a", "b")}),
            pd.DataFrame(),
        )


@pytest.mark.parametrize(("classes", "clips"), [(1, 30), (500, 30), (5000, 3), (100_000, 2)])
def test_many_classes_have_fewer_generated_clips(classes: int, clips: int) -> None:
    assert default_clips_per_class(classes) == clips


def test_evaluated_clips_went_through_audio(gan: Path) -> None:
    model = load_generator(gan).model
    mels, labels = generate_and_resynthesize(model, FEATURES, 2, "generating")
    assert labels.tolist() == [0, 0, 1, 1, 2, 2] and mels.shape == (6, *FEATURES.shape)
    for number, (mel, label) in enumerate(zip(mels, labels, strict=True)):
        latents = latents_from_seed(model, [FIRST_SEED + number])
        generated = generate_mel(model, latents, int(label), FEATURES.mel)
        assert not np.array_equal(generated, mel)
        error = (mel - generated)[generated > generated.max() - 30]
        assert np.abs(error - np.median(error)).mean() < 2.5


def test_run_without_held_out_clips_is_refused(shards: Path, tmp_path: Path) -> None:
    config = train(gan_config(shards, tmp_path / "run", epochs=1, val_fraction=0.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_reference_classifier, "EPOCHS", 1)
        with pytest.raises(UserError, match="trained on all clips; no held-out clips to compare with"):
            evaluate_gan(config.run, 2)


def test_changed_shards_are_refused(shards: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    shutil.copytree(shards, folder)
    config = train(gan_config(folder, tmp_path / "run", epochs=1))
    shutil.rmtree(folder)
    (tmp_path / "new").mkdir()
    shutil.copytree(write_shards(tmp_path / "new", clips=12), folder)
    with pytest.raises(UserError, match=r"the shards in .* have changed since training"):
        evaluate_gan(config.run, 2)


def test_reference_classifiers_share_the_gans_split(shards: Path, gan: Path) -> None:
    config = gan_config(shards, gan, fold=1)
    for purpose in ("selection", "evaluation"):
        classifier_config = reference_classifier_config(config, purpose)  # type: ignore[arg-type]
        assert classifier_config.fold == 1
        assert classifier_config.val_fraction == config.val_fraction
        assert classifier_config.seed == config.seed


def test_evaluation_classifier_logs_epochs_and_resumes(
    gan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(gan, tmp_path / "run", ignore=shutil.ignore_patterns("reference_classifiers"))
    monkeypatch.setattr(train_reference_classifier, "EPOCHS", 4)
    config = load_run_data(tmp_path / "run", TrainGanConfig)[0]
    original_epoch, epochs = classifier_loop.train_epoch, []

    def interrupted_epoch(*args: object) -> dict[str, float]:
        epochs.append(1)
        if len(epochs) == 3:
            raise KeyboardInterrupt
        return original_epoch(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(classifier_loop, "train_epoch", interrupted_epoch)
    with caplog.at_level("INFO", logger="melray"):
        with pytest.raises(KeyboardInterrupt):
            get_reference_classifier(config, "evaluation")
        get_reference_classifier(config, "evaluation")
        get_reference_classifier(config, "evaluation")
    assert len(epochs) == 3 + 2
    text = caplog.text
    assert text.count("training the evaluation classifier for at most 4 epochs") == 2
    assert "from epoch 3;" in text and text.count("using the trained evaluation classifier") == 1
    for epoch in range(1, 5):
        assert text.count(f"evaluation classifier: epoch {epoch}: train loss") == 1


@pytest.mark.parametrize(("rows", "epochs"), [(400, 40), (5000, 40), (10_000, 20), (1_000_000, 10)], ids=str)
def test_reference_classifier_epochs_depend_on_rows(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, epochs: int
) -> None:
    manifest = open_shards(shards).model_copy(update={"rows": rows})
    monkeypatch.setattr(train_reference_classifier, "open_shards", lambda folder: manifest)
    config = reference_classifier_config(gan_config(shards, tmp_path), "evaluation")
    assert config.epochs == epochs
