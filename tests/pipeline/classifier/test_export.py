"""Exported classifiers predict what `melray predict` does, without melray."""

from __future__ import annotations

import json
import re
import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile

from models.classifier import ClassifierConfig
from models.config import ConfigError
from pipeline.audio.decode import decode
from pipeline.audio.features import FeatureConfig
from pipeline.audio.mel import MelConfig
from pipeline.classifier.export import ClassifierParts, classifier_metadata, export_classifier
from pipeline.classifier.export_checks import predict_sound
from pipeline.classifier.predict import PredictConfig, predict
from pipeline.classifier.predictor_model import load_predictor, predictor_digest
from pipeline.classifier.sound_classifier import SoundClassifier
from pipeline.classifier.train import begin_run, train_in_process
from pipeline.distributed.batch_job import run_in_process
from pipeline.io.errors import UserError
from pipeline.training.export.config import ExportConfig
from pipeline.training.export.quantization import quantize_int8
from pipeline.training.export.runtime import run_onnx, run_program
from tests.helpers.audio_formats import RATE, noise, sine, write_valid_files
from tests.helpers.exported import run_torch_program, save_random_classifier
from tests.helpers.sounds import train_config
from tests.helpers.timm import needs_timm

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")
# Tracing takes seconds, and minutes where many processes share the CPUs.
pytestmark = [pytest.mark.usefixtures("single_thread"), pytest.mark.timeout(600)]

FEATURES = FeatureConfig(mel=MelConfig(sample_rate=RATE, n_fft=256, hop_length=100, n_mels=32), seconds=1.0)
TOLERANCE = 1e-3


def export(run: Path, out: Path, **settings: object) -> Path:
    export_classifier(ExportConfig(run=run, out=out, **settings))
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_classifier(tmp_path_factory.mktemp("random") / "run", FEATURES)


class Exported(NamedTuple):
    """An exported file, and what the export printed."""

    path: Path
    printed: str


def export_with_embeddings(run: Path, out: Path) -> Exported:
    with redirect_stdout(StringIO()) as printed:
        export(run, out, embeddings=True, max_seconds=30)
    return Exported(out, printed.getvalue())


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Return an ONNX file of the run, with embeddings: its export takes long, so there is only one."""
    return export_with_embeddings(run, tmp_path_factory.mktemp("exported") / "model.onnx")


@pytest.fixture(scope="module")
def model(exported: Exported) -> Path:
    return exported.path


@pytest.fixture(scope="module")
def odd_audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of files of many formats, and of short, silent, loud and long sounds."""
    folder = tmp_path_factory.mktemp("odd audio")
    write_valid_files(folder)
    stereo = np.stack([noise(2.3), sine(1000, 2.3)], axis=1)
    quiet_ends = np.concatenate([1e-4 * noise(0.6), sine(700, 0.5), np.zeros(3000, np.float32)])
    sounds = {
        "short": noise(0.13),
        "silent": np.zeros(RATE, np.float32),
        "constant": np.full(RATE, 0.25, np.float32),
        "loud": 100 * noise(1.0),
        "long": noise(30.0, seed=1) * np.linspace(0, 1, 30 * RATE, dtype=np.float32),
        "stereo": stereo,
        "quiet ends": quiet_ends,
    }
    for name, samples in sounds.items():
        soundfile.write(folder / f"{name}.wav", samples, RATE, subtype="FLOAT")
    return folder


def predictions(run: Path, audio: Path, out: Path) -> dict[Path, np.ndarray]:
    """Return the probabilities of `melray predict` for each file."""
    table = predict(PredictConfig(run=run, audio=(audio,), out=out), run_in_process)
    values = table[[f"p:{name}" for name in load_predictor(run).metadata.class_names]].to_numpy()
    return dict(zip(map(Path, table["path"]), values, strict=True))


def test_onnx_model_predicts_odd_audio_as_melray(
    run: Path, model: Path, odd_audio: Path, tmp_path: Path
) -> None:
    expected = predictions(run, odd_audio, tmp_path / "out")
    assert len(expected) == 17
    assert np.ptp(list(expected.values()), axis=0).max() > 0.5  # sounds are distinguished
    session = run_onnx(model.read_bytes())
    for path, probabilities in expected.items():
        (actual,) = session(decode(path, RATE)[None])
        np.testing.assert_allclose(actual, probabilities, atol=TOLERANCE, err_msg=path.name)


