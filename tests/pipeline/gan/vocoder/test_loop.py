"""Vocoder training without a cluster: it learns, resumes, and does not depend on the number of workers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from models.config import ConfigError
from pipeline.distributed.batch_job import run_in_process
from pipeline.extract import ExtractConfig, extract
from pipeline.gan.vocoder import loop, state
from pipeline.gan.vocoder.config import TrainVocoderConfig
from pipeline.gan.vocoder.loop import learning_rate, train_loop
from pipeline.gan.vocoder.train import describe_result, train_vocoder
from pipeline.io.errors import UserError
from pipeline.training.model_file import load_classifier, load_vocoder
from pipeline.training.progress import epoch_line
from pipeline.training.run_folder import RunFolder
from pipeline.training.world import World
from tests.helpers.ranks import run_ranks
from tests.helpers.runs import SINGLE_WORKER, load_weights, tensors_equal
from tests.helpers.sounds import RATE, extract_config, tone, write_shards, write_tones
from tests.pipeline.gan.vocoder.conftest import FEATURES, vocoder_config

pytestmark = pytest.mark.usefixtures("single_thread")


def run_loop(config: TrainVocoderConfig, world: World = SINGLE_WORKER) -> dict[str, Any]:
    config.run.mkdir(parents=True, exist_ok=True)
    return train_loop(config, world)


def train_as_rank(world: World, config: TrainVocoderConfig) -> None:
    """Train as one of several workers, in a process of its own."""
    train_loop(config, world)


def test_trained_vocoder_is_nearer_to_recordings_than_griffin_lim(
    overlapping: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = vocoder_config(overlapping, tmp_path / "run", epochs=4, epoch_steps=100, fold=5)
    summary = train_vocoder(config)
    history = RunFolder(config.run).read_history()
    assert history[-1]["train_loss"] < 0.6 * history[0]["train_loss"]
    assert history[-1]["val_loss"] < history[0]["val_loss"]
    for error in ("spectrum_db", "mel_db"):
        assert summary["vocoder"][error] < summary["griffin_lim"][error]
    assert describe_result(summary) in capsys.readouterr().out
    names = {path.name for path in (config.run / "sounds").iterdir()}
    assert {f"clip_8_{kind}.wav" for kind in ("recording", "vocoder", "griffin_lim")} <= names
    assert train_vocoder(config) == summary  # complete, so it is read
    assert "validation loss" in epoch_line(history[0]) and "steps/s" in epoch_line(history[0])


def test_resumed_run_equals_uninterrupted(overlapping: Path, tmp_path: Path) -> None:
    uninterrupted = vocoder_config(overlapping, tmp_path / "uninterrupted")
    run_loop(uninterrupted)
    for number, name in enumerate(("train_step", "save_current_model")):
        config = vocoder_config(overlapping, tmp_path / name)
        module: Any = (loop, state)[number]
        original, calls = getattr(module, name), []

        def interrupt(
            *args: Any, original: Any = original, calls: list[int] = calls, number: int = number
        ) -> Any:
            calls.append(1)
            if len(calls) == (10, 2)[number]:
                raise KeyboardInterrupt
            return original(*args)

        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(module, name, interrupt)
            run_loop(config)
        assert run_loop(config)["epochs"] == 3
        assert tensors_equal(load_weights(uninterrupted.run), load_weights(config.run))
        assert load_vocoder(config.run).metadata.training["epoch"] == 3


def test_two_workers_equal_one(overlapping: Path, tmp_path: Path) -> None:
    settings = {"batch_size": 5, "epochs": 1}
    one, two = (vocoder_config(overlapping, tmp_path / name, **settings) for name in ("one", "two"))
    run_loop(one)
    two.run.mkdir()
    run_ranks(train_as_rank, 2, tmp_path / "rendezvous", two)
    losses = [
        [epoch["train_loss"] for epoch in RunFolder(config.run).read_history()] for config in (one, two)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_learning_rate_rises_and_falls_to_zero() -> None:
    config = TrainVocoderConfig(shards="s", run="r", epochs=10, epoch_steps=100, warmup_steps=50)
    rates = [learning_rate(config, step) for step in range(1000)]
    assert int(np.argmax(rates)) in (49, 50) and max(rates) == pytest.approx(1e-3)
    assert rates[0] == pytest.approx(1e-3 / 50) and rates[-1] < 1e-8
    short = config.model_copy(update={"epochs": 1, "epoch_steps": 10})
    assert learning_rate(short, 1) == pytest.approx(1e-3)  # a fifth of the steps


def test_loss_that_is_not_finite_ends_the_run(
    overlapping: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "train_step", lambda *_: float("nan"))
    with pytest.raises(
        UserError, match=r"the loss is nan in epoch 1: try a lower --learning-rate \(now 0.001\)"
    ):
        run_loop(vocoder_config(overlapping, tmp_path))


def test_segments_of_two_frames_are_trained_on(overlapping: Path, tmp_path: Path) -> None:
    config = vocoder_config(overlapping, tmp_path, epochs=1, segment_seconds=0.008)
    assert math.isfinite(run_loop(config)["train_loss"])


def short_clips(folder: Path, hop_length: int) -> Path:
    """Write shards of clips that are shorter than a quarter of a window."""
    data = write_tones(folder / "data", clips=4, seconds=0.04)
    mel = FEATURES.mel.model_copy(update={"n_fft": 2048, "hop_length": hop_length})
    features = FEATURES.model_copy(update={"mel": mel, "seconds": 0.04})
    extract(extract_config(data, folder / "shards", copies=0, features=features), run_in_process)
    return folder / "shards"


def test_clips_shorter_than_windows_are_trained_on_and_scored(tmp_path: Path) -> None:
    summary = train_vocoder(vocoder_config(short_clips(tmp_path, 150), tmp_path / "run", epochs=1))
    assert all(math.isfinite(summary[name]["spectrum_db"]) for name in ("vocoder", "griffin_lim"))


def test_clips_of_a_single_frame_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"clips of 0\.04 s have a single frame.*smaller --features\.mel\.hop-length"
    ):
        run_loop(vocoder_config(short_clips(tmp_path, 500), tmp_path / "run"))


def test_classes_of_a_multi_label_dataset_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    names = [f"{number}.wav" for number in range(6)]
    for number, name in enumerate(names):
        soundfile.write(tmp_path / "data" / name, tone(400, seed=number), RATE)
    table = "path,label\n" + "".join(f"{name},dog;rain\n" for name in names)
    (tmp_path / "data/clips.csv").write_text(table, encoding="utf-8")
    config = ExtractConfig(
        data=tmp_path / "data/clips.csv",
        out=tmp_path / "shards",
        copies=0,
        features=FEATURES,
        multi_label=True,
    )
    extract(config, run_in_process)
    vocoder = vocoder_config(tmp_path / "shards", tmp_path / "run", epochs=1, epoch_steps=1)
    assert math.isfinite(run_loop(vocoder)["train_loss"])


def test_frames_that_hardly_overlap_are_refused(tmp_path: Path) -> None:
    shards = write_shards(tmp_path)  # hops as long as the windows
    with pytest.raises(
        UserError, match=r"frames that overlap by half, not a hop of 256 .*--features.mel.hop-length 64"
    ):
        run_loop(vocoder_config(shards, tmp_path / "run"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "fp16"}, "--precision fp16: too coarse"),
        ({"compile": True}, "--compile: the network of a vocoder is not compiled; drop it"),
        ({"data_placement": "partitioned"}, "--data-placement partitioned: train-vocoder reads audio files"),
        ({"batch_size": 2, "workers": 3}, "--batch-size 2: less than one segment for each of --workers 3"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainVocoderConfig(shards="s", run="r", **settings)


def test_vocoder_is_no_classifier(overlapping: Path, tmp_path: Path) -> None:
    config = vocoder_config(overlapping, tmp_path, epochs=1, epoch_steps=1)
    run_loop(config)
    with pytest.raises(UserError, match=r"holds a vocoder: give a run of `melray train-classifier`"):
        load_classifier(tmp_path)
    assert torch.get_num_threads() == 1
