"""Generation: seeds, files, interpolation, minimum confidence, and generated shards as training data."""

from __future__ import annotations

import hashlib
import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from PIL import Image

from models.config import ConfigError
from pipeline.audio.features import spectrogram
from pipeline.audio.loudness import MAX_PEAK
from pipeline.audio.vocoder import Vocoder
from pipeline.classifier.command_configs import EvaluateConfig
from pipeline.classifier.evaluation_rows import select_rows
from pipeline.classifier.prepare import prepare
from pipeline.classifier.train import begin_run, train_in_process
from pipeline.data.dataset import open_dataset
from pipeline.data.shard_manifest import open_shards, write_manifest
from pipeline.data.split import split_rows
from pipeline.distributed.batch_job import StageBuilder, UnitResult, run_in_process
from pipeline.distributed.work_unit import WorkUnit
from pipeline.extract import extract
from pipeline.gan import generate as generation
from pipeline.gan.clip_generator import ClipWriter
from pipeline.gan.generate import GenerateConfig, generate
from pipeline.gan.loop import train_loop
from pipeline.gan.sampling import generate_mel, latents_from_seed, mels_to_samples, roundtrip_mel, slerp
from pipeline.gan.sound_generator import SoundGenerator
from pipeline.gan.train_reference_classifier import reference_classifier_config
from pipeline.io.errors import UserError
from pipeline.training.model_file import load_classifier, load_generator, save_model
from tests.helpers.runs import SINGLE_WORKER
from tests.helpers.sounds import (
    SMALL_FEATURES,
    extract_config,
    gan_config,
    tone,
    train_config,
    write_tones,
)


def generate_clips(gan: Path, out: Path, **overrides: object) -> pd.DataFrame:
    return generate(GenerateConfig(**{"run": gan, "out": out, "count": 3} | overrides))


def peak(path: Path) -> float:
    return float(np.abs(soundfile.read(path)[0]).max())


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_all_classes_are_generated_by_default(gan: Path, tmp_path: Path) -> None:
    table = generate_clips(gan, tmp_path)
    assert table["label"].tolist() == [f"tone {number}" for number in range(3) for _ in range(3)]
    names = [f"tone {number}/seed_0000{seed}" for number in range(3) for seed in (1, 2, 3)]
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.wav")) == [
        f"{name}.wav" for name in names
    ]
    assert pd.read_csv(tmp_path / "generated.csv")["file"].tolist() == [f"{name}.wav" for name in names]
    for name in names:
        samples, rate = soundfile.read(tmp_path / f"{name}.wav")
        assert rate == 8000 and len(samples) == SMALL_FEATURES.num_samples
        assert 0.005 < np.abs(samples).max() <= 0.98
        assert Image.open(tmp_path / f"{name}.png").format == "PNG"
    assert not (tmp_path / ".parts").exists()


def test_single_class_is_generated_by_name(gan: Path, tmp_path: Path) -> None:
    table = generate_clips(gan, tmp_path, label=("tone 1",), count=2)
    assert table["label"].tolist() == ["tone 1"] * 2
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["tone 1"]


def test_unknown_class_raises_with_available_classes(gan: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="--label 'cat': unknown class; available: 'tone 0', 'tone 1', 'tone 2'"
    ):
        generate_clips(gan, tmp_path, label=("cat",))


def test_same_seed_gives_same_files(gan: Path, tmp_path: Path) -> None:
    generate_clips(gan, tmp_path / "a", count=2)
    generate_clips(gan, tmp_path / "b", count=2)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    generate_clips(gan, tmp_path / "alone", label=("tone 2",), count=1, seed=2)
    name = "tone 2/seed_00002.wav"
    assert digests(tmp_path / "alone")[name] == digests(tmp_path / "a")[name]
    wav_digests = [digest for name, digest in digests(tmp_path / "a").items() if name.endswith(".wav")]
    assert len(set(wav_digests)) == len(wav_digests)