@pytest.mark.parametrize("ending", ["onnx", pytest.param("pt2", marks=pytest.mark.slow)])
def test_embeddings_are_a_second_output(
    run: Path, odd_audio: Path, tmp_path: Path, exported: Exported, ending: str
) -> None:
    path, printed = exported if ending == "onnx" else export_with_embeddings(run, tmp_path / "model.pt2")
    assert re.search(r"melray predict`: probabilities .*e-.*, embeddings .*e-", printed)
    classifier = SoundClassifier(run, device="cpu")
    model = (run_onnx if ending == "onnx" else run_program)(path.read_bytes())
    for path in sorted(odd_audio.iterdir()):
        samples = decode(path, RATE)
        probabilities, embeddings = model.outputs(samples[None])
        expected = classifier.embed(samples, RATE)
        assert embeddings.shape == (1, classifier.embedding_dim)
        np.testing.assert_allclose(embeddings[0], expected, atol=TOLERANCE, err_msg=path.name)
        expected = classifier.classify_samples(samples, RATE)
        np.testing.assert_allclose(probabilities[0], expected, atol=TOLERANCE, err_msg=path.name)


def test_file_states_its_embeddings(run: Path) -> None:
    saved = load_predictor(run)
    configs = [ExportConfig(run=run, out=Path("a.onnx"), embeddings=value) for value in (True, False)]
    facts = [classifier_metadata(config, saved) for config in configs]
    assert [fact["embedding_dim"] for fact in facts] == [saved.model.embedding_dim, None]
    assert ["embeddings" in fact["output"] for fact in facts] == [True, False]


@needs_timm
def test_network_of_timm_is_exported(tmp_path: Path) -> None:
    network = ClassifierConfig(arch="timm:test_resnet", embedding_dim=16)
    run = save_random_classifier(tmp_path / "run", FEATURES, config=network)
    session, samples = run_onnx(export(run, tmp_path / "model.onnx").read_bytes()), noise(1.0, seed=1)
    expected = predict_sound(load_predictor(run), samples, trim=True)
    np.testing.assert_allclose(session(samples[None])[0], expected, atol=TOLERANCE)


@pytest.mark.parametrize(
    "inputs",
    [
        {"input": "db+pcen", "modulation": False, "texture": False},
        pytest.param({"input": "pcen"}, marks=pytest.mark.slow),  # a minute
    ],
    ids=["db+pcen", "pcen"],
)
def test_onnx_model_of_other_inputs_predicts_as_melray(tmp_path: Path, inputs: dict[str, Any]) -> None:
    network = {"channels": (8, 16), "convs_per_block": 1, "embedding_dim": 16}
    config = ClassifierConfig(**network, **inputs)
    run = save_random_classifier(tmp_path / "run", FEATURES, config=config)
    saved = load_predictor(run)
    session = run_onnx(export(run, tmp_path / "model.onnx").read_bytes())
    sounds = [noise(0.7), sine(1000, 1.0), 0.01 * sine(300, 1.5), np.zeros(RATE, np.float32), 10 * noise(3.0)]
    expected = np.stack([predict_sound(saved, samples, trim=True) for samples in sounds])
    assert np.ptp(expected, axis=0).max() > 0.2  # sounds are distinguished
    for samples, probabilities in zip(sounds, expected, strict=True):
        (actual,) = session(samples[None])
        np.testing.assert_allclose(actual, probabilities, atol=TOLERANCE)


@pytest.mark.parametrize("num_samples", [1, 100, RATE, 10 * RATE])
def test_onnx_model_takes_any_batch_and_length(run: Path, model: Path, num_samples: int) -> None:
    saved, session = load_predictor(run), run_onnx(model.read_bytes())
    batch = np.stack([noise(num_samples / RATE, seed=seed) for seed in range(5)])
    expected = np.stack([predict_sound(saved, samples, trim=True) for samples in batch])
    np.testing.assert_allclose(session(batch), expected, atol=TOLERANCE)
    np.testing.assert_allclose(session(batch[:1]), expected[:1], atol=TOLERANCE)


