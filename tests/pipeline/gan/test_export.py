"""Exported generators return the spectrograms of `melray generate`, without melray."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.gan import GanConfig, Generator
from pipeline.gan.export import export_generator
from pipeline.gan.sampling import generate_mels, latents_from_seeds
from pipeline.io.errors import UserError
from pipeline.training.export.config import ExportConfig
from pipeline.training.export.runtime import run_onnx, run_program
from pipeline.training.model_file import GeneratorMetadata, load_generator, save_model
from tests.helpers.sounds import SMALL_FEATURES

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")
# Tracing takes seconds, and minutes where many processes share the CPUs.
pytestmark = [pytest.mark.usefixtures("single_thread"), pytest.mark.timeout(600)]

LABELS = np.array([1, 0, 1])


@pytest.fixture(scope="module")
def gan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run of a generator with random weights, which reaches the limits of the range."""
    torch.manual_seed(0)
    run = tmp_path_factory.mktemp("random gan")
    config = GanConfig(latent_dim=8, style_dim=16, channels=(8, 16), patch=4)
    model = Generator(config, SMALL_FEATURES.shape, 2).eval()
    model.set_statistics(torch.full((16,), -50.0), torch.full((16,), 40.0))
    metadata = GeneratorMetadata(
        model=config, features=SMALL_FEATURES, class_names=("dog", "rain"), training={}
    )
    save_model(run, model, metadata)
    return run


def expected_mels(gan: Path) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Return the inputs of three clips, and the spectrograms that melray generates from them."""
    saved = load_generator(gan)
    latents = latents_from_seeds(saved.model, [5, 6, 7])
    mels = generate_mels(saved.model, latents, LABELS, SMALL_FEATURES.mel)
    return (latents.z_BZ.numpy(), latents.noise_BMT.numpy(), LABELS), mels


def test_onnx_generator_returns_spectrograms_of_melray(
    gan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "generator.onnx"
    export_generator(ExportConfig(run=gan, out=out))
    assert "the vocoder is not inside" in capsys.readouterr().out
    inputs, expected = expected_mels(gan)
    np.testing.assert_allclose(run_onnx(out.read_bytes())(*inputs), expected, atol=1e-3)
    session = onnxruntime.InferenceSession(out)
    assert [value.name for value in session.get_inputs()] == ["latent", "noise", "label"]
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["kind"] == "generator" and json.loads(metadata["class_names"]) == ["dog", "rain"]
    assert json.loads(metadata["latent_dim"]) == 8 and "vocoder" in metadata["output"]


@pytest.mark.slow
def test_torch_generator_returns_spectrograms_of_melray(gan: Path, tmp_path: Path) -> None:
    out = tmp_path / "generator.pt2"
    export_generator(ExportConfig(run=gan, out=out))
    inputs, expected = expected_mels(gan)
    run = run_program(out.read_bytes())
    np.testing.assert_allclose(run(*inputs), expected, atol=1e-3)
    np.testing.assert_allclose(run(*(values[:1] for values in inputs)), expected[:1], atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "flag"),
    [
        ({"quantize": "int8"}, "--quantize int8"),
        ({"trim": False}, "--no-trim"),
        ({"max_seconds": 10.0}, "--max-seconds 10.0"),
        ({"embeddings": True}, "--embeddings"),
    ],
)
def test_settings_of_classifiers_are_refused(gan: Path, tmp_path: Path, settings: dict, flag: str) -> None:
    with pytest.raises(
        UserError, match=f"^{flag}: .* holds a generator, which is exported without; drop it$"
    ):
        export_generator(ExportConfig(run=gan, out=tmp_path / "model.onnx", **settings))
