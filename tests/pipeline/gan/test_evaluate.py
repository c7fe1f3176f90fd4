"""Truths of a GAN's evaluation: the figures move the way their names say, and the clips that score are nobody's choice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.data.dataset import dataset_digest
from pipeline.data.shards import open_shards
from pipeline.extract import extract, run_in_process
from pipeline.gan import train_reference_classifier as judge
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.evaluate import (
    FIRST_SEED,
    EvaluatedClips,
    compute_metrics,
    evaluate_gan,
    generate_and_resynthesize,
)
from pipeline.gan.loop import train_loop
from pipeline.gan.sampling import generate_mel, latents_from_seed
from pipeline.gan.train_reference_classifier import get_reference_classifier, reference_classifier_config
from pipeline.io.errors import UserError
from pipeline.training.model_file import load_generator
from pipeline.training.run_folder import RunFolder
from tests.helpers.runs import ALONE
from tests.helpers.sounds import SMALL, extract_config, gan_config, write_shards, write_tones

NAMES = ("a", "b", "c")


# Windows that overlap by half: from fewer a sound can't be made again.
HEARD = SMALL.model_copy(update={"mel": SMALL.mel.model_copy(update={"hop_length": 128})})


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tones")
    extract(extract_config(write_tones(folder / "data"), folder / "shards", features=HEARD), run_in_process)
    return folder / "shards"


def trained(config: TrainGanConfig) -> TrainGanConfig:
    torch.set_num_threads(1)
    RunFolder(config.run).begin(
        "train-gan", config.identity(), config.shards, dataset_digest(open_shards(config.shards))
    )
    train_loop(config, ALONE)
    return config


@pytest.fixture(scope="module")
def gan(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GAN of some hundred steps, and the judge that scores it."""
    config = gan_config(
        shards, tmp_path_factory.mktemp("gan"), epochs=6, epoch_steps=50, sample_every=6, fold=1
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge, "EPOCHS", 15)
        get_reference_classifier(config, "evaluation")
    return trained(config).run