def test_onnx_file_states_how_to_use_it(run: Path, model: Path) -> None:
    import onnx

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["class_names"]) == ["a", "b", "c", "ä"]
    assert metadata["kind"] == "classifier" and metadata["run_digest"] == predictor_digest(run)
    values = {
        name: json.loads(metadata[name]) for name in ("sample_rate", "seconds", "num_samples", "trim_db")
    }
    assert values == {"sample_rate": RATE, "seconds": 1.0, "num_samples": RATE, "trim_db": 60.0}
    assert json.loads(metadata["mel"]) == FEATURES.mel.to_dict()
    assert json.loads(metadata["multi_label"]) is False and json.loads(metadata["thresholds"]) is None
    assert metadata["melray_version"] and metadata["format_version"] == "1"
    assert [value.shape for value in session.get_inputs()] == [["batch", "num_samples"]]
    embedding_dim = int(metadata["embedding_dim"])
    assert [value.shape for value in session.get_outputs()] == [["batch", 4], ["batch", embedding_dim]]
    # What ONNX Runtime 1.17 reads, and no data outside of the file.
    content = onnx.load(model, load_external_data=False)
    assert content.ir_version <= 9 and [(i.domain, i.version <= 20) for i in content.opset_import] == [
        ("", True)
    ]
    assert not any(tensor.external_data for tensor in content.graph.initializer)