def test_generator_that_is_replaced_by_its_training_is_refused(gan: Path, tmp_path: Path) -> None:
    run = shutil.copytree(gan, tmp_path / "run")

    def replaced(units: Sequence[WorkUnit], stages: Sequence[StageBuilder]) -> Iterator[UnitResult]:
        saved = load_generator(run)
        save_model(run, saved.model, saved.metadata.model_copy(update={"training": {"epoch": 99}}))
        yield from run_in_process(units, stages)

    config = GenerateConfig(run=run, out=tmp_path / "out", count=1, iterations=1)
    message = r"run: its training has replaced the model .*run the command again with --overwrite when"
    with pytest.raises(UserError, match=message):
        generate(config, replaced)
    assert len(generate(config.model_copy(update={"overwrite": True}))) == 3


def test_interrupted_job_resumes_with_same_files(gan: Path, tmp_path: Path) -> None:
    config = GenerateConfig(run=gan, out=tmp_path / "a", count=6, iterations=1)

    def interrupted(units: Sequence[WorkUnit], stages: Sequence[StageBuilder]) -> Iterator[UnitResult]:
        yield from run_in_process(units[:1], stages)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(config, interrupted)
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*.wav")}
    assert len(first) == 16
    # Of a worker that was killed while it wrote.
    (next(iter(first)).parent / ".seed_00005.wav.0123abcd.tmp").touch()
    generate(config)
    assert not list((tmp_path / "a").rglob("*.tmp"))
    assert all(path.stat().st_mtime_ns == time for path, time in first.items())
    generate_clips(gan, tmp_path / "b", count=6, iterations=1)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_audio_of_interrupted_job_is_replaced(gan: Path, tmp_path: Path) -> None:
    out = tmp_path / "a"

    def interrupted(units: Sequence[WorkUnit], stages: Sequence[StageBuilder]) -> Iterator[UnitResult]:
        yield from run_in_process(units[:1], stages)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(GenerateConfig(run=gan, out=out, count=2), interrupted)
    (out / "own.wav").touch()
    generate_clips(gan, out, count=1, seed=3, overwrite=True)
    assert {path.name for path in out.rglob("*.wav")} == {"seed_00003.wav", "own.wav"}


