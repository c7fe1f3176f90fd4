"""Names that are not ASCII give the same results in every locale, from extraction to the trained model."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch

from pipeline.classifier.loop import train_loop
from pipeline.data.dataset import open_dataset
from pipeline.data.shard_manifest import open_shards
from pipeline.distributed.batch_job import run_in_process
from pipeline.extract import extract
from tests.helpers.processes import COMMAND
from tests.helpers.runs import SINGLE_WORKER, load_weights, tensors_equal
from tests.helpers.sounds import extract_config, train_config, write_tones

TRAIN_FLAGS = (
    "--model.channels 8 16 --model.convs_per_block 1 --model.embedding_dim 16 --model.dropout 0.1 "
    "--mixup.rate 0.5 --spec-augment.roll 0.1 --epochs 2 --batch-size 16 --warmup-epochs 1 --ema-decay 0.9 "
    "--precision fp32 --cpus-per-worker 1"
).split()
EXTRACT_FLAGS = (
    "--features.mel.sample_rate 8000 --features.mel.n_fft 256 --features.mel.hop_length 256 "
    "--features.mel.n_mels 16 --features.seconds 1 --features.trim_db None --copies 1 "
    r"--group-pattern ^\d-(\d+)- --fold-pattern ^(\d)-"
).split()


def run_in_ascii(*arguments: object) -> None:
    """Run `melray …` in the C locale, without the switches by which Python would choose UTF-8 itself."""
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    result = subprocess.run(
        [*COMMAND, *map(os.fsencode, map(str, arguments))], env=environment, capture_output=True, timeout=110
    )
    assert result.returncode == 0, (result.stdout + result.stderr).decode()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Write tones under names of several scripts."""
    train = write_tones(tmp_path / "Töne", classes=3, clips=10) / "train"
    for old, new in (("tone 0", "Hündin"), ("tone 1", "日本語"), ("tone 2", "plain")):
        (train / old).rename(train / new)
    for path in sorted((train / "Hündin").iterdir())[:4]:
        path.rename(path.with_stem(f"{path.stem} ß Ω"))
    return train.parent


@pytest.mark.slow
@pytest.mark.timeout(240)  # starts two Ray sessions
def test_locale_changes_neither_shards_nor_model(data: Path, tmp_path: Path) -> None:
    expected = extract(extract_config(data, tmp_path / "expected"), run_in_process)
    out, trained = tmp_path / "Ausgabe für alle", tmp_path / "Läufe" / "run"
    run_in_ascii("extract", "--data", data, "--out", out, *EXTRACT_FLAGS, "--cpus", 2)
    assert open_shards(out).shards == expected.shards and open_shards(out).class_names == expected.class_names
    for shard in expected.shards:
        assert (out / shard.name).read_bytes() == (tmp_path / "expected" / shard.name).read_bytes()
    assert open_dataset(out).class_names == ("Hündin", "plain", "日本語")
    run_in_ascii("train-classifier", "--shards", out, "--run", trained, *TRAIN_FLAGS, "--cpus", 2)
    config = train_config(tmp_path / "expected", tmp_path / "expected run", epochs=2)
    torch.set_num_threads(1)
    train_loop(config, SINGLE_WORKER)
    assert tensors_equal(load_weights(trained), load_weights(config.run))
    names = [
        json.loads((folder / "model.json").read_text("utf-8"))["class_names"]
        for folder in (trained, config.run)
    ]
    assert names[0] == names[1]
