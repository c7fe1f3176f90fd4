"""The Python interface: what `import melray` loads, that names and types agree, and no output."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import melray
from tests.helpers.classifier_training import train_run
from tests.helpers.label_sets import write_label_set_shards
from tests.helpers.sounds import RATE, tone, train_config, write_shards

ROOT = Path(__file__).parents[1]


def run_python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python code in a folder, which comes first on the search path."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, encoding="utf-8"
    )


def test_import_loads_no_library(tmp_path: Path) -> None:
    code = "import sys, melray; print(*sorted({'torch', 'ray', 'numpy', 'pandas'} & set(sys.modules)))"
    assert run_python(code, tmp_path).stdout.split() == []


def test_all_names_load_without_ray(tmp_path: Path) -> None:
    code = "import sys\nfrom melray import *\nprint('ray' in sys.modules, load_classifier.__name__)"
    assert run_python(code, tmp_path).stdout.split() == ["False", "load_classifier"]


def test_names_are_those_of_type_checkers() -> None:
    tree = ast.parse((ROOT / "melray/__init__.py").read_text(encoding="utf-8"))
    (checked,) = [node for node in tree.body if isinstance(node, ast.If)]
    imports = {
        alias.asname: (node.module, alias.name)
        for node in checked.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    used = {
        name: (module, melray._ORIGINAL_NAMES.get(name, name)) for name, module in melray._MODULES.items()
    }
    assert imports == used
    assert sorted(melray.__all__) == melray.__all__ == sorted({*used, "load_classifier", "load_generator"})


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'melray' has no attribute 'load_model'"):
        melray.load_model  # noqa: B018


@pytest.mark.parametrize("name", melray.__all__)
def test_documentation_describes_every_name(name: str) -> None:
    assert getattr(melray, name).__doc__
    assert f"`{name}" in (ROOT / "docs/python.md").read_text(encoding="utf-8")


def test_folder_of_that_name_does_not_hide_package(tmp_path: Path) -> None:
    (tmp_path / "melray").mkdir()  # as a clone is called
    code = "import melray; print(melray.__file__)"
    assert run_python(code, tmp_path).stdout.strip() == str(ROOT / "melray/__init__.py")


def test_run_is_trained_read_and_used_quietly(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shards = write_shards(tmp_path, clips=10)
    train_run(train_config(shards, tmp_path / "run", epochs=6, learning_rate=1e-2))
    capfd.readouterr()
    run = melray.read_run(str(tmp_path / "run"))
    assert list(run.history.index) == [1, 2, 3, 4, 5, 6] and run.is_complete
    assert run.history["val_accuracy"].max() == pytest.approx(run.summary["val_accuracy"])
    dataset = run.open_dataset()
    classifier = melray.load_classifier(str(tmp_path / "run"))
    mels, labels = dataset.arrays("validation")
    predicted = classifier.classify_mels(mels).argmax(axis=1)
    assert float(np.mean(predicted == labels)) == pytest.approx(run.summary["val_accuracy"])
    table = classifier.classify_many(tmp_path / "data")
    assert len(table) == (dataset.table["copy"] == 0).sum() and set(table["label"]) <= set(
        dataset.class_names
    )
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("load", [melray.load_classifier, melray.load_generator, melray.read_run])
def test_missing_run_is_named_without_a_flag(load, tmp_path: Path) -> None:
    with pytest.raises(melray.UserError) as error:
        load(tmp_path / "run")
    assert str(error.value).startswith(str(tmp_path / "run"))


def test_unsupported_uri_is_named() -> None:
    with pytest.raises(melray.UserError, match=r"ftp://host/run: unsupported storage URI"):
        melray.load_classifier("ftp://host/run")


def test_samples_of_file_have_its_rate(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(400), RATE, subtype="FLOAT")
    samples, rate = melray.load_audio(tmp_path / "a.wav")
    assert rate == RATE
    np.testing.assert_allclose(samples, tone(400), atol=1e-6)
    assert melray.load_audio(tmp_path / "a.wav", 2 * RATE)[0].size == 2 * samples.size


@pytest.mark.parametrize("rate", [500, 500_000])
def test_sounds_of_any_rate_have_spectrograms(tmp_path: Path, rate: int) -> None:
    """Ultrasound is recorded at 500 kHz, vibrations at a few hundred Hz."""
    path = tmp_path / "a.wav"
    samples = 0.3 * np.sin(2 * np.pi * 100 * np.arange(rate) / rate).astype(np.float32)
    soundfile.write(path, samples, rate, subtype="FLOAT")
    assert melray.spectrogram(path).shape[0] == melray.spectrogram(samples, sample_rate=rate).shape[0]
    assert melray.load_audio(path, 16_000)[0].size == 16_000
    with pytest.raises(
        ValueError, match=f"a.wav has a sample rate of {rate:,} Hz: give load_audio the one to"
    ):
        melray.load_audio(path)


def test_split_of_a_gan_of_one_class_can_be_opened(tmp_path: Path) -> None:
    shards = write_shards(tmp_path, classes=1, clips=10)
    mels, labels = melray.open_dataset(shards).arrays("train")
    assert len(mels) == len(labels) == 16 and set(labels) == {0}


def test_multi_label_dataset_whose_clips_have_the_same_classes_can_be_opened(tmp_path: Path) -> None:
    shards = write_label_set_shards(tmp_path / "all", recordings=6, rates=(1.0, 1.0))
    dataset = melray.open_dataset(shards)
    assert set(dataset.table["label"]) == {"tone 0;tone 1"} and len(dataset.split.train)
