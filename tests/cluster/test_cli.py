"""The command line: settings in their order, errors in one line, and no waiting for its help."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cluster.arguments.flags import parse, split_common
from cluster.arguments.usage import COMMANDS
from cluster.cli import run
from models.config import ConfigError
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.extract import ExtractConfig
from pipeline.io.errors import UserError
from pipeline.training.checkpoint import Checkpoints


def error_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a wrong command ends with; its exit code must be 2."""
    assert run(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("melray: error: ") and not any("Traceback" in line for line in lines)
    return lines[-1].removeprefix("melray: error: ")


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from cluster.cli import run; run(['--help']); print(sorted({'ray','torch','numpy','tyro'} & sys.modules.keys()))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip().endswith("[]")
    assert all(f"  {name} " in out for name in COMMANDS)


@pytest.mark.parametrize(
    "command", [*(name for name in COMMANDS if name != "cluster"), "cluster up", "jobs logs"]
)
def test_each_command_has_help_with_defaults(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run([*command.split(), "--help"])
    assert ended.value.code == 0
    assert "default:" in capsys.readouterr().out


def test_a_command_with_actions_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(["cluster", "--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert all(f"melray cluster {action}" in told for action in ("up", "status", "down"))
    assert "which action?; choose up, status, down" in error_line(["cluster"], capsys)
    assert "'ups' is none of its actions" in error_line(["cluster", "ups"], capsys)


def test_default_then_file_then_flag(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("shards: here\nepochs: 7\nmixup: {rate: 0.9}\nmodel: {channels: [4, 8]}\n")
    config = parse(TrainClassifierConfig, "train-classifier", ["--run", "r", "--epochs", "9"], file)
    assert (config.epochs, config.mixup.rate, config.mixup.alpha, config.model.channels) == (
        9,
        0.9,
        0.3,
        (4, 8),
    )
    assert config.shards == Path("here").absolute() and config.seed == 42


def test_resolved_settings_are_a_file_that_gives_them_back(tmp_path: Path) -> None:
    import yaml

    config = parse(
        ExtractConfig,
        "extract",
        ["--data", "d", "--out", "o", "--copies", "3", "--features.seconds", "2"],
        None,
    )
    file = tmp_path / "resolved.yaml"
    file.write_text(yaml.safe_dump(config.to_dict()))
    assert parse(ExtractConfig, "extract", [], file) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 3", "unknown key 'epoch'; did you mean 'epochs'?"),
        ("mixup: {rat: 1}", "unknown key 'mixup.rat'; did you mean 'rate'?"),
        ("mixup: {rate: 7}", "'mixup.rate' = 7: input should be less than or equal to 1"),
        ("epochs: [1", "not YAML"),
        ("- 1", "must hold keys and values, not a list"),
    ],
)
def test_a_wrong_file_is_told_by_key(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text)
    line = error_line(["train-classifier", "--config", str(file), "--shards", "s", "--run", "r"], capsys)
    assert message in line and str(file) in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["extrakt"], "unknown command 'extrakt'; did you mean 'extract'?"),
        (["extract", "--config", "none.yaml"], "--config none.yaml: no such file"),
        (["extract", "--cpus", "0", "--data", "d", "--out", "o"], "--cpus 0: needs at least 1"),
        (
            ["train-classifier", "--shards", "s", "--run", "r", "--epochs", "0"],
            "'epochs' = 0: input should be greater than or equal to 1",
        ),
        (["evaluate", "--run", "/nowhere"], "--run /nowhere: no such folder"),
        (
            ["extract", "--data", "d", "--out", "o", "--fold-pattern", "x"],
            "the pattern needs a group in parentheses",
        ),
    ],
)
def test_a_wrong_command_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in error_line(arguments, capsys)


def test_a_damaged_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{not json")
    assert "model.safetensors is damaged" in error_line(["evaluate", "--run", str(tmp_path)], capsys)


def test_damaged_checkpoints_name_the_way_out(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.write(1, {"model": {"x": torch.ones(2)}}, {"epoch": 1})
    (tmp_path / "checkpoints" / "epoch_0001" / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"no whole checkpoint.*choose another --run"):
        checkpoints.read()


def test_common_flags_stand_anywhere() -> None:
    common, rest = split_common(["--data", "d", "--address", "auto", "--out", "o", "--cpus", "3"])
    assert (common.address, common.cpus, rest) == ("auto", 3, ["--data", "d", "--out", "o"])


def test_wrong_values_are_told_when_made() -> None:
    with pytest.raises(ConfigError, match=r"^'batch_size' = 1: input should be greater than or equal to 2$"):
        TrainClassifierConfig(shards=Path("s"), run=Path("r"), batch_size=1)


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = [sys.executable, "-c", "from cluster.cli import main; main()", "train-gan", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