@pytest.mark.slow
def test_torch_program_predicts_odd_audio_without_melray(run: Path, odd_audio: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warned of weights that are not in the usual order
        model = export(run, tmp_path / "model.pt2", max_seconds=30)
    saved = load_predictor(run)
    samples = [decode(path, RATE) for path in sorted(odd_audio.iterdir())]
    outputs, metadata = run_torch_program(model, [sound[None] for sound in samples], tmp_path)
    for sound, output in zip(samples, outputs, strict=True):
        np.testing.assert_allclose(output[0], predict_sound(saved, sound, trim=True), atol=TOLERANCE)
    assert json.loads(metadata["class_names"]) == ["a", "b", "c", "ä"]


@pytest.mark.slow
def test_multi_label_ensemble_without_trimming_is_exported(tmp_path: Path) -> None:
    thresholds = (0.1, 0.2, 0.3, 0.4)
    settings = {"multi_label": True, "thresholds": thresholds}
    network = ClassifierConfig(arch="resnet-se", norm="group", channels=(8, 8), embedding_dim=8)
    for number in (1, 2):
        folder = tmp_path / "run" / f"member_{number}"
        save_random_classifier(folder, FEATURES, number, network, **settings)
    record = {"members": ["member_1", "member_2"], "temperature": 0.7}
    (tmp_path / "run" / "ensemble.json").write_text(json.dumps(record))
    model = export(tmp_path / "run", tmp_path / "model.onnx", trim=False)
    saved, session = load_predictor(tmp_path / "run"), run_onnx(model.read_bytes())
    batch = np.stack(
        [np.concatenate([np.zeros(2000, np.float32), noise(1.0, seed=seed)]) for seed in range(3)]
    )
    expected = np.stack([predict_sound(saved, samples, trim=False) for samples in batch])
    np.testing.assert_allclose(session(batch), expected, atol=TOLERANCE)
    metadata = onnxruntime.InferenceSession(model).get_modelmeta().custom_metadata_map
    assert tuple(json.loads(metadata["thresholds"])) == thresholds and metadata["models"] == "2"
    assert json.loads(metadata["trim_db"]) is None


@pytest.mark.slow
def test_int8_model_is_smaller_and_predicts_alike(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = ClassifierConfig(channels=(16, 64), convs_per_block=2, embedding_dim=16)
    config = train_config(shards, tmp_path / "run", model=network, epochs=8, learning_rate=1e-2)
    begin_run(config)
    train_in_process(config)
    large = export(config.run, tmp_path / "float32.onnx")
    capsys.readouterr()
    small = export(config.run, tmp_path / "int8.onnx", quantize="int8")
    printed = capsys.readouterr().out
    assert "int8 against float32 on 6 validation clips: same prediction 100.0%" in printed
    saved = load_predictor(config.run)
    weights = sum(value.numel() for value in saved.model.blocks.parameters())
    assert large.stat().st_size - small.stat().st_size > 2 * weights  # of 4 bytes, about one remains
    files = sorted((shards.parent / "data").rglob("*.wav"))
    samples = np.stack([decode(path, RATE) for path in files])
    exact, quantized = (run_onnx(path.read_bytes())(samples) for path in (large, small))
    assert 0 < np.abs(exact - quantized).max() < 0.2
    assert (exact.argmax(axis=1) == quantized.argmax(axis=1)).all()


@pytest.mark.slow
def test_input_of_int8_network_is_computed_in_float32(tmp_path: Path) -> None:
    """8 bits would hold neither the powers of PCEN nor those of a modulation spectrum, nor statistics."""
    config = ClassifierConfig(
        channels=(8, 16), convs_per_block=1, embedding_dim=16, input="db+pcen", modulation=True, texture=True
    )
    saved = load_predictor(save_random_classifier(tmp_path / "run", FEATURES, config=config))
    settings = ExportConfig(run=tmp_path / "run", out=tmp_path / "model.onnx", quantize="int8")
    network = ClassifierParts(settings, saved).separate_onnx()[1]
    quantized = quantize_int8(
        network, np.random.default_rng(0).uniform(-80, 0, (6, *FEATURES.shape)).astype("f4")
    )
    operators = [node.op_type for node in quantized.graph.node]
    first_conv = operators.index("Conv")
    products = [index for index, operator in enumerate(operators) if operator == "MatMul"]
    assert min(products) < first_conv
    integer = {
        name for node in quantized.graph.node if node.op_type == "DequantizeLinear" for name in node.output
    }
    for index in products:
        if index < first_conv:
            assert not integer.intersection(quantized.graph.node[index].input)
    assert any(integer.intersection(node.input) for node in quantized.graph.node if node.op_type == "Conv")


@pytest.mark.slow
def test_command_checks_files_of_the_run(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = train_config(shards, tmp_path / "run", epochs=1)
    begin_run(config)
    train_in_process(config)
    export(config.run, tmp_path / "model.pt2")
    assert "(6 validation clips and 5 synthetic sounds)" in capsys.readouterr().out


def test_existing_file_is_kept(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.pt2"
    out.write_text("mine")
    with pytest.raises(UserError, match=r"^--out .*model.pt2 exists: .* add --overwrite to replace it$"):
        export(run, out)
    assert out.read_text() == "mine"


@pytest.mark.slow
def test_overwritten_file_is_the_only_one_left(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "new folder" / "model.pt2"
    out.parent.mkdir()
    out.write_text("mine")
    export(run, out, overwrite=True)
    assert out.stat().st_size > 10_000
    assert [path.name for path in out.parent.iterdir()] == ["model.pt2"]


def test_unusable_settings_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^--run .*: its shards|no config.json in it: give its shards by --shards$"
    ):
        export(run, tmp_path / "model.onnx", quantize="int8")
    with pytest.raises(UserError, match=r"^--max-seconds 0.5: less than a clip of the run, 1 s$"):
        export(run, tmp_path / "model.onnx", max_seconds=0.5)
    with pytest.raises(UserError, match=r"^--out .* is a folder"):
        export(run, tmp_path, format="onnx")
    with pytest.raises(ConfigError, match=r"--out .*model.tflite: must end with .onnx or .pt2"):
        ExportConfig.parse({"run": str(run), "out": str(tmp_path / "model.tflite")})
    with pytest.raises(ConfigError, match="--quantize int8: only of --format onnx"):
        ExportConfig.parse({"run": str(run), "out": str(tmp_path / "model.pt2"), "quantize": "int8"})
    assert not list(tmp_path.iterdir())


def test_missing_package_is_named(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"needs onnx.*: pip install 'melray\[export\]'$"):
        export(run, tmp_path / "model.onnx")


@pytest.mark.slow
def test_exported_models_predict_esc10_as_melray(esc10: list[Path], tmp_path: Path) -> None:
    network = ClassifierConfig()
    run = save_random_classifier(tmp_path / "run", FeatureConfig(), config=network)
    saved = load_predictor(run)
    clips = [decode(path, 22_050) for path in esc10[::10]]
    expected = [predict_sound(saved, samples, trim=True) for samples in clips]
    assert np.ptp(expected, axis=0).max() > 0.1
    onnx_model = run_onnx(export(run, tmp_path / "model.onnx").read_bytes())
    program = export(run, tmp_path / "model.pt2")
    outputs, _ = run_torch_program(program, [samples[None] for samples in clips], tmp_path)
    for samples, probabilities, output in zip(clips, expected, outputs, strict=True):
        np.testing.assert_allclose(onnx_model(samples[None])[0], probabilities, atol=TOLERANCE)
        np.testing.assert_allclose(output[0], probabilities, atol=TOLERANCE)
