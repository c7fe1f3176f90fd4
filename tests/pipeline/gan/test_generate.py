"""Truths of generation: what is drawn, from which seed, into which files."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from PIL import Image

from pipeline.classifier.evaluate import EvaluateConfig, select_rows
from pipeline.classifier.state import prepare
from pipeline.classifier.train import begin_run, train_in_process
from pipeline.data.dataset import open_dataset
from pipeline.data.shards import open_shards
from pipeline.data.split import split_rows
from pipeline.distributed.batch_job import WorkUnit
from pipeline.extract import extract
from pipeline.extract import run_in_process as run_here_extract
from pipeline.gan import train_reference_classifier as judge
from pipeline.gan.generate import GenerateConfig, generate, run_in_process
from pipeline.gan.loop import train_loop
from pipeline.gan.sampling import generate_mel, latents_from_seed, roundtrip_mel, slerp
from pipeline.gan.train_reference_classifier import get_reference_classifier, reference_classifier_config
from pipeline.io.errors import UserError
from pipeline.training.model_file import load_classifier, load_generator
from tests.helpers.runs import ALONE
from tests.helpers.sounds import SMALL, extract_config, gan_config, train_config, write_shards, write_tones


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("tones"))


@pytest.fixture(scope="module")
def gan(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GAN of a hundred steps, and its judge."""
    torch.set_num_threads(1)
    config = gan_config(
        shards,
        tmp_path_factory.mktemp("gan"),
        epochs=1,
        epoch_steps=100,
        select_best=True,
        penalty_weight=1.0,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge, "EPOCHS", 8)
        get_reference_classifier(config, "selection")
    train_loop(config, ALONE)
    return config.run


def make(gan: Path, out: Path, **changes: object) -> pd.DataFrame:
    return generate(GenerateConfig(**{"run": gan, "out": out, "count": 3} | changes))


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_all_classes_are_drawn_when_none_is_named(gan: Path, tmp_path: Path) -> None:
    table = make(gan, tmp_path)
    assert table["label"].tolist() == [f"tone {number}" for number in range(3) for _ in range(3)]
    names = [f"tone {number}/seed_0000{seed}" for number in range(3) for seed in (1, 2, 3)]
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.wav")) == [
        f"{name}.wav" for name in names
    ]
    assert pd.read_csv(tmp_path / "generated.csv")["file"].tolist() == [f"{name}.wav" for name in names]
    for name in names:
        samples, rate = soundfile.read(tmp_path / f"{name}.wav")
        assert rate == 8000 and len(samples) == SMALL.num_samples
        assert 0.005 < np.abs(samples).max() <= 0.98
        assert Image.open(tmp_path / f"{name}.png").format == "PNG"
    assert not (tmp_path / ".parts").exists()


def test_one_class_by_name(gan: Path, tmp_path: Path) -> None:
    table = make(gan, tmp_path, label=("tone 1",), count=2)
    assert table["label"].tolist() == ["tone 1"] * 2
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["tone 1"]


