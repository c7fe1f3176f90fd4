"""`POST /classify`."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Request
from starlette.responses import Response

from cluster.serving.classification_json import encode_classification
from cluster.serving.config import UploadLimits
from cluster.serving.messages import Rejection, Sound
from cluster.serving.reference import UPLOAD
from cluster.serving.served import Models, Run
from cluster.serving.uploads import read_upload
from pipeline.data.windows import MIN_HOP

Hop = Annotated[
    float | None,
    Query(
        ge=MIN_HOP,
        allow_inf_nan=False,
        description="Seconds between the starts of windows, which have the model's clip length (default: a "
        "sound of up to 1.5 times that length as a whole, a longer one in windows with a hop of half of it).",
    ),
]


def add_classification(app: FastAPI, models: Models, limits: UploadLimits) -> None:
    """Add the path to an application."""

    @app.post("/classify", openapi_extra=UPLOAD)
    async def classify(
        request: Request,
        run: Run = None,
        hop: Hop = None,
        spectrogram: bool = False,
        embeddings: bool = False,
    ) -> Response:
        """Classify a sound: a file in any supported format, as the multipart field `file` or as the body."""
        served = models.find(run)
        with served.slots.one():
            name, content = await read_upload(request, limits.max_bytes)
            result = await served.backend.classify(Sound(name, content, hop, spectrogram, embeddings))
        if isinstance(result, Rejection):
            raise HTTPException(result.status, result.reason)
        encode = partial(encode_classification, served.model, name, result)
        # Long responses in a thread, as they would keep all other requests waiting.
        content = encode() if result.windows is None else await asyncio.to_thread(encode)
        return Response(content, media_type="application/json")
