"""Ensembles: members share the split and differ by their seeds; they predict and are evaluated as one run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.classifier import train
from pipeline.classifier.command_configs import EvaluateConfig
from pipeline.classifier.crossval import fold_config, report_folds
from pipeline.classifier.ensemble_calibration import fit_temperature, predict_row_logits
from pipeline.classifier.ensemble_run import describe_ensemble, member_configs
from pipeline.classifier.evaluate import evaluate
from pipeline.classifier.inference import predict_probabilities
from pipeline.classifier.predict import PredictConfig, predict
from pipeline.classifier.predictor_model import PredictorModel, load_predictor, predictor_digest
from pipeline.classifier.prepare import prepare
from pipeline.classifier.refit import validated_config
from pipeline.classifier.train import describe_result, train_in_process
from pipeline.data.dataset import open_dataset
from pipeline.data.split import split_rows
from pipeline.data.uncached import open_dataset_to_read
from pipeline.distributed.batch_job import run_in_process
from pipeline.io.errors import UserError
from pipeline.training.model_file import ClassifierMetadata, load_classifier
from pipeline.training.run_folder import RunFolder
from tests.helpers.classifier_training import interrupted_at, train_run
from tests.helpers.label_sets import write_label_set_shards
from tests.helpers.runs import SINGLE_WORKER, load_weights, tensors_equal
from tests.helpers.sounds import SMALL_FEATURES, train_config
from tests.pipeline.classifier.test_crossval import crossval_config

pytestmark = pytest.mark.usefixtures("single_thread")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an ensemble of two models with a held-out fold."""
    run = tmp_path_factory.mktemp("ensemble") / "run"
    torch.set_num_threads(1)
    train_run(train_config(shards, run, ensemble=2, seed=7, fold=1, epochs=3, learning_rate=1e-2))
    return run


def test_members_equal_runs_with_their_seeds(run: Path, shards: Path, tmp_path: Path) -> None:
    settings = {"split_seed": 7, "fold": 1, "epochs": 3, "learning_rate": 1e-2}
    for seed, member in ((7, "member_1"), (8, "member_2")):
        train_run(train_config(shards, tmp_path / member, seed=seed, **settings))
        assert tensors_equal(load_weights(tmp_path / member), load_weights(run / member))


def test_members_have_the_same_split(run: Path, shards: Path) -> None:
    splits = [(run / folder / "split.parquet").read_bytes() for folder in ("", "member_1", "member_2")]
    assert splits[0] == splits[1] == splits[2]
    dataset = open_dataset(shards)
    other = split_rows(dataset, train_config(shards, run, seed=8, fold=1)).val
    assert not np.array_equal(other, split_rows(dataset, train_config(shards, run, seed=7, fold=1)).val)


def test_temperature_minimizes_loss_of_the_mean(run: Path, shards: Path) -> None:
    config = train_config(shards, run, seed=7, fold=1)
    dataset = open_dataset_to_read(shards)
    rows = split_rows(dataset, config).val
    ensemble = load_predictor(run)
    assert ensemble.members == 2 and ensemble.model.temperature != 1.0
    labels = torch.from_numpy(dataset.labels[rows])
    fitted = ensemble.model.temperature
    losses = {}
    for factor in (0.8, 1.0, 1.25):
        ensemble.model.temperature = fitted * factor
        probabilities = torch.from_numpy(predict_probabilities(ensemble.model, dataset.mels[rows])).double()
        smooth = torch.nn.functional.one_hot(labels, 3) * (1 - 1 / (len(rows) + 2)) + 1 / (len(rows) + 2) / 3
        losses[factor] = float(-(smooth * probabilities.log()).sum())
    assert losses[1.0] == min(losses.values())


def test_ensemble_evaluates_and_predicts_as_one(run: Path, shards: Path, tmp_path: Path) -> None:
    metrics = evaluate(EvaluateConfig(run=run, out=tmp_path))
    assert metrics["split"] == "fold 1, held out" and metrics["clips"] == 6
    assert "2, mean of their probabilities" in (tmp_path / "report.html").read_text(encoding="utf-8")
    predict_config = PredictConfig(run=run, audio=(shards.parent / "data",), out=tmp_path / "out")
    together = predict(predict_config, run_in_process).select_dtypes("float").to_numpy()
    assert together.shape == (30, 3)
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-5)
    member = predict(
        predict_config.model_copy(update={"run": run / "member_1", "out": tmp_path / "member"}),
        run_in_process,
    )
    assert not np.allclose(together, member.select_dtypes("float").to_numpy(), atol=1e-3)