def clips(
    rng: np.random.Generator,
    means: list[float],
    count: int = 60,
    spread: float = 1.0,
    said: np.ndarray | None = None,
) -> EvaluatedClips:
    """Clips whose embeddings lie about the mean of their class."""
    labels = np.repeat(np.arange(3), count // 3)
    embeddings = np.array(means)[labels][:, None] + spread * rng.standard_normal((count, 4))
    chances = np.eye(3)[labels if said is None else said]
    return EvaluatedClips(np.zeros((count, 2, 2)), labels, embeddings, chances)


class TestFigures:
    rng = np.random.default_rng(0)
    real, fresh = clips(rng, [0, 5, 10], 600), clips(rng, [0, 5, 10], 300)
    blank = clips(rng, [40, 40, 40])

    def test_drawn_clips_that_are_like_real_ones(self) -> None:
        found = compute_metrics(clips(self.rng, [0, 5, 10]), self.blank, self.real, self.fresh, NAMES)
        assert found["class_accuracy"] == found["class_accuracy_real"] == 1.0
        assert found["frechet"]["generated"] < 0.05 * found["frechet"]["untrained"]
        assert 0.7 < found["density"] < 1.3 and found["coverage"] > 0.8 * found["real_coverage"]
        assert 0.7 < found["nearest"]["ratio"] < 1.3
        assert found["confusion"] == [[20, 0, 0], [0, 20, 0], [0, 0, 20]]

    def test_copies_are_told(self) -> None:
        part = slice(None, None, 10)
        copied = EvaluatedClips(
            self.real.mels[part],
            self.real.labels[part],
            self.real.embeddings[part] + 1e-6,
            self.real.probabilities[part],
        )
        found = compute_metrics(copied, self.blank, self.real, self.fresh, NAMES)
        assert found["nearest"]["copies"] == 60 and found["nearest"]["ratio"] < 1e-3

    def test_one_clip_a_class_is_faithful_and_not_diverse(self) -> None:
        found = compute_metrics(
            clips(self.rng, [0, 5, 10], spread=0.01), self.blank, self.real, self.fresh, NAMES
        )
        assert found["coverage"] < 0.5 * found["real_coverage"] and found["density"] > 1.0

    def test_what_a_clip_is_taken_for(self) -> None:
        said = np.array([0] * 20 + [2] * 15 + [1] * 5 + [2] * 20)
        found = compute_metrics(
            clips(self.rng, [0, 5, 10], said=said), self.blank, self.real, self.fresh, NAMES
        )
        assert [entry["class_accuracy"] for entry in found["per_class"]] == [1.0, 0.25, 1.0]
        assert [entry["most_confused_with"] for entry in found["per_class"]] == [None, "c", None]
        assert found["class_accuracy"] == 0.75


def test_an_evaluation_leaves_figures_and_a_page(
    gan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluate_gan(gan, 6, tmp_path)
    assert json.loads((tmp_path / "evaluation.json").read_text()) == found
    assert found["clips"] == 18 and found["frechet"]["held_out_clips"] == 6
    # How good so small a generator is hangs on the machine's arithmetic (test_train_gan.py shows that it learns); real tones are told
    # apart and near each other on any.
    assert found["class_accuracy"] == pytest.approx(
        np.mean([entry["class_accuracy"] for entry in found["per_class"]])
    )
    assert found["class_accuracy_real"] == 1.0
    assert found["frechet"]["real"] < 0.1 * min(found["frechet"]["generated"], found["frechet"]["untrained"])
    page = (tmp_path / "report.html").read_text()
    assert (
        "tone 2" in page and "data:audio" in page and "http://" not in page.replace("http://www.w3.org", "")
    )
    assert "18 drawn clips" in capsys.readouterr().out


def test_the_same_run_scores_the_same(gan: Path, tmp_path: Path) -> None:
    assert evaluate_gan(gan, 3, tmp_path / "a") == evaluate_gan(gan, 3, tmp_path / "b")


def test_the_scored_clips_went_to_sound_and_back(gan: Path) -> None:
    model = load_generator(gan).model
    heard, labels = generate_and_resynthesize(model, HEARD, 2, "drawing")
    assert labels.tolist() == [0, 0, 1, 1, 2, 2] and heard.shape == (6, *HEARD.shape)
    for number, (mel, label) in enumerate(zip(heard, labels, strict=True)):
        drawn = generate_mel(model, latents_from_seed(model, [FIRST_SEED + number]), int(label), HEARD.mel)
        assert not np.array_equal(drawn, mel)
        loud = drawn > drawn.max() - 30
        apart = (mel - drawn)[loud]
        assert np.abs(apart - np.median(apart)).mean() < 2.5


def test_a_run_without_clips_to_compare_with_is_refused(shards: Path, tmp_path: Path) -> None:
    config = trained(gan_config(shards, tmp_path / "run", epochs=1, val_fraction=0.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge, "EPOCHS", 1)
        with pytest.raises(UserError, match="it learnt from all clips, none is left to compare with"):
            evaluate_gan(config.run, 2)


def test_shards_that_changed_are_told(shards: Path, tmp_path: Path) -> None:
    mine = tmp_path / "shards"
    shutil.copytree(shards, mine)
    config = trained(gan_config(mine, tmp_path / "run", epochs=1))
    shutil.rmtree(mine)
    (tmp_path / "new").mkdir()
    shutil.copytree(write_shards(tmp_path / "new", clips=12), mine)
    with pytest.raises(UserError, match="are no longer those of the training"):
        evaluate_gan(config.run, 2)


def test_a_judge_never_saw_the_clips_that_score(shards: Path, gan: Path) -> None:
    config = gan_config(shards, gan, fold=1)
    for purpose in ("selection", "evaluation"):
        judged = reference_classifier_config(config, purpose)  # type: ignore[arg-type]
        assert judged.fold == 1 and judged.val_fraction == config.val_fraction and judged.seed == config.seed
