"""`POST /classify`: the probabilities of `melray predict`, its reasons for bad audio, and all limits."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
import soundfile

from cluster.serving import classifier_replica
from cluster.serving.analysis import analyze
from cluster.serving.app import create_app
from cluster.serving.classification_json import encode_classification
from cluster.serving.classifier_replica import CRASHED
from cluster.serving.messages import Classification, Rejection, Sound, WindowScores
from cluster.serving.models import load_models
from pipeline.audio.features import FeatureConfig
from pipeline.classifier.predict import PredictConfig, write_predictions
from pipeline.distributed.batch_job import run_in_process
from tests.helpers.crashing import crash
from tests.helpers.processes import wait_until
from tests.helpers.serving import LIMITS, URL, client_of, flac_of_silence, serve_here, wav_bytes
from tests.helpers.sounds import RATE, SMALL_FEATURES, tone

SOUND = wav_bytes(tone(400), RATE)
TOO_LARGE = "larger than the 1 MB that this server accepts"


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a clip, a shorter one, a recording, and files that cannot be read."""
    folder = tmp_path_factory.mktemp("audio")
    soundfile.write(folder / "clip.wav", tone(600, 1.2), RATE)
    soundfile.write(folder / "short.flac", tone(600, 0.3), RATE)
    soundfile.write(folder / "long.wav", np.concatenate([tone(400, 2.0), tone(900, 1.7)]), RATE)
    (folder / "cut.wav").write_bytes(SOUND[: len(SOUND) // 2])
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("no sound")
    (folder / "text.m4a").write_text("no sound")
    return folder


@pytest.fixture(scope="module")
def predicted(classifier_run: Path, audio: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Predict all files; return the folder of the results."""
    out = tmp_path_factory.mktemp("predicted")
    config = PredictConfig(run=classifier_run, audio=audio, out=out, device="cpu", embeddings=True)
    write_predictions(config, run_in_process)
    return out


def probabilities(response: httpx.Response) -> dict[str, float]:
    assert response.status_code == 200, response.text
    return {row["label"]: row["probability"] for row in response.json()["predictions"]}


def test_files_have_probabilities_of_predict(client: httpx.Client, audio: Path, predicted: Path) -> None:
    table = pd.read_parquet(predicted / "predictions.parquet").set_index("id")
    for name in ("clip.wav", "short.flac"):
        content = (audio / name).read_bytes()
        as_form = client.post("/classify", files={"file": (f"../x/{name}", content)})
        as_body = client.post("/classify", content=content)
        expected = table.loc[name].filter(like="p:")
        for label, value in probabilities(as_form).items():
            assert value == pytest.approx(expected[f"p:{label}"], abs=1e-6)
        assert probabilities(as_body) == probabilities(as_form)
        result = as_form.json()
        assert (result["file"], as_body.json()["file"]) == (name, "")
        assert (result["windows"], result["events"], result["spectrogram"]) == (None, [], None)
        values = [row["probability"] for row in result["predictions"]]
        assert values == sorted(values, reverse=True) and sum(values) == pytest.approx(1)


def test_recording_has_windows_of_predict(
    client: httpx.Client, classifier_run: Path, audio: Path, tmp_path: Path
) -> None:
    config = PredictConfig(
        run=classifier_run,
        audio=audio / "long.wav",
        out=tmp_path,
        device="cpu",
        window=1.0,
        hop=0.5,
        embeddings=True,
    )
    write_predictions(config, run_in_process)
    table = pd.read_parquet(tmp_path / "windows.parquet")
    content = (audio / "long.wav").read_bytes()
    response = client.post("/classify", content=content, params={"embeddings": True})
    windows = response.json()["windows"]
    embeddings = np.stack(table["embedding"])
    np.testing.assert_allclose(windows["embeddings"], embeddings, atol=1e-4)
    np.testing.assert_allclose(response.json()["embedding"], embeddings.mean(axis=0), atol=1e-4)
    assert (windows["seconds"], windows["hop"]) == (1.0, 0.5)
    assert windows["starts"] == table["start"].tolist()
    expected = table[[f"p:{name}" for name in windows["classes"]]].to_numpy()
    np.testing.assert_allclose(windows["probabilities"], expected, atol=1e-6)
    for label, value in probabilities(response).items():
        assert value == pytest.approx(table[f"p:{label}"].mean(), abs=1e-6)


def test_embedding_is_that_of_predict(client: httpx.Client, audio: Path, predicted: Path) -> None:
    table = pd.read_parquet(predicted / "predictions.parquet").set_index("id")
    content = (audio / "clip.wav").read_bytes()
    result = client.post("/classify", content=content, params={"embeddings": True}).json()
    np.testing.assert_allclose(result["embedding"], table.loc["clip.wav", "embedding"], atol=1e-4)
    assert "embedding" not in client.post("/classify", content=content).json()


def test_hop_makes_windows_of_short_sound(client: httpx.Client) -> None:
    result = client.post("/classify", params={"hop": 0.25}, content=wav_bytes(tone(400, 1.3), RATE)).json()
    assert result["windows"]["starts"] == [0.0, 0.25]
    assert all(event["end"] <= 1.3 for event in result["events"])


def test_spectrogram_covers_the_sound(client: httpx.Client) -> None:
    parameters = {"spectrogram": True}
    image = client.post("/classify", params=parameters, content=SOUND).json()["spectrogram"]
    assert image["image"].startswith("data:image/png;base64,")
    assert image["seconds"] == pytest.approx(1.0, abs=0.05)
    assert (image["min_hz"], image["max_hz"]) == (0, RATE / 2)


@pytest.mark.parametrize("name", ["cut.wav", "empty.wav", "text.wav", "text.m4a"])
def test_bad_audio_has_reason_of_rejected_csv(
    client: httpx.Client, audio: Path, predicted: Path, name: str
) -> None:
    reasons = pd.read_csv(predicted / "rejected.csv").set_index("clip_id")["reason"]
    response = client.post("/classify", files={"file": (name, (audio / name).read_bytes())})
    assert (response.status_code, response.json()) == (422, {"detail": reasons[name]})


def test_warning_of_sound_is_returned(client: httpx.Client) -> None:
    result = client.post("/classify", content=wav_bytes(np.zeros(RATE), RATE)).json()
    assert result["warnings"] == ["digital silence: every sample is zero"]


def test_large_upload_is_refused_while_it_is_read(classifier_run: Path) -> None:
    app, sent, sent_before_response = serve_here([classifier_run]), [], []

    async def noting_app(scope, receive, send) -> None:
        async def note(message) -> None:
            if message["type"] == "http.response.start":
                sent_before_response.append(len(sent))
            await send(message)

        await app(scope, receive, note)

    async def endless():
        sent.clear()
        while True:
            sent.append(1)
            yield bytes(100_000)

    async def post() -> list[httpx.Response]:
        transport = httpx.ASGITransport(noting_app)
        async with httpx.AsyncClient(transport=transport, base_url=URL) as http:
            start = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'

            async def form():
                yield start
                async for chunk in endless():
                    yield chunk

            headers = {"Content-Type": "multipart/form-data; boundary=x"}
            return [
                await http.post("/classify", content=endless(), headers={"Content-Length": str(10**10)}),
                await http.post("/classify", content=endless()),
                await http.post("/classify", content=form(), headers=headers),
            ]

    for response in asyncio.run(post()):
        assert (response.status_code, response.json()) == (413, {"detail": TOO_LARGE})
    assert sent_before_response[0] == 0
    assert all(10 < count < 15 for count in sent_before_response[1:])


def test_client_that_sends_all_of_a_large_upload_first_gets_the_reason(client: httpx.Client) -> None:
    body = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    with socket.create_connection((client.base_url.host, client.base_url.port)) as connection:
        connection.settimeout(30)
        connection.sendall(
            b"POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(500):  # 33 MB, more than a connection buffers
            connection.sendall(body)
        connection.sendall(b"0\r\n\r\n")
        received = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert received.startswith(b"HTTP/1.1 413") and received.endswith(f'{{"detail":"{TOO_LARGE}"}}'.encode())


@pytest.mark.parametrize("declared", [lambda frames: frames, lambda frames: 0, lambda frames: RATE])
def test_long_sound_is_refused_whatever_header_declares(client: httpx.Client, declared) -> None:
    content = flac_of_silence(3600, declared=declared)
    assert len(content) < 1e6
    response = client.post("/classify", content=content)
    assert response.status_code == 413
    assert response.json()["detail"] == "longer than the 20 s that this server accepts"


def test_crashing_decoder_fails_its_request_only(
    classifier_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with client_of(serve_here([classifier_run])) as client:
        with monkeypatch.context() as patch:
            patch.setattr(classifier_replica, "analyze", crash)
            response = client.post("/classify", content=SOUND)
        assert (response.status_code, response.json()) == (422, {"detail": CRASHED})
        assert client.post("/classify", content=SOUND).status_code == 200


@pytest.mark.parametrize(
    ("parameters", "status", "detail"),
    [
        ({"hop": 0}, 422, "hop: Input should be greater than or equal to 0.001"),
        ({"hop": "nan"}, 422, "hop: Input should be a finite number"),
        ({"hop": 0.001}, 422, "hop 0.001: 2,101 windows, more than 2,000; raise it"),
        ({"hop": 1.5}, 422, "hop 1.5: leaves gaps between windows of 1 s; lower it"),
        (
            {"hops": 1, "a": 2},
            422,
            "hops, a: unknown parameter of /classify; known: run, hop, spectrogram, embeddings",
        ),
        ([("hop", 1), ("hop", 0.5)], 422, "hop: given more than once"),
        ({"run": "none"}, 404, "run 'none': no such classifier; available: birds"),
        ({"run": "tones"}, 404, "run 'tones': no such classifier; available: birds"),
    ],
)
def test_bad_parameter_is_one_line(client: httpx.Client, parameters: Any, status: int, detail: str) -> None:
    sound = wav_bytes(tone(400, 3.2), RATE)
    response = client.post("/classify", params=parameters, content=sound)
    assert (response.status_code, response.json()) == (status, {"detail": detail})


@pytest.mark.parametrize(
    ("content", "status", "detail"),
    [
        (
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n',
            422,
            "no file in a field 'file'",
        ),
        (b"--y\r\n", 400, "malformed multipart body"),
    ],
)
def test_form_without_file_is_refused(client: httpx.Client, content: bytes, status: int, detail: str) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    response = client.post("/classify", content=content, headers=headers)
    assert response.status_code == status
    assert detail in response.json()["detail"]


@pytest.mark.parametrize("header", ["", "Content-Type: multipart/form-data; boundary=x\r\n"])
def test_canceled_upload_ends_its_request_quietly(
    classifier_run: Path, caplog: pytest.LogCaptureFixture, header: str
) -> None:
    def upload() -> int:
        return client.post("/classify", content=SOUND).status_code

    start = f"POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\n{header}Content-Length: 1000\r\n\r\n--x"
    with client_of(serve_here([classifier_run], max_requests=1)) as client:
        address = client.base_url.host, client.base_url.port
        with socket.create_connection(address) as connection:
            connection.sendall(start.encode())
            wait_until(lambda: upload() == 503)
        wait_until(lambda: upload() == 200)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_hop_is_not_tiny_for_the_clip_length() -> None:
    features = FeatureConfig(mel=SMALL_FEATURES.mel, seconds=10.0)
    result = analyze(Sound("", SOUND, hop=0.004), features, max_seconds=20)
    assert result == Rejection(422, "hop 0.004: less than 0.005 s, 1/2,000 of a clip; raise it")


def test_too_many_windows_name_what_helps() -> None:
    """With the longest hop, which has no gaps, of a sound that is not too long for it."""
    features = FeatureConfig(mel=SMALL_FEATURES.mel, seconds=0.01)
    sounds = [wav_bytes(np.resize(tone(400), seconds * RATE), RATE) for seconds in (24, 15)]
    long, shorter = (analyze(Sound("", sound), features, max_seconds=3600) for sound in sounds)
    assert long == Rejection(413, "longer than 20 s, which are 2,000 windows; use `melray predict --window`")
    assert shorter == Rejection(422, "hop 0.005: 2,999 windows, more than 2,000; raise it")


def test_unreadable_window_is_null(classifier_run: Path) -> None:
    (model,) = load_models([classifier_run])
    rows = np.array([[0.25, 0.75], [np.nan, np.nan], [1.0, 0.0]], np.float32)
    scores = WindowScores(1.0, 0.5, [0.0, 0.5, 1.0], rows)
    result = json.loads(encode_classification(model, "ä.wav", Classification(2.0, rows[0], scores)))
    assert result["file"] == "ä.wav"
    assert [row["probability"] for row in result["predictions"]] == [0.75, 0.25]
    assert result["windows"]["probabilities"] == [[0.25, 0.75], [None, None], [1.0, 0.0]]


class SlowClassifier:
    """Classifier that answers when it is released."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.waiting = 0

    async def classify(self, sound: Sound) -> Classification:
        self.waiting += 1
        await self.released.wait()
        return Classification(1.0, np.array([0.7, 0.3], np.float32))


def test_requests_beyond_limit_are_refused(classifier_run: Path) -> None:
    async def run() -> None:
        slow = SlowClassifier()
        app = create_app(load_models([classifier_run]), {"birds": slow}, LIMITS, max_requests=2)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=URL) as http:
            accepted = [asyncio.create_task(http.post("/classify", content=SOUND)) for _ in range(2)]
            while slow.waiting < 2:
                await asyncio.sleep(0.01)
            refused = await http.post("/classify", content=SOUND)
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
            assert refused.json() == {"detail": "2 requests are being processed already; try again"}
            assert (await http.get("/health")).status_code == 200
            slow.released.set()
            assert [(await task).status_code for task in accepted] == [200, 200]
            assert (await http.post("/classify", content=SOUND)).status_code == 200

    asyncio.run(run())


def test_internal_error_is_one_line_without_details(classifier_run: Path) -> None:
    class Broken:
        async def classify(self, sound: Sound) -> Classification:
            raise RuntimeError("secret")

    app = create_app(load_models([classifier_run]), {"birds": Broken()}, LIMITS, max_requests=2)
    with client_of(app) as client:
        response = client.post("/classify", content=SOUND)
    assert (response.status_code, response.json()) == (
        500,
        {"detail": "internal error; the server has logged it"},
    )
    assert response.headers["X-Content-Type-Options"] == "nosniff"