def test_summary_has_ensemble_and_members(run: Path) -> None:
    summary = RunFolder(run).read_json("summary.json")
    assert [member["run"] for member in summary["members"]] == ["member_1", "member_2"]
    assert summary["epochs"] == 6
    evaluation = RunFolder(run).read_json("evaluation.json")
    assert summary["val_accuracy"] == evaluation["accuracy"] and evaluation["split"] == "validation clips"
    text = describe_result(summary)
    assert text.startswith("ensemble of 2 models, 6 epochs in ") and "temperature" in text


def test_digest_depends_on_temperature_of_ensemble(run: Path, tmp_path: Path) -> None:
    digest = predictor_digest(run)
    record = RunFolder(run).read_json("ensemble.json")
    copy = tmp_path / "copy"
    copy.mkdir()
    for member in record["members"]:
        (copy / member).symlink_to(run / member)
    RunFolder(copy).write_json("ensemble.json", record)
    assert predictor_digest(copy) == digest
    RunFolder(copy).write_json("ensemble.json", record | {"temperature": 2.0})
    assert predictor_digest(copy) != digest


def test_interrupted_ensemble_resumes_with_same_weights(run: Path, shards: Path, tmp_path: Path) -> None:
    config = train_config(shards, tmp_path / "run", ensemble=2, seed=7, fold=1, epochs=3, learning_rate=1e-2)
    with interrupted_at(13):  # the second member
        train_run(config)
    assert (config.run / "member_1/summary.json").exists() and not (config.run / "ensemble.json").exists()
    with pytest.raises(UserError, match=r"no model.safetensors in it; train it with"):
        load_predictor(config.run)
    train_run(config)
    for member in ("member_1", "member_2"):
        assert tensors_equal(load_weights(run / member), load_weights(config.run / member))
    assert load_predictor(config.run).model.temperature == load_predictor(run).model.temperature


def test_inputs_of_members_take_turns(shards: Path, tmp_path: Path) -> None:
    inputs = ("db+pcen", "pcen")
    settings = {"seed": 7, "fold": 1, "epochs": 1, "learning_rate": 1e-2}
    train_run(train_config(shards, tmp_path / "run", ensemble=3, ensemble_inputs=inputs, **settings))
    members = load_predictor(tmp_path / "run").model.members
    assert [member.config.input for member in members] == ["db+pcen", "pcen", "db+pcen"]
    single = train_config(shards, tmp_path / "single", split_seed=7, **settings | {"seed": 8})
    model = single.model.model_copy(update={"input": "pcen"})
    train_run(single.model_copy(update={"model": model}))
    assert tensors_equal(load_weights(tmp_path / "single"), load_weights(tmp_path / "run/member_2"))
    metrics = evaluate(EvaluateConfig(run=tmp_path / "run", out=tmp_path / "evaluation"))
    assert metrics["clips"] == 6


def test_ensemble_of_refit_models_is_calibrated_before(shards: Path, tmp_path: Path) -> None:
    config = train_config(shards, tmp_path / "run", ensemble=2, refit=True, epochs=2, learning_rate=1e-2)
    train_run(config)
    plain = train_config(shards, tmp_path / "plain", ensemble=2, epochs=2, learning_rate=1e-2)
    train_run(plain)
    ensemble, expected = load_predictor(config.run), load_predictor(plain.run)
    assert ensemble.model.temperature == expected.model.temperature
    mels = open_dataset_to_read(shards).mels[np.arange(4)]
    assert not np.allclose(
        predict_probabilities(ensemble.model, mels), predict_probabilities(expected.model, mels), atol=1e-4
    )
    with pytest.raises(UserError, match=r"\(--refit\).* --run .*/member_1/validated"):
        evaluate(EvaluateConfig(run=config.run, split="validation"))


def test_single_model_is_needed_to_start_from(run: Path, shards: Path, tmp_path: Path) -> None:
    message = r"{} .* is an ensemble: give one of its models, such as .*/member_1$"
    with pytest.raises(UserError, match=message.format("--run")):
        load_classifier(run)
    with pytest.raises(UserError, match=message.format("--init-from")):
        prepare(train_config(shards, tmp_path, fold=1, init_from=run), SINGLE_WORKER)


