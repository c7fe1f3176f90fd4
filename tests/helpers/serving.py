"""Small models to serve, a server without Ray, and sounds that it must not accept."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import httpx
import numpy as np
import soundfile
import torch
import uvicorn
from starlette.types import ASGIApp

from cluster.serving.app import create_app
from cluster.serving.classifier_replica import ClassifierReplica, ClassifierSettings
from cluster.serving.config import UploadLimits
from cluster.serving.generator_replica import GeneratorReplica, GeneratorSettings
from cluster.serving.http_server import listen, server_config, server_url
from cluster.serving.models import ServedModel, load_models
from cluster.serving.served import ClassifierModel, GeneratorModel
from models.gan import GanConfig, Generator
from pipeline.training.model_file import GeneratorMetadata, save_model
from tests.helpers.sounds import SMALL_FEATURES

URL = "http://127.0.0.1"
LIMITS = UploadLimits(max_megabytes=1, max_seconds=20)
Backends = dict[str, ClassifierModel | GeneratorModel]


def save_generator(run: Path, shards: Path | None = None) -> Path:
    """Save an untrained generator of tones, and the dataset that it could have been trained on."""
    config = GanConfig(latent_dim=8, style_dim=16, channels=(8, 16), patch=4)
    names = ("tone 0", "tone 1", "tone 2")
    torch.manual_seed(0)
    model = Generator(config, SMALL_FEATURES.shape, len(names))
    metadata = GeneratorMetadata(model=config, features=SMALL_FEATURES, class_names=names, training={})
    run.mkdir()
    save_model(run, model, metadata)
    content = {"format_version": metadata.format_version, "shards": str(shards)}
    (run / "config.json").write_text(json.dumps(content))
    return run


def replicas(models: Sequence[ServedModel], max_seconds: float = LIMITS.max_seconds) -> Backends:
    """Return a replica of each model in this process."""
    return {
        model.name: ClassifierReplica(model.run, ClassifierSettings(max_seconds))
        if model.kind == "classifier"
        else GeneratorReplica(model.run, GeneratorSettings())
        for model in models
    }


def serve_here(
    runs: Sequence[Path], limits: UploadLimits = LIMITS, max_requests: int = 4, token: str | None = None
) -> ASGIApp:
    """Return a server whose replicas are in this process."""
    models = load_models(runs)
    return create_app(models, replicas(models, limits.max_seconds), limits, max_requests, token)


@contextmanager
def client_of(app: ASGIApp) -> Iterator[httpx.Client]:
    """Run the HTTP server of an application in a thread; yield a client of it."""
    server = uvicorn.Server(server_config(app))
    with listen("127.0.0.1", 0) as listener:
        thread = Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            with httpx.Client(base_url=server_url(listener), timeout=60) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


def wav_bytes(samples: np.ndarray, rate: int) -> bytes:
    """Return the content of a WAV file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV")
    return buffer.getvalue()


def flac_of_silence(
    seconds: int, rate: int = 8000, declared: Callable[[int], int] = lambda frames: frames
) -> bytes:
    """Return a FLAC file of zeros, whose header declares another number of frames than it has."""
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate, 1, format="FLAC", subtype="PCM_16") as file:
        file.write(np.zeros(seconds * rate, np.int16))
    content = bytearray(buffer.getvalue())
    # The 36 bits of the total number of samples in the STREAMINFO block.
    field = int.from_bytes(content[18:26], "big")
    content[18:26] = (field >> 36 << 36 | declared(seconds * rate)).to_bytes(8, "big")
    return bytes(content)
