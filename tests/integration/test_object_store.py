"""All stages with every path on an object store, also while S3 fails every tenth request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from pipeline.classifier.command_configs import EvaluateConfig
from pipeline.classifier.evaluate import evaluate
from pipeline.classifier.predict import PredictConfig, predict
from pipeline.classifier.train import train_classifier
from pipeline.distributed.batch_job import run_in_process
from pipeline.extract import extract
from pipeline.io.remote_path import RemotePath
from pipeline.training.run_folder import RunFolder
from tests.helpers.local_ray import SharedRay
from tests.helpers.object_store import FlakyServer, gcs_bucket, s3_bucket, upload_folder
from tests.helpers.runs import load_weights, tensors_equal
from tests.helpers.sounds import extract_config, train_config, write_tones
from tune.config import SearchConfig
from tune.search import search


@pytest.fixture(scope="module", params=["s3", "gs"])
def object_store(
    request: pytest.FixtureRequest, shared_ray: SharedRay
) -> Iterator[tuple[RemotePath, FlakyServer | None]]:
    # Workers need the credentials: those of an earlier session lack them.
    shared_ray.close()
    if request.param == "gs":
        with gcs_bucket() as bucket:
            yield bucket, None
    else:
        with s3_bucket() as (bucket, flaky):
            yield bucket, flaky


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_stages_from_clips_to_submission(
    object_store: tuple[RemotePath, FlakyServer | None], ray_session: None, tmp_path: Path
) -> None:
    bucket, flaky = object_store
    data = write_tones(tmp_path / "data")
    upload_folder(data, bucket / "data")
    if flaky:
        flaky.fail_every = 10
    shards, run, out = bucket / "shards", bucket / "run", bucket / "out"
    extract(extract_config(bucket / "data", shards))  # type: ignore[arg-type]
    config = train_config(shards, run, epochs=2, workers=2)  # type: ignore[arg-type]
    train_classifier(config)
    metrics = evaluate(EvaluateConfig(run=run))  # type: ignore[arg-type]
    table = predict(PredictConfig(run=run, audio=bucket / "data/train", out=out))  # type: ignore[arg-type]
    if flaky:
        assert flaky.rejected > 10
        flaky.fail_every = 0
    assert len(table) == 30 and metrics["clips"] == 6
    submission = pd.read_csv((out / "submission.csv").open("rb"))  # type: ignore[call-overload]
    assert list(submission.columns) == ["id", "label"] and len(submission) == 30
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
    # Bit-identical to a run with local paths.
    extract(extract_config(data, tmp_path / "shards"), run_in_process)
    local = train_config(tmp_path / "shards", tmp_path / "run", epochs=2, workers=2)
    train_classifier(local)
    assert tensors_equal(load_weights(run), load_weights(local.run))  # type: ignore[arg-type]
    # A rerun finds everything finished.
    train_classifier(config)
    assert len(RunFolder(run).read_history()) == 2  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.timeout(170)
def test_search_writes_best_run(
    object_store: tuple[RemotePath, FlakyServer | None], ray_session: None, tmp_path: Path
) -> None:
    bucket, _ = object_store
    extract(extract_config(write_tones(tmp_path / "data"), bucket / "more"), run_in_process)  # type: ignore[arg-type]
    space = tmp_path / "space.yaml"
    space.write_text("learning_rate: {low: 0.001, high: 0.01, log: true}\n")
    config = SearchConfig(shards=bucket / "more", run=bucket / "search", space=space, trials=2, max_epochs=2)  # type: ignore[arg-type]
    summary = search(config)
    assert summary["trials"]["failed"] == 0 and (bucket / "search/best/model.safetensors").is_file()
    assert (bucket / "search/report.html").is_file() and search(config) == summary
