"""Compiled networks equal plain ones; without a compiler one warning says why, and training continues."""

from __future__ import annotations

import logging
import shutil
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.classifier import Classifier, ClassifierConfig
from models.gan import GanConfig, Generator, sample_latents
from pipeline.classifier.loop import train_loop as train_classifier
from pipeline.gan.state import prepare as prepare_gan
from pipeline.io.console import logger
from pipeline.training import compile as compile_module
from pipeline.training.compile import CompiledModel, compile_model, missing_for_compile
from pipeline.training.run_folder import RunFolder
from tests.helpers.runs import SINGLE_WORKER
from tests.helpers.sounds import gan_config, train_config

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
needs_compiler = pytest.mark.skipif(
    missing_for_compile(CPU) is not None, reason=f"torch.compile: {missing_for_compile(CPU)}"
)
# Batch sizes of a training run: those of an epoch differ by at most one.
SIZES = (5, 4, 5)


class Warnings(logging.Handler):
    """The messages that melray logs during a test."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture
def warnings_logged() -> Iterator[list[str]]:
    handler = Warnings()
    logger.addHandler(handler)
    yield handler.messages
    logger.removeHandler(handler)


@pytest.fixture
def new_compiler(tmp_path: Path) -> Iterator[None]:
    """Forget compiled graphs, and use an empty folder for new ones."""
    from torch._inductor.utils import fresh_cache

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    with fresh_cache(dir=str(tmp_path)):
        yield
    torch._dynamo.reset()


def assert_nearly_equal(got: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """Check tensors up to a thousandth of their largest value: sums have another order when compiled."""
    for value, target in zip(got, expected, strict=True):
        torch.testing.assert_close(value, target, rtol=1e-3, atol=1e-3 * float(target.detach().abs().max()))


def compiled_graphs() -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def test_disabled_compile_returns_the_network() -> None:
    model = nn.Linear(2, 2)
    assert compile_model(model, enabled=False) is model


def test_missing_compiler_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings_logged: list[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    model = nn.Linear(2, 2)
    assert compile_model(model, enabled=True) is model
    assert warnings_logged == [
        "--compile: no C++ compiler (g++) in PATH (apt install g++); training without it"
    ]


def test_compiler_of_environment_variable_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "my-g++"
    shutil.copy("/bin/true", compiler)
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("CXX", str(compiler))
    assert "compiler" not in (missing_for_compile(CPU) or "")
    monkeypatch.setenv("CXX", str(tmp_path / "gone"))
    assert f"({tmp_path / 'gone'})" in (missing_for_compile(CPU) or "")


def test_missing_headers_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    reason = f"Python's headers are not installed: no {tmp_path}/Python.h (apt install python3-dev)"
    assert missing_for_compile(CPU) == reason
    (tmp_path / "Python.h").touch()
    assert missing_for_compile(CPU) is None


def test_missing_parts_on_gpu_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_module, "find_spec", lambda name: None)
    assert "triton is not installed" in (missing_for_compile(CUDA) or "")
    monkeypatch.setattr(compile_module, "find_spec", lambda name: name)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla P100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (6, 0))
    assert missing_for_compile(CUDA) == "Triton does not support Tesla P100"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert missing_for_compile(CUDA) == ("no C compiler (gcc or clang) in PATH (apt install gcc libc6-dev)")


def test_failing_compiler_falls_back_with_warning(new_compiler: None, warnings_logged: list[str]) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    compiled, values = CompiledModel(model), torch.randn(5, 3)
    with torch._inductor.config.patch({"cpp.cxx": (None, "/nonexistent/g++")}):
        outputs = [compiled(values) for _ in range(2)]
    assert all(torch.equal(output, model(values)) for output in outputs)
    (message,) = warnings_logged
    assert message.startswith("--compile: InvalidCxxCompiler: ") and message.endswith("; training without it")
    assert "\n" not in message


def test_arguments_reach_the_network_by_position_and_name(new_compiler: None) -> None:
    class Sum(nn.Module):
        def forward(self, x: Tensor, other: Tensor, factor: float = 1.0) -> Tensor:
            return x + factor * other

    compiled = CompiledModel(Sum())
    compiled._call = compiled.model  # without the compiler, which is slow
    assert compiled(torch.ones(2), other=torch.ones(2), factor=2.0).tolist() == [3.0, 3.0]


def test_error_of_the_network_is_raised(warnings_logged: list[str], new_compiler: None) -> None:
    """Only the compiler's errors are a reason to continue without it."""

    class Failing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("not finite")

    with pytest.raises(ValueError, match="not finite"):
        CompiledModel(Failing())(torch.ones(2))
    assert warnings_logged == []


