"""Fine-tuning: which weights are loaded, frozen and trained, at which rates, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import soundfile
import torch

from models.config import ConfigError
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.loop import train_epochs, train_loop
from pipeline.classifier.prepare import prepare
from pipeline.classifier.train import begin_run
from pipeline.data.split_record import SPLIT_NAME, read_split_record
from pipeline.distributed.batch_job import run_in_process
from pipeline.extract import extract
from pipeline.io.errors import UserError
from pipeline.training.model_file import MODEL_NAME, load_classifier
from pipeline.training.optim import set_learning_rate
from tests.helpers.runs import SINGLE_WORKER, load_weights
from tests.helpers.sounds import RATE, extract_config, tone, train_config

pytestmark = pytest.mark.usefixtures("single_thread")
STAGES = ["stem", "blocks.0", "blocks.1", "modulation", "projection", "head"]
# Statistics of the training clips.
STATISTICS = ("mel_", "texture.mean_K", "texture.std_K")


@pytest.fixture(scope="module")
def first_run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a trained run on all clips that are not validated."""
    run = tmp_path_factory.mktemp("first") / "run"
    train(train_config(shards, run, epochs=2))
    return run


@pytest.fixture(scope="module")
def other_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return higher tones of four classes, whose files have the names of those of the first run."""
    folder = tmp_path_factory.mktemp("other")
    for label in range(4):
        (folder / "data" / f"tone {label}").mkdir(parents=True)
        for number in range(10):
            samples = tone(1000 + 500 * label + 10 * number, seed=100 * label + number)
            path = folder / "data" / f"tone {label}" / f"{number % 5 + 1}-{number}-{label}.wav"
            soundfile.write(path, samples, RATE)
    extract(extract_config(folder / "data", folder / "shards"), run_in_process)
    return folder / "shards"


def train(config: TrainClassifierConfig) -> dict[str, Any]:
    begin_run(config)
    return train_loop(config, SINGLE_WORKER)


def test_all_weights_of_same_classes_are_loaded(first_run: Path, shards: Path, tmp_path: Path) -> None:
    state = prepare(train_config(shards, tmp_path, init_from=first_run), SINGLE_WORKER)
    saved = load_weights(first_run)
    for name, value in state.model.state_dict().items():
        assert torch.equal(value, saved[name]) or name.startswith(STATISTICS), name
    assert state.initial_weights == f"weights of {first_run}; loaded: {', '.join(STAGES)}"
    assert all(
        torch.equal(p, q) for p, q in zip(state.ema.model.parameters(), state.model.parameters(), strict=True)
    )


def test_output_layer_of_other_classes_starts_anew(
    first_run: Path, other_shards: Path, tmp_path: Path
) -> None:
    state = prepare(train_config(other_shards, tmp_path, init_from=first_run), SINGLE_WORKER)
    random = prepare(train_config(other_shards, tmp_path), SINGLE_WORKER)
    saved, names = load_weights(first_run), state.model.output_names
    for name, value in state.model.state_dict().items():
        if name in names:
            assert torch.equal(value, random.model.state_dict()[name])
        elif not name.startswith(STATISTICS):
            assert torch.equal(value, saved[name]), name
    new = "head ('head.4.bias', 'head.4.weight', 'texture.layers.1.bias' and 1 more)"
    assert f"; new: {new}" in state.initial_weights


def test_file_of_another_program_and_larger_network(first_run: Path, shards: Path, tmp_path: Path) -> None:
    """Of a file without metadata, all that fits is loaded, except for the output layer."""
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(load_weights(first_run), path)
    model = {"channels": [8, 16, 32], "convs_per_block": 1, "embedding_dim": 16}
    state = prepare(train_config(shards, tmp_path, init_from=path, model=model), SINGLE_WORKER)
    assert "loaded: stem, blocks.0, blocks.1" in state.initial_weights
    new = state.initial_weights.partition("; new: ")[2]
    assert new.startswith("blocks.2, modulation (") and "projection (" in new
    assert torch.equal(state.model.state_dict()["stem.0.weight"], load_weights(first_run)["stem.0.weight"])


@pytest.mark.parametrize("freeze", [1, 3, 4, 5])
def test_frozen_stages_do_not_change(
    first_run: Path, other_shards: Path, tmp_path: Path, freeze: int
) -> None:
    config = train_config(other_shards, tmp_path, init_from=first_run, freeze=freeze, epochs=2)
    train(config)
    before, after = load_weights(first_run), load_weights(tmp_path)
    model = load_classifier(tmp_path).model
    for stage in STAGES[:5]:
        names = set(model.stages[stage]) - model.output_names
        is_frozen = stage in STAGES[:freeze]
        assert all(torch.equal(before[name], after[name]) for name in names) == is_frozen, stage


def test_learning_rates_fall_from_head_to_stem(first_run: Path, shards: Path, tmp_path: Path) -> None:
    config = train_config(shards, tmp_path, init_from=first_run, stage_lr_factor=0.5, learning_rate=0.01)
    state = prepare(config, SINGLE_WORKER)
    set_learning_rate(state.optimizer, 0.01)
    rates = {id(p): group["lr"] for group in state.optimizer.param_groups for p in group["params"]}
    for depth, stage in enumerate(reversed(STAGES)):
        names = state.model.stages[stage]
        parameters = [p for name, p in state.model.named_parameters() if name in names]
        assert [rates[id(p)] for p in parameters] == pytest.approx([0.01 * 0.5**depth] * len(parameters))
    assert len(rates) == len(list(state.model.parameters()))


def test_resumed_fine_tuning_equals_uninterrupted(
    first_run: Path, other_shards: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"init_from": first_run, "freeze": 2, "stage_lr_factor": 0.7}
    train(train_config(other_shards, tmp_path / "whole", epochs=3, **settings))
    config = train_config(other_shards, tmp_path / "parts", epochs=3, **settings)
    begin_run(config)
    epochs = train_epochs(config, SINGLE_WORKER)
    next(epochs)
    epochs.close()
    train(config)
    whole, parts = load_weights(tmp_path / "whole"), load_weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_resumed_run_no_longer_needs_the_first_run(first_run: Path, shards: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(first_run, copy)
    config = train_config(shards, tmp_path / "run", init_from=copy, freeze=1, epochs=2)
    train(config)
    whole = load_weights(config.run)
    shutil.rmtree(copy)
    shutil.rmtree(config.run / "checkpoints" / "epoch_0002")
    train(config)
    resumed = load_weights(config.run)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_clips_of_the_first_run_must_not_be_evaluated(first_run: Path, shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--init-from .* was trained on \d+ of the \d+ clips .* leakage"):
        begin_run(train_config(shards, tmp_path / "a", init_from=first_run, seed=5, val_fraction=0.5))
    begin_run(train_config(shards, tmp_path / "b", init_from=first_run))


def test_split_record_has_clips_of_the_first_run(first_run: Path, other_shards: Path, tmp_path: Path) -> None:
    """So that later evaluations know all clips that a model has seen."""
    begin_run(train_config(other_shards, tmp_path, init_from=first_run / MODEL_NAME))
    first, second = (read_split_record(run / SPLIT_NAME) for run in (first_run, tmp_path))
    assert first is not None and second is not None
    trained = set(first["content"][first["split"] == "train"])
    assert trained <= set(second["content"][second["split"] == "train"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"freeze": 6}, r"--freeze 6: the network has 6 stages, of which the last one is trained: stem, "),
        (
            {"freeze": 2, "model": {"channels": [8, 16], "convs_per_block": 1, "input": "db+pcen"}},
            r"--freeze 2: weights of stage stem would stay random, .* 'stem.0.weight'; lower it to 0, or",
        ),
        ({"init_from": Path("nowhere")}, r"nowhere/model.safetensors: no such file"),
    ],
)
def test_refused(first_run: Path, shards: Path, tmp_path: Path, settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepare(train_config(shards, tmp_path, **{"init_from": first_run, **settings}), SINGLE_WORKER)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", r"/nothing: no such file or folder$"),
        ("notes.txt", r"/notes.txt: neither the folder of a run nor a file of weights \(.safetensors, .*\)$"),
        ("cv", r"/cv is a cross-validation: give one of its models, such as .*/cv/fold_1$"),
    ],
)
def test_source_without_weights_is_refused_before_a_run_is_created(
    shards: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, message: str
) -> None:
    (tmp_path / "notes.txt").touch()
    for fold in ("fold_1", "fold_2"):
        (tmp_path / "cv" / fold).mkdir(parents=True)
        (tmp_path / "cv" / fold / "config.json").touch()
    (tmp_path / "cv" / "crossval.json").write_text("{}")
    with pytest.raises(UserError, match=rf"^--init-from .*{message}"):
        begin_run(train_config(shards, tmp_path / "run", init_from=tmp_path / name))
    assert not (tmp_path / "run").exists() and "cannot check" not in caplog.text


def test_network_that_no_weight_fits_is_refused(first_run: Path, other_shards: Path, tmp_path: Path) -> None:
    model = {"channels": [5], "embedding_dim": 3}
    with pytest.raises(UserError, match=r"none of its \d+ weights fits --model"):
        prepare(train_config(other_shards, tmp_path, init_from=first_run, model=model), SINGLE_WORKER)


def test_freezing_needs_weights(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--freeze 1 needs --init-from"):
        TrainClassifierConfig(shards=tmp_path, run=tmp_path, freeze=1)
