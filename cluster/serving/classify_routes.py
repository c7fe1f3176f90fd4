"""`POST /classify`."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, HTTPException, Query, Request
from starlette.responses import JSONResponse

from cluster.serving.config import UploadLimits
from cluster.serving.messages import Classification, Rejection, Sound
from cluster.serving.models import ServedModel
from cluster.serving.reference import UPLOAD
from cluster.serving.served import Models, Run
from cluster.serving.uploads import read_upload

Hop = Annotated[
    float | None,
    Query(
        gt=0,
        allow_inf_nan=False,
        description="Seconds between the starts of windows, which have the model's clip length (default: a "
        "sound of up to 1.5 times that length as a whole, a longer one in windows with a hop of half of it).",
    ),
]


def add_classification(app: FastAPI, models: Models, limits: UploadLimits) -> None:
    """Add the path to an application."""

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