def test_parts_train_first_with_the_same_cpus(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of concurrent runs, which decides their CPUs, includes those that are complete."""
    calls: list[tuple[list[str], int]] = []

    def train_concurrently(pending: dict, resources: object, max_concurrent: int) -> dict:
        calls.append((list(pending), max_concurrent))
        return {name: train_in_process(config) for name, config in pending.items()}

    config = train_config(shards, tmp_path / "run", ensemble=3, refit=True, epochs=1)
    train_run(member_configs(config)["member 1"])
    train_run(validated_config(member_configs(config)["member 2"]))
    monkeypatch.setattr(train, "train_concurrently", train_concurrently)
    train.train_classifier(config)
    assert calls == [(["member 3 validated"], 3), (["member 2", "member 3"], 3)]


def test_ensemble_without_validation_is_not_calibrated(shards: Path, tmp_path: Path) -> None:
    summary = train_run(train_config(shards, tmp_path / "run", ensemble=2, val_fraction=0.0, epochs=1))
    assert load_predictor(tmp_path / "run").model.temperature == 1.0
    assert describe_result(summary).endswith("not validated")


def test_multi_label_ensemble_has_thresholds(tmp_path: Path) -> None:
    shards = write_label_set_shards(tmp_path / "shards")
    summary = train_run(train_config(shards, tmp_path / "run", ensemble=2, epochs=2))
    assert 0 <= summary["val_map"] <= 1
    thresholds = json.loads((tmp_path / "run/ensemble.json").read_text())["thresholds"]
    assert load_predictor(tmp_path / "run").metadata.thresholds == tuple(thresholds.values())


class TestCrossValidation:
    @pytest.fixture(scope="class")
    def crossval_run(self, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Return a cross-validation of two folds, each with an ensemble of two models."""
        folder = tmp_path_factory.mktemp("crossval") / "run"
        config = crossval_config(
            shards, folder, num_folds=2, ensemble=2, epochs=2, learning_rate=1e-2, val_fraction=0.0
        )
        runs = {fold: fold_config(config, fold) for fold in (1, 2)}
        for fold in runs.values():
            train_run(fold)
        report_folds(config, open_dataset_to_read(shards), runs)
        return folder

    def test_all_members_of_all_folds_predict(self, crossval_run: Path) -> None:
        assert load_predictor(crossval_run).members == 4

    def test_fold_models_are_calibrated_on_held_out_clips(self, crossval_run: Path, shards: Path) -> None:
        temperature = json.loads((crossval_run / "crossval.json").read_text())["member_temperature"]
        assert temperature != 1.0
        predictor = load_predictor(crossval_run)
        assert predictor.model.temperature == 1.0
        assert [member.temperature for member in predictor.model.members] == [temperature, temperature]

    def test_evaluation_needs_new_clips_and_own_folder(self, crossval_run: Path, shards: Path) -> None:
        with pytest.raises(
            UserError, match=r"is a cross-validation, evaluated already: .* --shards and --out"
        ):
            evaluate(EvaluateConfig(run=crossval_run, shards=shards))
        out = crossval_run / "evaluation"
        with pytest.raises(UserError, match="the run was trained on 30 of 30 clips"):
            evaluate(EvaluateConfig(run=crossval_run, shards=shards, out=out))


def test_temperature_of_overconfident_model_is_found(shards: Path) -> None:
    """A model with logits of 4 for three clips of five that are right, and for two that are wrong."""

    class Stub(torch.nn.Module):
        temperature, num_classes, repeats_short_clips, multi_label = 1.0, 3, False, False
        config = train_config(shards, shards).model

        def forward(self, mel_BMT: torch.Tensor) -> torch.Tensor:
            index = mel_BMT[:, 0, 0].long()
            return 4.0 * torch.nn.functional.one_hot(index, 3).float()

    dataset = open_dataset_to_read(shards)
    labels = dataset.labels
    predicted = np.where(np.arange(len(labels)) % 5 < 3, labels, (labels + 1) % 3)

    class Rows:
        table, multi_label = dataset.table, False
        mels = np.broadcast_to(predicted[:, None, None].astype(np.float16), (len(labels), 4, 4))

    metadata = ClassifierMetadata(
        model=Stub.config, features=SMALL_FEATURES, class_names=dataset.class_names, training={}
    )
    rows: Any = Rows()
    stub: Any = Stub()
    saved = PredictorModel(stub, metadata)
    logits = predict_row_logits(saved, rows, np.arange(len(labels)), 1, CPU)
    temperature = fit_temperature([logits], rows)
    confidence = np.exp(4 / temperature) / (np.exp(4 / temperature) + 2)
    accuracy = np.mean(predicted == labels)
    assert confidence == pytest.approx(accuracy, abs=0.02)


def test_undefined_scores_are_described() -> None:
    """No validation clip has a class: there is no average precision."""
    member = {"run": "member_1", "val_map": 0.0, "epochs": 3}
    summary = {"members": [member], "epochs": 3, "total_seconds": 2.0, "val_map": None, "val_macro_f1": None}
    text = describe_ensemble(summary | {"val_log_loss": 0.1, "temperature": 1.0})
    assert "validation macro average precision n/a (of its models: 0.0%), macro-F1 n/a" in text
