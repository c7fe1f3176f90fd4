"""Demo, prediction and cross-validation on synthetic sounds, in a Ray session."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import soundfile

from cluster.demo import DemoConfig, run_demo
from pipeline.classifier.command_configs import EvaluateConfig
from pipeline.classifier.config import CrossvalConfig
from pipeline.classifier.crossval import crossval
from pipeline.classifier.evaluate import evaluate
from pipeline.classifier.loop import train_loop
from pipeline.classifier.predict import PredictConfig, predict
from pipeline.classifier.train import begin_run
from pipeline.distributed.batch_job import run_in_process
from pipeline.extract import extract
from pipeline.io.errors import UserError
from pipeline.training.model_file import load_classifier, save_model
from tests.helpers.processes import kill_worker, ray_workers, run_command, run_when
from tests.helpers.runs import SINGLE_WORKER
from tests.helpers.sounds import RATE, extract_config, tone, train_config, write_shards, write_tones

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a classifier of three tones."""
    folder = tmp_path_factory.mktemp("trained")
    config = train_config(write_shards(folder), folder / "run", epochs=20, learning_rate=1e-2, fold=1)
    begin_run(config)
    train_loop(config, SINGLE_WORKER)
    return config.run


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """Write unlabeled clips: nested folders, names with spaces, and a file that is not audio."""
    data = write_tones(tmp_path / "data", clips=30) / "train"
    (data / "tone 0" / "not audio é.wav").write_text("not audio")
    return data


@pytest.mark.slow
@pytest.mark.timeout(300)  # every stage, in turn
def test_demo_writes_and_prints_all_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    scores = run_demo(DemoConfig(out=out, train_per_class=12, test_per_class=3, epochs=2, gan_steps=6))
    assert set(scores) == {"network", "linear"}
    printed = capsys.readouterr().out
    for name in (
        "prediction/submission.csv",
        "classifier/model.safetensors",
        "classifier/report.html",
        "generated",
        "generator/report.html",
    ):
        assert (out / name).exists()
        assert str(out / name) in printed
    assert len(list((out / "generated").rglob("*.wav"))) == 20


def test_prediction_lists_all_files_with_accuracy_of_evaluation(
    trained: Path, audio: Path, tmp_path: Path
) -> None:
    table = predict(PredictConfig(run=trained, audio=audio, out=tmp_path / "out"))
    files = sorted(str(path.relative_to(audio)) for path in audio.rglob("*.wav"))
    submission = pd.read_csv(tmp_path / "out" / "submission.csv")
    assert submission.columns.tolist() == ["id", "label"] and submission["id"].tolist() == files
    rejected = pd.read_csv(tmp_path / "out" / "rejected.csv")
    assert rejected["clip_id"].tolist() == ["tone 0/not audio é.wav"]
    probabilities = pq.read_table(tmp_path / "out" / "predictions.parquet").to_pandas().filter(like="p:")
    assert probabilities.shape == (91, 3) and np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    readable = table[table["reason"] == ""]
    accuracy = (readable["label"] == readable["id"].str.split("/").str[0]).mean()
    (audio / "tone 0" / "not audio é.wav").unlink()
    extract(extract_config(audio.parent, tmp_path / "labeled", copies=0))
    # Some of these tones were trained on.
    config = EvaluateConfig(
        run=trained, shards=tmp_path / "labeled", out=tmp_path / "evaluation", split="all"
    )
    metrics = evaluate(config)
    assert metrics["clips"] == len(readable) == 90
    assert metrics["accuracy"] == pytest.approx(accuracy)


def test_prediction_in_process_equals_prediction_on_cluster(
    trained: Path, audio: Path, tmp_path: Path
) -> None:
    process = PredictConfig(run=trained, audio=audio, out=tmp_path / "process")
    cluster = PredictConfig(run=trained, audio=audio, out=tmp_path / "cluster", workers=1)
    pd.testing.assert_frame_equal(predict(process, run_in_process), predict(cluster))