def test_interpolation_starts_and_ends_at_both_seeds(gan: Path, tmp_path: Path) -> None:
    table = generate_clips(gan, tmp_path, label=("tone 0",), count=5, seed=3, interpolate_to=9)
    fractions = table["interpolation"].tolist()
    assert fractions == [0.0, 0.25, 0.5, 0.75, 1.0]
    model = load_generator(gan).model
    first, second = latents_from_seed(model, [3]), latents_from_seed(model, [9])
    torch.testing.assert_close(slerp(first, second, 0.0).z_BZ, first.z_BZ, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(slerp(first, second, 1.0).z_BZ, second.z_BZ, rtol=1e-5, atol=1e-6)
    # The midpoint has the norm of a normal vector, which the mean of two has not.
    mean_norm = float((first.z_BZ.norm() + second.z_BZ.norm()) / 2)
    assert float(slerp(first, second, 0.5).z_BZ.norm()) == pytest.approx(mean_norm, rel=1e-4)
    mels = [
        generate_mel(model, slerp(first, second, fraction), 0, SMALL_FEATURES.mel) for fraction in fractions
    ]
    differences = [np.abs(b - a).mean() for a, b in itertools.pairwise(mels)]
    assert all(0 < difference < np.abs(mels[-1] - mels[0]).mean() + 1e-6 for difference in differences)


def test_interpolated_clips_are_not_resampled(gan: Path, tmp_path: Path) -> None:
    """Those of other seeds would not lie between their neighbors."""
    settings = {"label": ("tone 0",), "count": 4, "seed": 3, "interpolate_to": 9, "min_confidence": 0.999999}
    with pytest.raises(UserError, match=r"^0 of 4 clips reached --min-confidence .* in 1 attempt each"):
        generate_clips(gan, tmp_path, **settings)
    assert pd.read_csv(tmp_path / "generated.csv")["attempts"].tolist() == [1] * 4


def test_generated_mel_has_range_of_real_ones(gan: Path) -> None:
    model = load_generator(gan).model
    for seed in range(5):
        mel = generate_mel(model, latents_from_seed(model, [seed]), 0, SMALL_FEATURES.mel)
        assert mel.min() >= mel.max() - 80.0 - 1e-3 and mel.min() >= -100.0


def test_generated_audio_has_spectrogram_of_generated_mel(gan: Path, tmp_path: Path) -> None:
    generate_clips(gan, tmp_path, label=("tone 1",), count=1)
    model = load_generator(gan).model
    mel = generate_mel(model, latents_from_seed(model, [1]), 1, SMALL_FEATURES.mel)
    roundtrip = roundtrip_mel((tmp_path / "tone 1/seed_00001.wav").read_bytes(), SMALL_FEATURES)
    # Apart from the level, which is normalized.
    difference = (roundtrip - mel)[mel > mel.max() - 40]
    assert np.abs(difference - np.median(difference)).mean() < 2.0


def test_quiet_clips_keep_the_level_of_their_class_if_asked(
    gan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = spectrogram(1e-3 * tone(440), SMALL_FEATURES).astype(np.float32)
    for normalize in (False, True):
        samples = mels_to_samples(quiet[None], SMALL_FEATURES, Vocoder(SMALL_FEATURES.mel), [0], normalize)[0]
        difference = spectrogram(samples, SMALL_FEATURES).max() - quiet.max()
        assert difference > 20 if normalize else abs(difference) < 1
    monkeypatch.setattr("pipeline.gan.sampling.normalize_loudness", lambda samples, rate: 0.25 * samples)
    for normalize, factor in ((False, 1.0), (True, 0.25)):
        out = tmp_path / str(normalize)
        generate_clips(gan, out, label=("tone 1",), count=1, normalize=normalize)
        clip = SoundGenerator(gan, "cpu").generate("tone 1", 1, normalize=normalize)
        peaks = peak(out / "tone 1/seed_00001.wav"), float(np.abs(clip.samples).max())
        assert peaks == pytest.approx((factor * MAX_PEAK, factor * MAX_PEAK), abs=1e-3)


class TestReferenceClassifier:
    def test_table_contains_confidence(self, gan: Path, tmp_path: Path) -> None:
        table = generate_clips(gan, tmp_path)
        assert (
            table["confidence"].between(0, 1).all()
            and table["predicted_label"].isin([f"tone {i}" for i in range(3)]).all()
        )

    def test_unconfident_clips_are_resampled_or_dropped(self, gan: Path, tmp_path: Path) -> None:
        table = generate_clips(gan, tmp_path / "half", count=6, min_confidence=0.5)
        kept = table[table["kept"]]
        assert (kept["confidence"] >= 0.5).all()
        assert (table.loc[~table["kept"], "attempts"] == 10).all()
        assert len(list((tmp_path / "half").rglob("*.wav"))) == len(kept)

    @pytest.mark.parametrize("as_shards", [False, True], ids=["audio", "shards"])
    def test_job_without_confident_clip_is_an_error(self, gan: Path, tmp_path: Path, as_shards: bool) -> None:
        out = tmp_path / "strict"
        message = r"0 of 3 clips reached --min-confidence 0\.999999 in 10 attempts each: lower it"
        for _ in range(2):
            with pytest.raises(UserError, match=message):
                generate_clips(gan, out, count=1, min_confidence=0.999999, as_shards=as_shards)
        assert not pd.read_csv(out / "generated.csv")["kept"].any()
        assert sorted(path.name for path in out.iterdir()) == ["generated.csv", "generated.json"]

    def test_min_confidence_without_reference_classifier_raises(self, shards: Path, tmp_path: Path) -> None:
        config = gan_config(shards, tmp_path / "run", epochs=1)
        config.run.mkdir()
        train_loop(config, SINGLE_WORKER)
        with pytest.raises(UserError, match=r"--min-confidence 0\.9: .* has no reference classifier"):
            generate_clips(config.run, tmp_path / "out", min_confidence=0.9)
        assert generate_clips(config.run, tmp_path / "out", count=1)["confidence"].isna().all()

    def test_reference_classifiers_share_only_the_clips(
        self, shards: Path, gan: Path, tmp_path: Path
    ) -> None:
        config = gan_config(shards, tmp_path)
        selection, evaluation = (
            reference_classifier_config(config, purpose) for purpose in ("selection", "evaluation")
        )  # type: ignore[arg-type]
        assert selection.run != evaluation.run and selection.model != evaluation.model
        rows = open_dataset(shards)
        splits = [split_rows(rows, other) for other in (config, selection, evaluation)]
        assert all(np.array_equal(split.val, splits[0].val) for split in splits)
        assert set(splits[0].train) <= set(splits[1].train)
        # No epoch is selected on the validation clips.
        assert selection.keep == evaluation.keep == "last"
        assert load_classifier(gan / "reference_classifiers" / "selection").metadata.training["epoch"] == 8


class TestAsShards:
    @pytest.fixture(scope="class")
    def extra(self, gan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        out = tmp_path_factory.mktemp("extra")
        generate_clips(gan, out, count=20, as_shards=True)
        return out

    def test_generated_shards_are_a_dataset(self, gan: Path, extra: Path, shards: Path) -> None:
        manifest = open_shards(extra)
        assert (
            manifest.rows == manifest.clips == 60 and manifest.fingerprint == open_shards(shards).fingerprint
        )
        rows = open_dataset(extra)
        assert rows.table["label"].value_counts().to_dict() == {f"tone {i}": 20 for i in range(3)}
        assert (rows.table["augmentation"] == "generated").all() and rows.table["clip_id"].is_unique
        model = load_generator(gan).model
        first = rows.table.index[rows.table["clip_id"] == "tone 2/seed_00001"][0]
        expected = generate_mel(model, latents_from_seed(model, [1]), 2, SMALL_FEATURES.mel).astype(
            np.float16
        )
        assert np.array_equal(rows.mels[first], expected)

    def test_extra_rows_are_only_trained_on(self, extra: Path, shards: Path, tmp_path: Path) -> None:
        plain = prepare(train_config(shards, tmp_path / "plain", fold=1), SINGLE_WORKER)
        more = prepare(train_config(shards, tmp_path / "more", fold=1, extra_shards=(extra,)), SINGLE_WORKER)
        assert len(more.split.train) == len(plain.split.train) + 60
        for side in ("val", "held_out"):
            assert np.array_equal(getattr(more.split, side), getattr(plain.split, side))
        added = more.split.train[len(plain.split.train) :]
        generated = open_dataset(extra)
        assert np.array_equal(more.labels[added], generated.labels)
        mixed = np.array([added[3], plain.split.train[0], added[59]])
        fetched = more.loader(mixed).numpy()
        assert np.array_equal(fetched[0], generated.mels[3]) and np.array_equal(
            fetched[2], generated.mels[59]
        )
        assert np.array_equal(fetched[1], plain.dataset.mels[plain.split.train[0]])

    def test_run_with_extra_rows_evaluates_real_clips_only(
        self, extra: Path, shards: Path, tmp_path: Path
    ) -> None:
        config = train_config(shards, tmp_path / "run", extra_shards=(extra,))
        begin_run(config)
        train_in_process(config)
        rows, index, _ = select_rows(EvaluateConfig(run=config.run), load_classifier(config.run))
        assert (
            rows.digest == open_dataset(shards).digest
            and (rows.table["augmentation"].iloc[index] == "unchanged").all()
        )

    def test_changed_extra_rows_need_a_new_run(
        self, gan: Path, extra: Path, shards: Path, tmp_path: Path
    ) -> None:
        config = train_config(shards, tmp_path / "run", extra_shards=(tmp_path / "extra",))
        generate_clips(gan, tmp_path / "extra", as_shards=True)
        begin_run(config)
        generate_clips(gan, tmp_path / "extra", as_shards=True, seed=5, overwrite=True)
        with pytest.raises(UserError, match="contains a run with other clips than --extra-shards has now"):
            begin_run(config)

    def test_extra_rows_with_different_features_or_classes_raise(self, shards: Path, tmp_path: Path) -> None:
        data = write_tones(tmp_path / "data", classes=4)
        extract(extract_config(data, tmp_path / "four"), run_in_process)
        with pytest.raises(UserError, match=r"--extra-shards .*four: class 'tone 3' is not in --shards"):
            prepare(train_config(shards, tmp_path / "run", extra_shards=(tmp_path / "four",)), SINGLE_WORKER)
        longer = SMALL_FEATURES.model_copy(update={"seconds": 2.0})
        extract(extract_config(data, tmp_path / "longer", features=longer), run_in_process)
        with pytest.raises(
            UserError, match=r"--extra-shards .*longer has seconds = 2\.0 \(--shards has 1\.0\)"
        ):
            prepare(
                train_config(shards, tmp_path / "run", extra_shards=(tmp_path / "longer",)), SINGLE_WORKER
            )


def test_empty_generated_dataset_is_explained(gan: Path, shards: Path, tmp_path: Path) -> None:
    """Datasets without rows, as an earlier melray wrote them."""
    generate_clips(gan, tmp_path / "extra", count=1, as_shards=True)
    manifest = open_shards(tmp_path / "extra")
    empty = manifest.model_copy(update={"clips": 0, "rows": 0, "class_names": (), "shards": ()})
    write_manifest(tmp_path / "extra", empty)
    reason = r"extra: no generated clip reached --min-confidence; generate again with a lower one"
    with pytest.raises(UserError, match=f"^--shards .*{reason}"):
        open_dataset(tmp_path / "extra")
    with pytest.raises(UserError, match=f"^--extra-shards .*{reason}"):
        begin_run(train_config(shards, tmp_path / "run", extra_shards=(tmp_path / "extra",)))


class TestExistingOutput:
    @pytest.fixture
    def existing(self, gan: Path, shards: Path, tmp_path: Path) -> Callable[[str], Path]:
        """Return a function that makes an output folder with results of a kind."""

        def make(kind: str) -> Path:
            out = tmp_path / "out"
            if kind == "extracted shards":
                shutil.copytree(shards, out)
            elif kind == "interrupted extraction":
                shutil.copytree(shards, out, ignore=shutil.ignore_patterns("_manifest.json"))
            elif kind == "foreign audio":
                (out / "tone 0").mkdir(parents=True)
                (out / "tone 0" / "seed_00002.wav").write_bytes(b"a recording")
            elif kind == "interrupted generation":
                (tmp_path / "model").mkdir()
                generate_clips(gan, out, count=1, seed=7)
                (out / "generated.csv").unlink()
            else:
                generate_clips(gan, out, count=1, seed=7, as_shards=kind == "generated shards")
            return out

        return make

    @pytest.mark.parametrize("as_shards", [False, True], ids=["audio", "shards"])
    @pytest.mark.parametrize(
        ("kind", "message"),
        [
            ("extracted shards", "contains a dataset; choose another --out, or add --overwrite"),
            ("interrupted extraction", "contains shards of an interrupted command, or add --overwrite"),
            ("generated shards", "contains a generated dataset; choose another --out, or add --overwrite"),
            ("generated audio", "contains generated audio; choose another --out, or add --overwrite"),
            ("interrupted generation", "interrupted generation with other settings, or add --overwrite"),
        ],
    )
    def test_results_of_others_are_kept_unless_overwritten(
        self, gan: Path, existing: Callable[[str], Path], kind: str, message: str, as_shards: bool
    ) -> None:
        out = existing(kind)
        (out / "notes.txt").write_text("mine")
        (out / "part-00000-of-spark.parquet").write_text("mine")
        before = digests(out)
        with pytest.raises(UserError, match=message):
            generate_clips(gan, out, count=1, as_shards=as_shards)
        assert digests(out) == before
        generate_clips(gan, out, count=1, as_shards=as_shards, overwrite=True)
        assert (out / "notes.txt").read_text() == "mine"
        assert (out / "part-00000-of-spark.parquet").read_text() == "mine"
        audio = sorted(path.name for path in out.rglob("*.wav"))
        if as_shards:
            assert open_shards(out).rows == 3 and not (out / "rejected.csv").exists()
        elif kind != "interrupted generation":  # its files are listed nowhere
            assert audio == ["seed_00001.wav"] * 3 and not (out / "_manifest.json").exists()

    def test_audio_of_others_with_same_name_is_kept(self, gan: Path, existing: Callable[[str], Path]) -> None:
        out = existing("foreign audio")
        with pytest.raises(UserError, match=r"already contains tone 0/seed_00002\.wav, which is not of this"):
            generate_clips(gan, out, count=2)
        assert (out / "tone 0" / "seed_00002.wav").read_bytes() == b"a recording"
        generate_clips(gan, out, count=1)
        assert (out / "tone 0" / "seed_00002.wav").read_bytes() == b"a recording"

    @pytest.mark.parametrize("as_shards", [False, True])
    def test_job_that_was_replaced_when_it_was_interrupted_starts_over(
        self, gan: Path, tmp_path: Path, as_shards: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its units are not done any more: their files were deleted for the other job."""

        def interrupted(**settings: Any) -> None:
            calls: list[int] = []
            original = ClipWriter.__call__

            def write(*args: Any) -> Any:
                calls.append(1)
                if len(calls) == 3:
                    raise KeyboardInterrupt
                return original(*args)

            with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(ClipWriter, "__call__", write)
                generate_clips(gan, tmp_path, count=3, as_shards=as_shards, **settings)

        monkeypatch.setattr(generation, "CLIPS_PER_UNIT", 2)
        interrupted()
        interrupted(seed=7, overwrite=True)
        table = generate_clips(gan, tmp_path, count=3, as_shards=as_shards, overwrite=True)
        assert len(table) == 9
        if as_shards:
            assert len(open_dataset(tmp_path).table) == 9
        else:
            assert all((tmp_path / name).is_file() for name in table["file"])
            assert len(list(tmp_path.rglob("*.wav"))) == 9

    def test_same_job_runs_again_without_overwrite(self, gan: Path, tmp_path: Path) -> None:
        generate_clips(gan, tmp_path, as_shards=True)
        before = digests(tmp_path)
        generate_clips(gan, tmp_path, as_shards=True)
        assert digests(tmp_path) == before

    def test_table_with_foreign_paths_deletes_nothing(self, gan: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        generate_clips(gan, out, count=1, seed=7)
        (tmp_path / "a.wav").write_bytes(b"a recording")
        (out / "generated.csv").write_text(f"file\n../a.wav\n{tmp_path / 'a.wav'}\n\n")
        generate_clips(gan, out, count=1, overwrite=True)
        assert (tmp_path / "a.wav").read_bytes() == b"a recording"

    def test_training_run_is_never_replaced(self, gan: Path) -> None:
        with pytest.raises(UserError, match="contains a training run; choose another --out"):
            generate_clips(gan, gan, count=1, overwrite=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 0}, "count"),
        ({"count": -3}, "count"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"interpolate_to": -1}, "interpolate_to"),
        ({"min_confidence": 1.0}, "min_confidence"),
        ({"iterations": 0}, "iterations"),
    ],
    ids=str,
)
def test_impossible_settings_are_named(gan: Path, tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GenerateConfig.parse({"run": str(gan), "out": str(tmp_path)} | changes)


def test_too_many_clips_are_refused(gan: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--count 1000000000: 3,000,000,000 clips of 3 classes are more than"):
        generate_clips(gan, tmp_path, count=10**9)


@pytest.mark.parametrize("changes", [{"count": 1}, {"count": 2, "interpolate_to": 3}], ids=str)
def test_interpolation_of_one_clip_or_equal_seeds_is_valid(gan: Path, tmp_path: Path, changes: dict) -> None:
    settings = {"seed": 3, "interpolate_to": 9} | changes
    table = generate_clips(gan, tmp_path, label=("tone 0",), **settings)
    assert table["interpolation"].tolist() == [0.0, 1.0][: changes["count"]]
    assert len(list(tmp_path.rglob("*.wav"))) == changes["count"]


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_full_disk_raises_user_error(gan: Path, full_disk: Path) -> None:
    (full_disk / "other").write_bytes(bytes(270_000))
    with pytest.raises(UserError, match="disk full while writing to"):
        generate_clips(gan, full_disk)
