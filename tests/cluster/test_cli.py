"""Command line: precedence of defaults, file and flags; one-line errors; help texts; log level."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml
from pydantic import BaseModel

from cluster.arguments.common_flags import CommonFlags, job_flags, split_common_flags
from cluster.arguments.flags import help_text, parse
from cluster.arguments.registry import COMMAND_SPECS, load_config_class
from cluster.arguments.usage import COMMANDS, COMMON_FLAGS
from cluster.cli import run
from cluster.commands import print_config
from models.config import ConfigError
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.extract import ExtractConfig
from pipeline.io.console import logger
from pipeline.io.errors import UserError
from pipeline.training.checkpoint import Checkpoints
from tests.helpers.saved_classifier import save_classifier

WIDTH = 100


def error_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command line that must fail with exit code 2; return its error line."""
    assert run(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("melray: error: ") and not any("Traceback" in line for line in lines)
    return lines[-1].removeprefix("melray: error: ")


# Help


@pytest.mark.parametrize(
    ("keys", "libraries"),
    [
        (["train-classifier", "train-gan", "tune", "crossval", "crossval --tuned"], ["numpy"]),
        (COMMAND_SPECS.keys() - {"demo", "extract"}, []),
    ],
    ids=["training", "all"],
)
def test_settings_are_parsed_without_slow_libraries(keys: Collection[str], libraries: list[str]) -> None:
    slow = {"ray", "torch", "pandas", "pyarrow", "scipy", "sklearn", "librosa", "matplotlib", *libraries}
    code = (
        f"import sys; from cluster.arguments.registry import load_config_class\nfor key in {sorted(keys)}:\n"
        f"    load_config_class(key)\n    print(key, *sorted({slow} & sys.modules.keys()))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.splitlines() == sorted(keys)


def test_overview_imports_nothing_heavy_and_is_fast() -> None:
    code = (
        "import sys; from cluster.cli import run; run(['--help']); "
        "print(sorted({'ray', 'torch', 'numpy', 'tyro', 'rich', 'pydantic'} & sys.modules.keys()))"
    )
    start = time.process_time()
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert time.process_time() - start < 0.5
    assert out.strip().endswith("[]")
    assert all(f"  {name} " in out for name in COMMANDS)
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("key", COMMAND_SPECS)
def test_command_prints_help(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        run([*key.split(), "--help"])
    assert exit_info.value.code == 0
    output = capsys.readouterr().out
    assert output.startswith("usage: melray ") and "common flags:" in output


@pytest.mark.parametrize("command", [*COMMANDS, "jobs logs"])
def test_help_text_fits_its_width(command: str) -> None:
    text = help_text(command, WIDTH)
    assert "\x1b" not in text and "usage: melray " in text
    assert max(map(len, text.splitlines())) <= WIDTH


@pytest.mark.parametrize("key", COMMAND_SPECS)
def test_help_text_contains_every_description_unbroken(key: str) -> None:
    lines = help_text(key, WIDTH).replace(COMMON_FLAGS, "").splitlines()
    joined = " ".join(" ".join(lines).split())
    for description in descriptions(load_config_class(key)):
        assert " ".join(description.split()) in joined
    # A line continues on the next one only if the next word does not fit.
    for line, following in pairwise(lines):
        indentation = len(line) - len(line.lstrip())
        if indentation > 10 and indentation == len(following) - len(following.lstrip()):
            assert len(line) + 1 + len(following.split()[0]) > WIDTH - 2, (line, following)


def descriptions(config_class: type[BaseModel]) -> Iterator[str]:
    """Yield the field descriptions of a configuration class, nested ones included."""
    for field in config_class.model_fields.values():
        if field.description:
            yield field.description
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from descriptions(field.annotation)


def test_help_of_a_command_includes_its_actions() -> None:
    text = help_text("cluster")
    assert all(f"melray cluster {action}" in text for action in ("up", "status", "down"))
    assert "--dashboard-port" in text
    assert "--follow" in help_text("jobs") and "--searcher" in help_text("crossval")


def test_command_with_actions_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cluster", "--help"]) == 0
    output = capsys.readouterr().out
    assert all(f"melray cluster {action}" in output for action in ("up", "status", "down"))
    assert "an action is missing; choose up, status, down" in error_line(["cluster"], capsys)
    assert "unknown action 'ups'" in error_line(["cluster", "ups"], capsys)


# Configuration


def test_flags_override_file_overrides_defaults(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("shards: here\nepochs: 7\nmixup: {rate: 0.9}\nmodel: {channels: [4, 8]}\n")
    config = parse(TrainClassifierConfig, "train-classifier", ["--run", "r", "--epochs", "9"], file)
    assert (config.epochs, config.mixup.rate, config.mixup.alpha) == (9, 0.9, 0.3)
    assert config.model.channels == (4, 8)
    assert config.shards == Path("here").absolute() and config.seed == 42


def test_resolved_settings_round_trip_through_a_file(tmp_path: Path) -> None:
    flags = ["--data", "d", "--out", "o", "--copies", "3", "--features.seconds", "2"]
    config = parse(ExtractConfig, "extract", flags)
    file = tmp_path / "resolved.yaml"
    file.write_text(yaml.safe_dump(config.to_dict()))
    assert parse(ExtractConfig, "extract", [], file) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 3", "unknown key 'epoch'; did you mean 'epochs'?"),
        ("mixup: {rat: 1}", "unknown key 'mixup.rat'; did you mean 'rate'?"),
        ("mixup: {rate: 7}", "'mixup.rate' = 7: input should be less than or equal to 1"),
        ("epochs: [1", "invalid YAML"),
        ("- 1", "not a list"),
    ],
)
def test_invalid_file_error_names_file_and_key(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text)
    line = error_line(["train-classifier", "--config", str(file), "--shards", "s", "--run", "r"], capsys)
    assert message in line and str(file) in line


def test_config_rejects_invalid_value_when_created() -> None:
    with pytest.raises(ConfigError, match=r"^'batch_size' = 1: input should be greater than or equal to 2$"):
        TrainClassifierConfig(shards=Path("s"), run=Path("r"), batch_size=1)


# Errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["extrakt"], "unknown command 'extrakt'; did you mean 'extract'?"),
        (["train"], "unknown command 'train'; did you mean 'train-classifier' or 'train-gan'?"),
        (["extract", "--config", "none.yaml"], "--config none.yaml: no such file"),
        (["extract", "--cpus", "0", "--data", "d", "--out", "o"], "--cpus 0: must be at least 1"),
        (["extract", "--log-level", "loud"], "--log-level: invalid choice: 'loud'"),
        (["extract", "--quiet", "--log-level", "debug"], "drop it or --log-level debug"),
        (
            ["train-classifier", "--shards", "s", "--run", "r", "--epochs", "0"],
            "--epochs 0: input should be greater than or equal to 1",
        ),
        *(
            (
                [*command, "--seed", str(2**64)],
                f"--seed {2**64}: input should be less than or equal to {2**62}",
            )
            for command in (
                ["extract", "--data", "d", "--out", "o"],
                ["train-gan", "--shards", "s", "--run", "r"],
                ["tune", "--shards", "s", "--run", "r"],
                ["generate", "--run", "r", "--out", "o"],
            )
        ),
        (["evaluate", "--run", "/nowhere"], "--run /nowhere: no such folder"),
        (["extract", "--data", "d", "--out", "o", "--fold-pattern", "x"], "--fold-pattern x: "),
    ],
)
def test_invalid_command_line_is_a_one_line_error(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in error_line(arguments, capsys)


TRAIN = "train-classifier --shards s --run r"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        # Unknown flags
        (f"{TRAIN} --epoch 3", "unknown flag '--epoch'; did you mean '--epochs'?"),
        (f"{TRAIN} --epoch=3", "unknown flag '--epoch'; did you mean '--epochs'?"),
        (f"{TRAIN} -epochs 3", "unknown flag '-epochs'; did you mean '--epochs'?"),
        (f"{TRAIN} —epochs 3", "unknown flag '—epochs'; did you mean '--epochs'?"),
        (f"{TRAIN} --Epochs 3", "unknown flag '--Epochs'; did you mean '--epochs'?"),
        (f"{TRAIN} --lr 1", "unknown flag '--lr'; did you mean '--learning-rate'?"),
        (f"{TRAIN} --num-workers 2", "unknown flag '--num-workers'; did you mean '--workers'?"),
        (f"{TRAIN} --device gpu", "--device gpu: unknown value; did you mean 'cuda'?"),
        (f"{TRAIN} --val-split 1", "--val-split: 1 given, but 2 values, separated by blanks, are expected"),
        (f"{TRAIN} --adress auto", "unknown flag '--adress'; did you mean '--address'?"),
        (f"{TRAIN} --xyz", "unknown flag '--xyz'; `melray train-classifier --help` lists the flags"),
        ("extract --data d --out o --sample-rate 8", "did you mean '--features.mel.sample-rate'?"),
        ("doctor --jsn", "unknown flag '--jsn'; did you mean '--json'?"),
        ("jobs logs id --folow", "unknown flag '--folow'; did you mean '--follow'?"),
        ("submit -- extract --dat d --out o", "unknown flag '--dat'; did you mean '--data'?"),
        ("extract --dat d --out o", "unknown flag '--dat'; did you mean '--data'?"),
        # Missing flags and values
        ("train-classifier --run r", "--shards: required; `melray train-classifier --help` lists the flags"),
        ("jobs logs", "id: required"),
        (f"{TRAIN} --epochs", "--epochs: value missing"),
        (f"{TRAIN} --epochs --quiet", "--epochs: value missing"),
        (f"{TRAIN} --cpus", "--cpus: expected one argument"),
        (f"{TRAIN} --epochs=", "--epochs: empty value; is a variable of the shell unset?"),
        # Values
        (f"{TRAIN} --epochs many", "--epochs: 'many' is not an integer"),
        (f"{TRAIN} --epochs 1.5", "--epochs: '1.5' is not an integer"),
        (f"{TRAIN} --fold first", "--fold: 'first' is not an integer"),
        ("extract --data d --out o --window 5s", "--window: '5s' is not a number"),
        (f"{TRAIN} --mixup.rate high", "--mixup.rate: 'high' is not a number"),
        (f"{TRAIN} --epochs -3", "--epochs -3: input should be greater than or equal to 1"),
        (f"{TRAIN} --model.arch vgg", "--model.arch vgg: unknown architecture; choose cnn, "),
        (f"{TRAIN} --model.channels 8,16", "--model.channels: ['8,16'] is not valid; separate"),
        (f"{TRAIN} --model.channels 8 0", "--model.channels 0: input should be"),
        (f"{TRAIN} --log-to mlfow", "--log-to mlfow: mlfow is no tracker; did you mean mlflow?"),
        ("extract --data hf://a/b --out o", "--data hf://a/b: names no dataset on the hub"),
        ("tune --shards s --run r --searcher tpee", "--searcher tpee: unknown value; did you mean 'tpe'?"),
        ("tune --shards s --run r --searcher best", "--searcher best: unknown value; choose tpe, random"),
        # Further arguments
        (f"{TRAIN} --epochs 3 4", "unexpected argument '4'; quote values that contain blanks"),
        ("train-classifier shards", "unexpected argument 'shards'"),
        ("extract --data d -- --out o", "only `melray submit` takes arguments after `--`"),
        # Flags given twice
        (f"{TRAIN} --run other", "--run: given twice"),
        (f"{TRAIN} --batch-size 8 --batch_size=9", "--batch_size: given twice"),
        (f"{TRAIN} --quiet --quiet", "--quiet: given twice"),
        ("jobs logs id --follow --no-follow", "--no-follow: given twice"),
    ],
)
def test_invalid_flag_is_named_with_a_hint(
    line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in error_line(line.split(), capsys)


def test_empty_value_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--out: empty value" in error_line(["extract", "--data", "d", "--out", ""], capsys)


def test_damaged_model_is_a_one_line_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{not json")
    assert "model.safetensors" in error_line(["evaluate", "--run", str(tmp_path)], capsys)


def test_damaged_checkpoints_error_suggests_another_run(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.write(1, {"model": {"x": torch.ones(2)}}, {"epoch": 1})
    (tmp_path / "checkpoints" / "epoch_0001" / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"no .* checkpoint.*choose another --run"):
        checkpoints.read()


@pytest.mark.parametrize(
    ("command", "flag"), [("extract", "--data"), ("predict", "--audio"), ("export", "--run")]
)
def test_storage_that_is_down_is_a_one_line_error(
    command: str,
    flag: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("time.sleep", lambda _: None)  # the hub's client waits before it tries again
    uri = "hf://datasets/me/sounds?endpoint=http://127.0.0.1:9"
    model = ["--run", str(save_classifier(tmp_path / "run"))] if command == "predict" else []
    assert run([command, flag, uri, *model, "--out", str(tmp_path / "out.onnx")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("melray: error: cannot reach http://127.0.0.1:9: ")
    assert command == "export" or error.endswith(f"while reading {flag} {uri}")


def test_closed_output_is_not_an_error() -> None:
    command = [sys.executable, "-c", "from cluster.cli import main; main()", "train-gan", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


# Common flags


def test_common_flags_may_appear_anywhere() -> None:
    arguments = "--data d --address auto --out o --quiet --debug".split()
    common, rest = split_common_flags(arguments)
    assert common == CommonFlags(None, "auto", None, "warning", True)
    assert rest == ["--data", "d", "--out", "o"]


@pytest.mark.parametrize(
    ("flags", "level"),
    [
        ([], logging.INFO),
        (["--quiet"], logging.WARNING),
        (["--log-level", "debug"], logging.DEBUG),
        (["--log-level=error"], logging.ERROR),
    ],
)
def test_flags_set_the_log_level(flags: list[str], level: int, capsys: pytest.CaptureFixture[str]) -> None:
    error_line(["evaluate", "--run", "/nowhere", *flags], capsys)
    assert logger.level == level


def test_flags_of_a_job_restore_the_parsed_flags() -> None:
    for flags in (
        [],
        ["--quiet"],
        ["--log-level", "debug", "--debug"],
        ["--no-ray", "--cpus", "3"],
        ["--ray"],
    ):
        common, _ = split_common_flags(flags)
        assert split_common_flags(job_flags(common)) == (common, [])


def test_error_is_red_on_a_terminal_only() -> None:
    import pty

    command = [sys.executable, "-c", "from cluster.cli import main; main()", "extrakt"]
    plain = subprocess.run(command, capture_output=True, text=True).stderr
    assert plain.startswith("melray: error: unknown command") and "\x1b" not in plain
    leader, follower = pty.openpty()
    environment = {"TERM": "xterm", "PATH": ""}
    with subprocess.Popen(command, stderr=follower, env=environment) as process:
        process.wait()
    import os

    colored = os.read(leader, 10_000).decode()
    assert colored.startswith("\x1b[31mmelray: error: unknown command")
    for descriptor in (leader, follower):
        os.close(descriptor)


def test_quiet_commands_print_no_settings(capsys: pytest.CaptureFixture[str]) -> None:
    config = parse(ExtractConfig, "extract", ["--data", "d", "--out", "o"])
    for level, is_printed in ((logging.INFO, True), (logging.WARNING, False)):
        logger.setLevel(level)
        print_config(config)
        assert ("copies: 1" in capsys.readouterr().out) == is_printed
    logger.setLevel(logging.INFO)
