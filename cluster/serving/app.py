"""HTTP interface of a server; the models that it calls are replicas of Ray Serve, or in this process."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol
from urllib.parse import quote, urlencode

import numpy as np
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp

from cluster.serving.config import UploadLimits
from cluster.serving.examples import Example, Examples
from cluster.serving.messages import Classification, Rejection, ServedClip, Sound
from cluster.serving.models import ServedModel
from cluster.serving.page_files import PageFile, read_page_files
from cluster.serving.reference import UPLOAD, reference_page
from cluster.serving.requests import SharedResults, Slots
from cluster.serving.security import Gate
from cluster.serving.uploads import read_upload

# Generated clips that are kept, as the page needs the sound and the image of each.
MAX_KEPT_CLIPS = 64
MAX_SEED = 2**53 - 1
PNG, WAV = "image/png", "audio/wav"
_BINARY = {"type": "string", "format": "binary"}


class ClassifierModel(Protocol):
    """A classifier that sounds are sent to."""

    async def classify(self, sound: Sound) -> Classification | Rejection:
        """Classify a sound."""


class GeneratorModel(Protocol):
    """A generator that is asked for clips."""

    async def generate(self, label: str, seed: int) -> ServedClip | Rejection:
        """Generate the clip of a class and a seed."""


@dataclass
class _Served:
    """A model, with the requests that are on it."""

    model: ServedModel
    backend: Any
    slots: Slots
    clips: SharedResults[ServedClip] = field(default_factory=lambda: SharedResults(MAX_KEPT_CLIPS))


Run = Annotated[str | None, Query(description="Name of the run, as in /models (default: the first one).")]
Label = Annotated[str, Query(description="Class.")]
Seed = Annotated[int, Query(ge=0, le=MAX_SEED, description="Each seed gives another clip, always the same.")]
Hop = Annotated[
    float | None,
    Query(
        gt=0,
        allow_inf_nan=False,
        description="Seconds between the starts of windows, which have the model's clip length (default: a "
        "sound of up to 1.5 times that length as a whole, a longer one in windows with a hop of half of it).",
    ),
]


def create_app(
    models: Sequence[ServedModel],
    backends: Mapping[str, ClassifierModel | GeneratorModel],
    limits: UploadLimits,
    max_requests: int,
    token: str | None = None,
) -> ASGIApp:
    """Return the application of a server.

    Args:
        models: the models that are served; the first of a kind is the default.
        backends: where the requests of each are sent, by name.
        limits: limits of uploaded sounds.
        max_requests: limit of concurrent requests of each model.
        token: token that clients must send; None: the server is for this host alone.
    """
    served = [_Served(model, backends[model.name], Slots(max_requests)) for model in models]
    app = FastAPI(
        title="melray",
        description="Classify sounds and generate clips by trained models.",
        docs_url=None,
        redoc_url=None,
    )
    app.add_exception_handler(RequestValidationError, _invalid_parameter)
    app.add_exception_handler(Exception, _internal_error)
    _add_classification(app, _Models("classifier", served), limits)
    _add_generation(app, _Models("generator", served))
    _add_examples(app, served)
    _add_description(app, served, limits)
    files = read_page_files()
    _add_page(app, files)
    return Gate(app, token, {"/health", *files})


class _Models:
    """Models of a kind, by name."""

    def __init__(self, kind: str, served: Sequence[_Served]):
        self._kind = kind
        self._served = {one.model.name: one for one in served if one.model.kind == kind}

    def find(self, name: str | None) -> _Served:
        """Return a model, by default the first.

        Raises:
            HTTPException: there is none of that name.
        """
        if not self._served:
            raise HTTPException(404, f"this server has no {self._kind}")
        if name is None:
            return next(iter(self._served.values()))
        if name not in self._served:
            raise HTTPException(
                404, f"run '{name}': no such {self._kind}; available: {', '.join(self._served)}"
            )
        return self._served[name]


def _checked_label(model: ServedModel, label: str) -> str:
    if label not in model.metadata.class_names:
        raise HTTPException(422, f"label '{label}': unknown class of run {model.name}; /models lists them")
    return label


def _add_classification(app: FastAPI, models: _Models, limits: UploadLimits) -> None:
    @app.post("/classify", openapi_extra=UPLOAD)
    async def classify(
        request: Request, run: Run = None, hop: Hop = None, spectrogram: bool = False
    ) -> JSONResponse:
        """Classify a sound: a file in any supported format, as the multipart field `file` or as the body."""
        served = models.find(run)
        with served.slots.one():
            name, content = await read_upload(request, limits.max_bytes)
            result = await served.backend.classify(Sound(name, content, hop, spectrogram))
        if isinstance(result, Rejection):
            raise HTTPException(result.status, result.reason)
        return JSONResponse(_classification(served.model, name, result))


def _classification(model: ServedModel, name: str, result: Classification) -> dict[str, Any]:
    """Return the response to `POST /classify`."""
    facts, classes = model.describe(), model.metadata.class_names
    order = np.argsort(-result.probabilities, kind="stable").tolist()
    windows, image = result.windows, result.image
    return {
        "file": name,
        "seconds": result.seconds,
        "run": model.name,
        "multi_label": facts["multi_label"],
        "predictions": [{"label": classes[i], "probability": float(result.probabilities[i])} for i in order],
        "windows": windows
        and {
            "seconds": windows.seconds,
            "hop": windows.hop,
            "starts": windows.starts,
            "classes": list(classes),
            "probabilities": [
                [None if math.isnan(value) else round(value, 6) for value in row]
                for row in windows.probabilities.tolist()
            ],
        },
        "events": result.events,
        "warnings": result.warnings,
        "spectrogram": image
        and {
            "image": image.png,
            "seconds": image.seconds,
            "min_hz": facts["min_hz"],
            "max_hz": facts["max_hz"],
        },
    }


def _add_generation(app: FastAPI, models: _Models) -> None:
    async def generated(label: str, seed: int, run: str | None) -> ServedClip:
        served = models.find(run)
        _checked_label(served.model, label)

        async def compute() -> ServedClip:
            with served.slots.one():
                result = await served.backend.generate(label, seed)
            if isinstance(result, Rejection):
                raise HTTPException(result.status, result.reason)
            return result

        return await served.clips.get((label, seed), compute)

    @app.get("/generate", response_class=Response, responses={200: {"content": {WAV: {"schema": _BINARY}}}})
    async def generate(label: Label, seed: Seed = 0, run: Run = None) -> Response:
        """Generate a clip of a class. What the reference classifier predicts for it is in the headers
        X-Melray-Predicted-Label (percent-encoded) and X-Melray-Confidence, its probability of `label`."""
        clip = await generated(label, seed, run)
        headers = {}
        if clip.predicted_label:
            headers = {
                "X-Melray-Predicted-Label": quote(clip.predicted_label),
                "X-Melray-Confidence": f"{clip.confidence:.6f}",
            }
        return Response(clip.wav, media_type=WAV, headers=headers)

    @app.get(
        "/generate/spectrogram",
        response_class=Response,
        responses={200: {"content": {PNG: {"schema": _BINARY}}}},
    )
    async def generate_spectrogram(label: Label, seed: Seed = 0, run: Run = None) -> Response:
        """Return the spectrogram of a generated clip, without axes."""
        return Response((await generated(label, seed, run)).png, media_type=PNG)


def _add_examples(app: FastAPI, served: Sequence[_Served]) -> None:
    examples = Examples({one.model.name: one.model.run for one in served})
    # By default as /generate; a classifier has real clips too.
    by_name = {
        one.model.name: one.model for one in sorted(served, key=lambda one: one.model.kind != "generator")
    }

    async def find(label: str, run: str | None) -> tuple[str, list[Example]]:
        name = next(iter(by_name)) if run is None else run
        if name not in by_name:
            raise HTTPException(404, f"run '{name}': no such run; available: {', '.join(by_name)}")
        _checked_label(by_name[name], label)
        return name, await asyncio.to_thread(examples.get, name, label)

    async def find_one(index: int, label: str, run: str | None) -> ServedClip:
        _, clips = await find(label, run)
        if not 0 <= index < len(clips):
            raise HTTPException(404, f"example {index}: there are {len(clips)}")
        return clips[index].clip

    @app.get("/examples")
    async def list_examples(label: Label, run: Run = None) -> list[dict[str, str]]:
        """List real clips of a class from the dataset of a run (default: the first generator)."""
        name, clips = await find(label, run)
        query = urlencode({"label": label, "run": name})
        return [
            {
                "clip_id": example.clip_id,
                "audio": f"/examples/{index}/audio?{query}",
                "spectrogram": f"/examples/{index}/spectrogram?{query}",
            }
            for index, example in enumerate(clips)
        ]

    @app.get("/examples/{index}/audio", response_class=Response)
    async def example_audio(index: int, label: Label, run: Run = None) -> Response:
        """Return a real clip as a wav; made from its spectrogram if its audio file is gone."""
        return Response((await find_one(index, label, run)).wav, media_type=WAV)

    @app.get("/examples/{index}/spectrogram", response_class=Response)
    async def example_spectrogram(index: int, label: Label, run: Run = None) -> Response:
        """Return the spectrogram of a real clip, without axes."""
        return Response((await find_one(index, label, run)).png, media_type=PNG)


def _add_description(app: FastAPI, served: Sequence[_Served], limits: UploadLimits) -> None:
    models = {
        f"{kind}s": [one.model.describe() for one in served if one.model.kind == kind]
        for kind in ("classifier", "generator")
    }

    @app.get("/models")
    async def list_models() -> dict[str, Any]:
        """List the models and the limits of this server."""
        return {**models, "limits": limits.model_dump(include=set(UploadLimits.model_fields))}

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Return whether the server responds."""
        return {"status": "ok"}

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(reference_page(app.openapi()))


def _add_page(app: FastAPI, files: Mapping[str, PageFile]) -> None:
    def add(path: str, file: PageFile) -> None:
        async def get() -> Response:
            return Response(file.content, media_type=file.media_type, headers={"Cache-Control": "no-cache"})

        app.add_api_route(path, get, methods=["GET", "HEAD"], include_in_schema=False)

    for path, file in files.items():
        add(path, file)


async def _invalid_parameter(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return JSONResponse({"detail": f"{first['loc'][-1]}: {first['msg']}"}, 422)


async def _internal_error(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "internal error; the server has logged it"}, 500)
