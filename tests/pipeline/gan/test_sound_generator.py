"""Generation in this process: the clips of `melray generate`, with the prediction of their class."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.audio.waveform import encode_wav
from pipeline.gan.config import GenerateConfig
from pipeline.gan.generate import generate
from pipeline.gan.sound_generator import SoundGenerator
from pipeline.io.errors import UserError


@pytest.fixture(scope="module")
def generator(gan: Path) -> SoundGenerator:
    return SoundGenerator(gan, device="cpu")


def test_clips_equal_those_of_generate(gan: Path, generator: SoundGenerator, tmp_path: Path) -> None:
    table = generate(GenerateConfig(run=gan, out=tmp_path, label=("tone 1",), count=3, seed=4, device="cpu"))
    clips = generator.generate_many("tone 1", [4, 5, 6])
    for clip, row in zip(clips, table.to_dict("records"), strict=True):
        assert encode_wav(clip.samples, clip.sample_rate) == (tmp_path / row["file"]).read_bytes()
        assert (clip.predicted_label, clip.confidence) == (row["predicted_label"], row["confidence"])


def test_clip_does_not_depend_on_others(generator: SoundGenerator) -> None:
    one, two = generator.generate("tone 0", 7), generator.generate_many("tone 0", [3, 7])[1]
    np.testing.assert_array_equal(one.samples, two.samples)
    assert one.confidence == two.confidence
    assert one.samples.shape == (round(generator.seconds * generator.sample_rate),)


def test_clip_does_not_depend_on_the_number_of_threads(generator: SoundGenerator) -> None:
    expected = generator.generate("tone 0", 7)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        clip = generator.generate("tone 0", 7)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(clip.mel, expected.mel)
    np.testing.assert_array_equal(clip.samples, expected.samples)


def test_clip_is_saved_and_shown(generator: SoundGenerator, tmp_path: Path) -> None:
    clip = generator.generate("tone 0", 7)
    clip.save(str(tmp_path / "clip.wav"))
    assert (tmp_path / "clip.wav").read_bytes() == encode_wav(clip.samples, clip.sample_rate)
    assert repr(clip).startswith(
        f"<GeneratedClip of tone 0, seed 7: 1 s, predicted as {clip.predicted_label}"
    )
    assert "tone 0, seed 7" in clip._repr_html_()
    with pytest.raises(UserError, match="writing to"):
        clip.save(tmp_path / "missing" / "clip.wav")


@pytest.mark.parametrize(
    ("label", "seed", "message"),
    [
        ("dog", 0, "label 'dog': unknown class; available: 'tone 0'"),
        ("tone 0", -1, "seed -1: must be 0 or more"),
    ],
)
def test_unknown_class_or_negative_seed_is_error(
    generator: SoundGenerator, label: str, seed: int, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        generator.generate(label, seed)


def test_class_is_found_by_equivalent_texts(
    generator: SoundGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decomposed Unicode, as macOS writes names, and numbers."""
    names = ("grün", "7", *generator.class_names[2:])
    metadata = generator.metadata.model_copy(update={"class_names": names})
    monkeypatch.setattr(generator, "metadata", metadata)
    decomposed = unicodedata.normalize("NFD", "grün")
    assert decomposed != "grün" and generator.generate(decomposed).label == "grün"
    assert generator.generate(7).label == "7"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([1.5], "seed 1.5: expected a whole number"),
        ("12", "seed '1': expected a whole number"),
        (5, "seeds 5: expected a list of whole numbers"),
    ],
)
def test_seeds_are_whole_numbers(generator: SoundGenerator, seeds: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generator.generate_many("tone 0", seeds)


def test_seeds_of_numpy_and_no_seeds(generator: SoundGenerator) -> None:
    (clip,) = generator.generate_many("tone 0", np.array([7]))
    np.testing.assert_array_equal(clip.samples, generator.generate("tone 0", 7).samples)
    assert generator.generate_many("tone 0", []) == []


def test_clip_is_saved_as_wav_only(generator: SoundGenerator, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"clip.mp3': clips are written as WAV files; end its name with .wav"
    ):
        generator.generate("tone 0", 7).save(tmp_path / "clip.mp3")
    assert not list(tmp_path.iterdir())


def test_run_without_reference_classifier_predicts_nothing(gan: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for path in gan.iterdir():
        if path.name != "reference_classifiers":
            (run / path.name).symlink_to(path)
    clip = SoundGenerator(run, device="cpu").generate("tone 0")
    assert clip.predicted_label == "" and np.isnan(clip.confidence)
