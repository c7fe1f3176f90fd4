"""The whole way with everything on a store: from clips to submission.csv, also while S3 refuses every tenth request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from pipeline.classifier.evaluate import EvaluateConfig, evaluate
from pipeline.classifier.predict import PredictConfig, predict
from pipeline.classifier.train import train_classifier
from pipeline.extract import extract, run_in_process
from pipeline.io.remote_path import RemotePath
from pipeline.training.run_folder import RunFolder
from tests.helpers.object_store import Flaky, bucket, google_bucket, upload
from tests.helpers.runs import same, weights
from tests.helpers.sounds import extract_config, train_config, write_tones
from tune.config import SearchConfig
from tune.search import search


@pytest.fixture(scope="module", params=["s3", "gs"])
def store(request: pytest.FixtureRequest) -> Iterator[tuple[RemotePath, Flaky | None]]:
    # Before the session: its workers need the credentials.
    if request.param == "gs":
        with google_bucket() as place:
            yield place, None
    else:
        with bucket() as (place, flaky):
            yield place, flaky


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_from_clips_to_a_submission(
    store: tuple[RemotePath, Flaky | None], ray_session: None, tmp_path: Path
) -> None:
    place, flaky = store
    data = write_tones(tmp_path / "data")
    upload(data, place / "data")
    if flaky:
        flaky.every = 10
    shards, run, out = place / "shards", place / "run", place / "out"
    extract(extract_config(place / "data", shards))  # type: ignore[arg-type]
    config = train_config(shards, run, epochs=2, workers=2)  # type: ignore[arg-type]
    train_classifier(config)
    metrics = evaluate(EvaluateConfig(run=run))  # type: ignore[arg-type]
    table = predict(PredictConfig(run=run, audio=place / "data/train", out=out))  # type: ignore[arg-type]
    if flaky:
        assert flaky.refused > 10
        flaky.every = 0
    assert len(table) == 30 and metrics["clips"] == 6
    answer = pd.read_csv((out / "submission.csv").open("rb"))  # type: ignore[call-overload]
    assert list(answer.columns) == ["id", "label"] and len(answer) == 30
    assert {path.name for path in run.iterdir()} >= {
        "config.json",
        "summary.json",
        "model.safetensors",
        "report.html",
        "evaluation.json",
    }
    assert (
        not (out / ".parts").is_dir() and not (shards / ".attempts").is_dir() and not (run / ".ray").is_dir()
    )
    # The same as on this machine, bit for bit.
    extract(extract_config(data, tmp_path / "shards"), run_in_process)
    here = train_config(tmp_path / "shards", tmp_path / "run", epochs=2, workers=2)
    train_classifier(here)
    assert same(weights(run), weights(here.run))  # type: ignore[arg-type]
    # Run again, all is found finished.
    train_classifier(config)
    assert len(RunFolder(run).read_history()) == 2  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.timeout(170)
def test_a_search_and_its_best_run(
    store: tuple[RemotePath, Flaky | None], ray_session: None, tmp_path: Path
) -> None:
    place, _ = store
    extract(extract_config(write_tones(tmp_path / "data"), place / "more"), run_in_process)  # type: ignore[arg-type]
    space = tmp_path / "space.yaml"
    space.write_text("learning_rate: {low: 0.001, high: 0.01, log: true}\n")
    config = SearchConfig(shards=place / "more", run=place / "search", space=space, trials=2, max_epochs=2)  # type: ignore[arg-type]
    summary = search(config)
    assert summary["trials"]["failed"] == 0 and (place / "search/best/model.safetensors").is_file()
    assert (place / "search/report.html").is_file() and search(config) == summary
