"""Generated clips, and real clips to compare them with."""

from __future__ import annotations

import asyncio
import io
import shutil
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
from PIL import Image
from pydantic import TypeAdapter

from cluster.serving.app import create_app
from cluster.serving.messages import Rejection, ServedClip
from cluster.serving.models import load_models
from cluster.serving.served import Label
from pipeline.gan.config import GenerateConfig
from pipeline.gan.generate import generate
from tests.helpers.serving import LIMITS, URL, client_of, save_generator, serve_here
from tests.helpers.sounds import RATE, SMALL_FEATURES, write_shards


def test_clip_has_bytes_of_generate(client: httpx.Client, generator_run: Path, tmp_path: Path) -> None:
    config = GenerateConfig(run=generator_run, out=tmp_path, label=("tone 1",), count=2, seed=4, device="cpu")
    files = [tmp_path / name for name in generate(config)["file"]]
    for seed, file in zip((4, 5), files, strict=True):
        response = client.get("/generate", params={"label": "tone 1", "seed": seed})
        assert response.headers["content-type"] == "audio/wav"
        assert response.content == file.read_bytes()


def test_classes_of_requests_are_composed_as_those_of_models() -> None:
    assert TypeAdapter(Label).validate_python("gru\u0308n") == "gr\u00fcn"


def test_spectrogram_has_shape_of_clips(client: httpx.Client) -> None:
    response = client.get("/generate/spectrogram", params={"label": "tone 0", "run": "tones"})
    assert response.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(response.content)).size == SMALL_FEATURES.shape[::-1]


@pytest.mark.parametrize(
    ("parameters", "status", "detail"),
    [
        ({"label": "dog"}, 422, "label 'dog': unknown class of run tones; /models lists them"),
        ({"label": "tone 0", "seed": -1}, 422, "seed: Input should be greater than or equal to 0"),
        ({"label": "tone 0", "run": "birds"}, 404, "run 'birds': no such generator; available: tones"),
        ({}, 422, "label: Field required"),
    ],
)
def test_bad_parameter_is_one_line(
    client: httpx.Client, parameters: dict[str, object], status: int, detail: str
) -> None:
    response = client.get("/generate", params=parameters)
    assert (response.status_code, response.json()) == (status, {"detail": detail})


class CountingGenerator:
    """Generator that counts its clips, and predicts a class with a name that no header can have."""

    def __init__(self) -> None:
        self.calls = 0

    async def generate(self, label: str, seed: int) -> ServedClip | Rejection:
        self.calls += 1
        await asyncio.sleep(0.01)
        return Rejection(422, "broken") if seed == 7 else ServedClip(b"wav", b"png", "tón é", 0.25)


def test_sound_and_image_of_clip_share_one_generation(generator_run: Path) -> None:
    generator = CountingGenerator()

    async def run() -> None:
        app = create_app(load_models([generator_run]), {"tones": generator}, LIMITS, max_requests=1)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=URL) as http:
            requests = [
                http.get(path, params={"label": "tone 0"}) for path in ("/generate", "/generate/spectrogram")
            ]
            sound, image = await asyncio.gather(*requests)
            assert (sound.content, image.content, generator.calls) == (b"wav", b"png", 1)
            assert sound.headers["X-Melray-Predicted-Label"] == "t%C3%B3n%20%C3%A9"
            assert sound.headers["X-Melray-Confidence"] == "0.250000"
            for _ in range(2):  # an error is not kept
                assert (await http.get("/generate", params={"label": "tone 0", "seed": 7})).status_code == 422
            assert generator.calls == 3

    asyncio.run(run())


def test_examples_are_real_clips_of_the_class(client: httpx.Client, shards: Path) -> None:
    examples = client.get("/examples", params={"label": "tone 1"}).json()
    files = sorted((shards.parent / "data" / "train" / "tone 1").iterdir())
    assert len(examples) == 6
    for example in examples:
        (file,) = [file for file in files if file.name == Path(example["clip_id"]).name]
        samples, rate = soundfile.read(io.BytesIO(client.get(example["audio"]).content))
        np.testing.assert_allclose(samples, soundfile.read(file)[0], atol=1e-4)
        assert rate == RATE
        image = Image.open(io.BytesIO(client.get(example["spectrogram"]).content))
        assert image.size == SMALL_FEATURES.shape[::-1]


def test_examples_without_files_are_made_from_spectrograms(tmp_path: Path) -> None:
    shards = write_shards(tmp_path, clips=2)
    shutil.rmtree(tmp_path / "data")
    run = save_generator(tmp_path / "run", shards)
    with client_of(serve_here([run])) as client:
        (first, _) = client.get("/examples", params={"label": "tone 2"}).json()
        samples, _ = soundfile.read(io.BytesIO(client.get(first["audio"]).content))
    spectrum = np.abs(np.fft.rfft(samples))
    assert 1100 < spectrum.argmax() * RATE / samples.size < 1300


def test_examples_are_empty_without_dataset(tmp_path: Path) -> None:
    run = save_generator(tmp_path / "run", tmp_path / "gone")
    with client_of(serve_here([run])) as client:
        assert client.get("/examples", params={"label": "tone 2"}).json() == []
        response = client.get("/examples/0/audio", params={"label": "tone 2"})
        assert (response.status_code, response.json()) == (404, {"detail": "example 0: there are 0"})
