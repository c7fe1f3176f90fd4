"""The whole path on generated sounds, and what its commands promise."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import soundfile

from cluster.demo import DemoConfig, run_demo
from pipeline.classifier.crossval import CrossvalConfig, crossval
from pipeline.classifier.evaluate import EvaluateConfig, evaluate
from pipeline.classifier.loop import train_loop
from pipeline.classifier.predict import PredictConfig, predict
from pipeline.extract import extract
from pipeline.io.errors import UserError
from pipeline.training.world import World
from tests.helpers.processes import kill_worker, later, workers
from tests.helpers.sounds import RATE, extract_config, tone, train_config, write_shards, write_tones

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that tells three tones apart."""
    import torch

    folder = tmp_path_factory.mktemp("trained")
    config = train_config(write_shards(folder), folder / "run", epochs=20, learning_rate=1e-2, fold=1)
    from pipeline.classifier.train import begin_run

    begin_run(config)
    train_loop(config, World(0, 1, torch.device("cpu")))
    return config.run


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """Unlabelled: nested folders, names with spaces, and a file that is none."""
    data = write_tones(tmp_path / "data", clips=30) / "train"
    (data / "tone 0" / "not audio é.wav").write_text("words")
    return data


def test_demo_goes_the_whole_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    scores = run_demo(DemoConfig(out=out, train_per_class=12, test_per_class=3, epochs=2, gan_steps=6))
    assert set(scores) == {"network", "linear"}
    told = capsys.readouterr().out
    for name in (
        "prediction/submission.csv",
        "classifier/model.safetensors",
        "classifier/report.html",
        "drawn",
        "generator/report.html",
    ):
        assert (out / name).exists()
        assert str(out / name) in told
    assert len(list((out / "drawn").rglob("*.wav"))) == 20


def test_prediction_has_every_file_once_and_scores_what_evaluation_says(
    trained: Path, audio: Path, tmp_path: Path
) -> None:
    table = predict(PredictConfig(run=trained, audio=audio, out=tmp_path / "out"))
    files = sorted(str(path.relative_to(audio)) for path in audio.rglob("*.wav"))
    answer = pd.read_csv(tmp_path / "out" / "submission.csv")
    assert answer.columns.tolist() == ["id", "label"] and answer["id"].tolist() == files
    rejected = pd.read_csv(tmp_path / "out" / "rejected.csv")
    assert rejected["clip_id"].tolist() == ["tone 0/not audio é.wav"]
    probabilities = pq.read_table(tmp_path / "out" / "predictions.parquet").to_pandas().filter(like="p:")
    assert probabilities.shape == (91, 3) and np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    good = table[table["reason"] == ""]
    accuracy = (good["label"] == good["id"].str.split("/").str[0]).mean()
    (audio / "tone 0" / "not audio é.wav").unlink()
    extract(extract_config(audio.parent, tmp_path / "labelled", copies=0))
    metrics = evaluate(EvaluateConfig(run=trained, shards=tmp_path / "labelled", out=tmp_path / "evaluation"))
    assert metrics["clips"] == len(good) == 90
    assert metrics["accuracy"] == pytest.approx(accuracy)


def test_prediction_survives_a_killed_actor_and_does_not_depend_on_workers(
    trained: Path, audio: Path, tmp_path: Path
) -> None:
    one = predict(PredictConfig(run=trained, audio=audio, out=tmp_path / "one", workers=1))
    killed = later(lambda: workers(os.getpid(), "Predictor"), lambda: kill_worker("Predictor"))
    two = predict(PredictConfig(run=trained, audio=audio, out=tmp_path / "two", workers=2))
    assert killed.result()
    pd.testing.assert_frame_equal(one, two)


def test_sample_submission_gives_columns_ids_and_order(trained: Path, audio: Path, tmp_path: Path) -> None:
    sample = tmp_path / "sample.csv"
    sample.write_text("file,class\ntone 2/1-2000-0.wav,?\ntone 0/1-0000-0.wav,?\n")
    predict(PredictConfig(run=trained, audio=audio, out=tmp_path / "out", sample_submission=sample))
    answer = pd.read_csv(tmp_path / "out" / "submission.csv")
    assert answer.columns.tolist() == ["file", "class"]
    assert answer["file"].tolist() == ["tone 2/1-2000-0.wav", "tone 0/1-0000-0.wav"]


def test_windows_hear_a_long_clip_whole(trained: Path, tmp_path: Path) -> None:
    """Four seconds: the middle is of one class, all the rest of another."""
    folder = tmp_path / "audio"
    folder.mkdir()
    long = np.concatenate([tone(1200, 1.5), tone(300, 1.0), tone(1200, 1.5)])
    soundfile.write(folder / "long.wav", long, RATE)
    soundfile.write(folder / "short.wav", tone(600), RATE)
    said = [
        predict(PredictConfig(run=trained, audio=folder, out=tmp_path / str(windows), windows=windows))[
            "label"
        ].tolist()
        for windows in (1, 100)
    ]
    assert said == [["tone 0", "tone 1"], ["tone 2", "tone 1"]]


def test_more_actors_than_cpus_is_said_at_once(trained: Path, audio: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs 5 workers with 1 CPU each; the cluster has room for 2"):
        predict(PredictConfig(run=trained, audio=audio, out=tmp_path / "out", workers=5))


def test_shards_of_other_features_are_refused(trained: Path, tmp_path: Path) -> None:
    data = write_tones(tmp_path / "data", clips=4)
    features = extract_config(data, tmp_path).features
    other = features.model_copy(update={"mel": features.mel.model_copy(update={"n_mels": 20})})
    extract(extract_config(data, tmp_path / "other", features=other))
    with pytest.raises(UserError, match=r"mel.n_mels = 20 \(the model has 16\)"):
        evaluate(EvaluateConfig(run=trained, shards=tmp_path / "other", out=tmp_path))


def test_crossval_scores_each_clip_once_and_goes_on(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "tones")
    settings = train_config(shards, tmp_path / "folds", epochs=6, learning_rate=1e-2, val_fraction=0.0)
    config = CrossvalConfig(**settings.model_dump())
    result = crossval(config)
    assert [fold["fold"] for fold in result["folds"]] == [1, 2, 3, 4, 5]
    pooled = json.loads((config.run / "evaluation.json").read_text())
    assert pooled["clips"] == 30
    means = np.mean([fold["accuracy"] for fold in result["folds"]])
    assert result["mean"]["accuracy"] == pytest.approx(means) == pytest.approx(pooled["accuracy"])
    models = {path: path.stat().st_mtime_ns for path in config.run.glob("fold_*/model.safetensors")}
    assert len(models) == 5
    again = crossval(config)
    assert again["mean"] == result["mean"]
    assert {path: path.stat().st_mtime_ns for path in models} == models
    dealt = crossval(config.model_copy(update={"num_folds": 3, "run": tmp_path / "dealt", "epochs": 1}))
    assert len(dealt["folds"]) == 3