def test_prediction_with_killed_worker_gives_same_results(trained: Path, audio: Path, tmp_path: Path) -> None:
    expected = predict(PredictConfig(run=trained, audio=audio, out=tmp_path / "expected", workers=1))
    killed = run_when(lambda: ray_workers(os.getpid(), "Predictor"), lambda: kill_worker("Predictor"))
    table = predict(PredictConfig(run=trained, audio=audio, out=tmp_path / "out", workers=2))
    assert killed.result()
    pd.testing.assert_frame_equal(table, expected)


def test_prediction_of_retrained_run_uses_new_weights(trained: Path, audio: Path, tmp_path: Path) -> None:
    """Worker processes keep the stages of a job, but never for the next job."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    config = PredictConfig(run=run, audio=audio, out=tmp_path / "out")
    first = predict(config).filter(like="p:")
    model = load_classifier(run)
    for parameter in model.model.parameters():
        parameter.data.neg_()
    save_model(run, model.model, model.metadata)
    assert not np.allclose(predict(config).filter(like="p:"), first)


@pytest.mark.slow
def test_prediction_writes_no_ray_messages(trained: Path, audio: Path, tmp_path: Path) -> None:
    """Ray's core prints an error for each pool of actors, whatever their arguments (Ray issue 57733)."""
    command = ("predict", "--run", trained, "--audio", audio, "--out", tmp_path / "out", "--cpus", 2)
    result = run_command(*command, "--workers", 2, "--ray")
    assert result.returncode == 0, result.stderr
    for text in ("core_worker.cc", "constructor arguments", "UserWarning", "Traceback"):
        assert text not in result.stderr


def test_submission_follows_sample_submission(trained: Path, audio: Path, tmp_path: Path) -> None:
    sample = tmp_path / "sample.csv"
    sample.write_text("file,class\ntone 2/1-2000-0.wav,?\ntone 0/1-0000-0.wav,?\n")
    predict(PredictConfig(run=trained, audio=audio, out=tmp_path / "out", sample_submission=sample))
    submission = pd.read_csv(tmp_path / "out" / "submission.csv")
    assert submission.columns.tolist() == ["file", "class"]
    assert submission["file"].tolist() == ["tone 2/1-2000-0.wav", "tone 0/1-0000-0.wav"]


def test_windows_cover_a_long_clip(trained: Path, tmp_path: Path) -> None:
    """Predict a clip of four seconds whose center is of one class and all the rest of another."""
    folder = tmp_path / "audio"
    folder.mkdir()
    long = np.concatenate([tone(1200, 1.5), tone(300, 1.0), tone(1200, 1.5)])
    soundfile.write(folder / "long.wav", long, RATE)
    soundfile.write(folder / "short.wav", tone(600), RATE)
    labels = [
        predict(PredictConfig(run=trained, audio=folder, out=tmp_path / str(windows), windows=windows))[
            "label"
        ].tolist()
        for windows in (1, 100)
    ]
    assert labels == [["tone 0", "tone 1"], ["tone 2", "tone 1"]]


def test_more_workers_than_cpus_raise(trained: Path, audio: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs 5 workers with 1 CPU each, but only 2 fit"):
        predict(PredictConfig(run=trained, audio=audio, out=tmp_path / "out", workers=5))


def test_evaluation_on_different_features_raises(trained: Path, tmp_path: Path) -> None:
    data = write_tones(tmp_path / "data", clips=4)
    features = extract_config(data, tmp_path).features
    other = features.model_copy(update={"mel": features.mel.model_copy(update={"n_mels": 20})})
    extract(extract_config(data, tmp_path / "other", features=other))
    with pytest.raises(UserError, match=r"mel.n_mels = 20 \(the model uses 16\)"):
        evaluate(EvaluateConfig(run=trained, shards=tmp_path / "other", out=tmp_path))


def test_crossval_evaluates_each_clip_once_and_resumes(tmp_path: Path) -> None:
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
    rerun = crossval(config)
    assert rerun["mean"] == result["mean"]
    assert {path: path.stat().st_mtime_ns for path in models} == models
    assigned = crossval(config.model_copy(update={"num_folds": 3, "run": tmp_path / "assigned", "epochs": 1}))
    assert len(assigned["folds"]) == 3