def test_an_unknown_class_names_those_there_are(gan: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--label 'cat': the generator knows tone 0, tone 1, tone 2"):
        make(gan, tmp_path, label=("cat",))


def test_the_same_seed_gives_the_same_files_whatever_else_is_drawn(gan: Path, tmp_path: Path) -> None:
    make(gan, tmp_path / "a")
    make(gan, tmp_path / "b")
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    make(gan, tmp_path / "alone", label=("tone 2",), count=1, seed=2)
    name = "tone 2/seed_00002.wav"
    assert digests(tmp_path / "alone")[name] == digests(tmp_path / "a")[name]
    sounds = [digest for name, digest in digests(tmp_path / "a").items() if name.endswith(".wav")]
    assert len(set(sounds)) == len(sounds)


def test_a_broken_off_job_goes_on_and_ends_the_same(gan: Path, tmp_path: Path) -> None:
    config = GenerateConfig(run=gan, out=tmp_path / "a", count=12)

    def dies(units: list[WorkUnit], config: GenerateConfig) -> Iterator[int]:
        yield next(run_in_process(units[:1], config))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(config, dies)
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*.wav")}
    assert len(first) == 16
    generate(config)
    assert all(path.stat().st_mtime_ns == time for path, time in first.items())
    make(gan, tmp_path / "b", count=12)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_a_way_between_two_seeds_has_both_at_its_ends(gan: Path, tmp_path: Path) -> None:
    table = make(gan, tmp_path, label=("tone 0",), count=5, seed=3, interpolate_to=9)
    assert table["share"].tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    model = load_generator(gan).model
    ends = latents_from_seed(model, [3]), latents_from_seed(model, [9])
    for share, end in ((0.0, ends[0]), (1.0, ends[1])):
        torch.testing.assert_close(slerp(*ends, share).z_BZ, end.z_BZ, rtol=1e-5, atol=1e-6)
    # Half-way is as long as a normal vector is, which the mean of two is not.
    half = slerp(*ends, 0.5).z_BZ
    assert float(half.norm()) == pytest.approx(
        float((ends[0].z_BZ.norm() + ends[1].z_BZ.norm()) / 2), rel=1e-4
    )
    mels = [generate_mel(model, slerp(*ends, share), 0, SMALL.mel) for share in table["share"]]
    steps = [np.abs(b - a).mean() for a, b in itertools.pairwise(mels)]
    assert all(0 < step < np.abs(mels[-1] - mels[0]).mean() + 1e-6 for step in steps)


def test_a_drawn_mel_keeps_the_range_of_real_ones(gan: Path) -> None:
    model = load_generator(gan).model
    for seed in range(5):
        mel = generate_mel(model, latents_from_seed(model, [seed]), 0, SMALL.mel)
        assert mel.min() >= mel.max() - 80.0 - 1e-3 and mel.min() >= -100.0


def test_a_drawn_sound_is_heard_as_the_picture_that_it_was_made_from(gan: Path, tmp_path: Path) -> None:
    make(gan, tmp_path, label=("tone 1",), count=1)
    model = load_generator(gan).model
    mel = generate_mel(model, latents_from_seed(model, [1]), 1, SMALL.mel)
    again = roundtrip_mel((tmp_path / "tone 1/seed_00001.wav").read_bytes(), SMALL)
    loud = mel > mel.max() - 40
    # The level may have been raised to be heard; the picture is the same.
    apart = (again - mel)[loud]
    assert np.abs(apart - np.median(apart)).mean() < 2.0


class TestWithAJudge:
    def test_its_confidence_is_in_the_table(self, gan: Path, tmp_path: Path) -> None:
        table = make(gan, tmp_path)
        assert (
            table["confidence"].between(0, 1).all()
            and table["predicted_label"].isin([f"tone {i}" for i in range(3)]).all()
        )

    def test_clips_below_the_wanted_confidence_are_drawn_anew_or_left_out(
        self, gan: Path, tmp_path: Path
    ) -> None:
        table = make(gan, tmp_path / "some", count=6, min_confidence=0.5)
        kept = table[table["kept"]]
        assert (kept["confidence"] >= 0.5).all()
        assert (table.loc[~table["kept"], "attempts"] == 10).all()
        assert len(list((tmp_path / "some").rglob("*.wav"))) == len(kept)
        none = make(gan, tmp_path / "none", count=1, min_confidence=0.999999)
        assert not none["kept"].any() and not list((tmp_path / "none").rglob("*.wav"))

    def test_without_one_a_confidence_cannot_be_asked_for(self, shards: Path, tmp_path: Path) -> None:
        config = gan_config(shards, tmp_path / "run", epochs=1)
        config.run.mkdir()
        train_loop(config, ALONE)
        with pytest.raises(UserError, match=r"--min-confidence 0\.9: .* was trained without a judge"):
            make(config.run, tmp_path / "out", min_confidence=0.9)
        assert make(config.run, tmp_path / "out", count=1)["confidence"].isna().all()

    def test_judges_have_nothing_in_common_but_the_clips(
        self, shards: Path, gan: Path, tmp_path: Path
    ) -> None:
        config = gan_config(shards, tmp_path)
        choosing, scoring = (
            reference_classifier_config(config, purpose) for purpose in ("selection", "evaluation")
        )  # type: ignore[arg-type]
        assert choosing.run != scoring.run and choosing.model != scoring.model
        rows = open_dataset(shards)
        splits = [split_rows(rows, other) for other in (config, choosing, scoring)]
        assert all(np.array_equal(split.val, splits[0].val) for split in splits)
        assert set(splits[0].train) <= set(splits[1].train)
        # No epoch is chosen on the validation clips.
        assert choosing.keep == scoring.keep == "last"
        assert load_classifier(gan / "reference_classifiers" / "selection").card.training["epoch"] == 8


class TestAsShards:
    @pytest.fixture(scope="class")
    def extra(self, gan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        out = tmp_path_factory.mktemp("extra")
        make(gan, out, count=20, as_shards=True)
        return out

    def test_they_are_a_set_like_any_other(self, gan: Path, extra: Path, shards: Path) -> None:
        manifest = open_shards(extra)
        assert (
            manifest.rows == manifest.clips == 60 and manifest.fingerprint == open_shards(shards).fingerprint
        )
        rows = open_dataset(extra)
        assert rows.table["label"].value_counts().to_dict() == {f"tone {i}": 20 for i in range(3)}
        assert (rows.table["recipe"] == "generated").all() and rows.table["clip_id"].is_unique
        model = load_generator(gan).model
        first = rows.table.index[rows.table["clip_id"] == "tone 2/seed_00001"][0]
        expected = generate_mel(model, latents_from_seed(model, [1]), 2, SMALL.mel).astype(np.float16)
        assert np.array_equal(rows.mels[first], expected)

    def test_they_are_learnt_and_nothing_else(self, extra: Path, shards: Path, tmp_path: Path) -> None:
        plain = prepare(train_config(shards, tmp_path / "plain", fold=1), ALONE)
        more = prepare(train_config(shards, tmp_path / "more", fold=1, extra_shards=(extra,)), ALONE)
        assert len(more.split.train) == len(plain.split.train) + 60
        for side in ("val", "held_out"):
            assert np.array_equal(getattr(more.split, side), getattr(plain.split, side))
        added = more.split.train[len(plain.split.train) :]
        generated = open_dataset(extra)
        assert np.array_equal(more.labels[added], generated.labels)
        mixed = np.array([added[3], plain.split.train[0], added[59]])
        fetched = more.store(mixed).numpy()
        assert np.array_equal(fetched[0], generated.mels[3]) and np.array_equal(
            fetched[2], generated.mels[59]
        )
        assert np.array_equal(fetched[1], plain.rows.mels[plain.split.train[0]])

    def test_a_training_with_them_runs_and_is_evaluated_on_real_clips(
        self, extra: Path, shards: Path, tmp_path: Path
    ) -> None:
        config = train_config(shards, tmp_path / "run", extra_shards=(extra,))
        begin_run(config)
        train_in_process(config)
        rows, index, _ = select_rows(EvaluateConfig(run=config.run), load_classifier(config.run))
        assert (
            rows.digest == open_dataset(shards).digest
            and (rows.table["recipe"].iloc[index] == "unchanged").all()
        )

    def test_other_extra_rows_are_another_run(
        self, gan: Path, extra: Path, shards: Path, tmp_path: Path
    ) -> None:
        config = train_config(shards, tmp_path / "run", extra_shards=(tmp_path / "extra",))
        make(gan, tmp_path / "extra", as_shards=True)
        begin_run(config)
        make(gan, tmp_path / "extra", as_shards=True, seed=5)
        with pytest.raises(UserError, match="holds a run with extra_digests"):
            begin_run(config)

    def test_other_features_or_classes_are_refused(self, shards: Path, tmp_path: Path) -> None:
        data = write_tones(tmp_path / "data", classes=4)
        extract(extract_config(data, tmp_path / "four"), run_here_extract)
        with pytest.raises(UserError, match=r"--extra-shards .*four: class 'tone 3' is none of --shards"):
            prepare(train_config(shards, tmp_path / "run", extra_shards=(tmp_path / "four",)), ALONE)
        longer = SMALL.model_copy(update={"seconds": 2.0})
        extract(extract_config(data, tmp_path / "longer", features=longer), run_here_extract)
        with pytest.raises(
            UserError, match=r"--extra-shards .*longer have seconds = 2\.0 \(those of --shards 1\.0\)"
        ):
            prepare(train_config(shards, tmp_path / "run", extra_shards=(tmp_path / "longer",)), ALONE)


def test_a_full_disk_is_one_line(gan: Path, full_disk: Path) -> None:
    with pytest.raises(UserError, match="disk full while writing to"):
        make(gan, full_disk, count=40)