@needs_compiler
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_compiled_classifier_equals_plain(new_compiler: None, norm: str) -> None:
    torch.manual_seed(0)
    config = ClassifierConfig(channels=(8, 12), convs_per_block=1, embedding_dim=16, dropout=0.0, norm=norm)
    model = Classifier(config, n_mels=16, num_classes=3)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    compiled = compile_model(model, enabled=True)
    assert isinstance(compiled, CompiledModel)
    for size in SIZES:
        mel_BMT = torch.randn(size, 16, 30) * 20 - 40
        expected, got = (logits_and_gradients(network, model, mel_BMT) for network in (model, compiled))
        assert_nearly_equal(got, expected)
    assert compiled_graphs() == 1


def logits_and_gradients(network: nn.Module, model: nn.Module, mel_BMT: Tensor) -> list[Tensor]:
    """Return the output of `model`, plain or compiled as `network`, and the gradients of its weights."""
    logits_BC = network(mel_BMT)
    return [logits_BC, *torch.autograd.grad(logits_BC.square().sum(), list(model.parameters()))]


@needs_compiler
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_compiled_generator_equals_plain(new_compiler: None) -> None:
    """One graph with and without gradients and for all batch sizes: another would take a minute on a GPU.

    Gradients are compared in tests/gpu/test_compile.py: those of PyTorch's CPU compiler are wrong.
    """
    torch.manual_seed(0)
    config, shape = GanConfig(channels=(4, 8), latent_dim=8, style_dim=8), (16, 20)
    model = Generator(config, shape, num_classes=3)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    compiled = compile_model(model, enabled=True)
    for size in SIZES:
        latents, label_B = sample_latents(config, shape, size, torch.Generator()), torch.arange(size) % 3
        with torch.no_grad():
            got = compiled(latents, label_B)
            assert not got.requires_grad
            assert_nearly_equal([got], [model(latents, label_B)])
        assert_nearly_equal([compiled(latents, label_B)], [model(latents, label_B)])
    assert compiled_graphs() == 1


@needs_compiler
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("texture", [False, True])
def test_classifier_training_compiled_equals_plain(
    new_compiler: None, shards: Path, tmp_path: Path, texture: bool
) -> None:
    model = ClassifierConfig(channels=(8,), convs_per_block=1, embedding_dim=16, dropout=0.0)
    model = model.model_copy(update={"texture": texture})
    losses = []
    for compiled in (False, True):
        config = train_config(shards, tmp_path / f"{compiled}", epochs=1, model=model, compile=compiled)
        config.run.mkdir()
        train_classifier(config, SINGLE_WORKER)
        losses.append(RunFolder(config.run).read_history()[-1]["train_loss"])
    assert compiled_graphs() >= 1
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_gan_is_not_compiled_on_cpu(shards: Path, tmp_path: Path, warnings_logged: list[str]) -> None:
    state = prepare_gan(gan_config(shards, tmp_path / "run", compile=True), SINGLE_WORKER)
    assert state.generator_forward is state.generator
    assert [message for message in warnings_logged if "wrong gradients" in message]
