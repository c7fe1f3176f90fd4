"""Generation with a trained vocoder: by command and in Python, repeatable, and only with matching ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

import melray
from pipeline.gan.config import GenerateConfig
from pipeline.gan.generate import generate
from pipeline.gan.loop import train_loop as train_gan_loop
from pipeline.gan.vocoder.loop import train_loop
from pipeline.io.errors import UserError
from tests.helpers.runs import SINGLE_WORKER
from tests.helpers.sounds import gan_config
from tests.pipeline.gan.vocoder.conftest import vocoder_config

pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def gan(overlapping: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = gan_config(overlapping, tmp_path_factory.mktemp("gan"), epochs=1, epoch_steps=30)
    train_gan_loop(config, SINGLE_WORKER)
    return config.run


@pytest.fixture(scope="module")
def vocoder(overlapping: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = vocoder_config(overlapping, tmp_path_factory.mktemp("vocoder"), epochs=1, epoch_steps=50)
    train_loop(config, SINGLE_WORKER)
    return config.run


def generated(run: Path, out: Path, **settings: object) -> dict[str, bytes]:
    generate(GenerateConfig(run=run, out=out, count=2, **settings))
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*.wav"))}


def test_clips_are_those_of_the_vocoder(gan: Path, vocoder: Path, tmp_path: Path) -> None:
    without = generated(gan, tmp_path / "without")
    with_vocoder = generated(gan, tmp_path / "with", vocoder=vocoder)
    assert list(without) == list(with_vocoder) and len(without) == 6
    assert all(without[name] != with_vocoder[name] for name in without)
    assert generated(gan, tmp_path / "again", vocoder=vocoder) == with_vocoder
    clip = melray.load_generator(gan, "cpu", vocoder=vocoder).generate("tone 1", 2)
    samples, _ = soundfile.read(tmp_path / "with/tone 1/seed_00002.wav", dtype="float32")
    np.testing.assert_allclose(clip.samples, samples, atol=1e-4)


def test_job_of_another_vocoder_is_another_one(gan: Path, vocoder: Path, tmp_path: Path) -> None:
    generated(gan, tmp_path, vocoder=vocoder)
    with pytest.raises(UserError, match="contains generated audio; choose another --out, or add --overwrite"):
        generated(gan, tmp_path)


def test_vocoder_of_other_spectrograms_is_refused(
    gan: Path, vocoder: Path, shards: Path, tmp_path: Path
) -> None:
    other = gan_config(shards, tmp_path / "gan", epochs=1, epoch_steps=1)
    train_gan_loop(other, SINGLE_WORKER)
    message = (
        r"^--vocoder .*: a vocoder of spectrograms with hop_length = 64, and those of the generator have 256"
    )
    with pytest.raises(UserError, match=message):
        generated(other.run, tmp_path / "out", vocoder=vocoder)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match=r"^vocoder .*hop_length = 64"):
        melray.load_generator(other.run, "cpu", vocoder=vocoder)
    with pytest.raises(
        UserError, match=r"^--vocoder .* holds a generator: give a run of `melray train-vocoder`"
    ):
        generated(gan, tmp_path / "out", vocoder=gan)
