"""HTTP interface of a server; the models that it calls are replicas of Ray Serve, or in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp

from cluster.serving.classify_routes import add_classification
from cluster.serving.clip_routes import add_examples, add_generation
from cluster.serving.config import UploadLimits
from cluster.serving.models import ServedModel
from cluster.serving.page_files import PageFile, read_page_files
from cluster.serving.parameters import check_parameters
from cluster.serving.reference import reference_page
from cluster.serving.requests import Slots
from cluster.serving.security import Gate
from cluster.serving.served import ClassifierModel, GeneratorModel, Models, Served
from cluster.serving.uploads import UploadTooLarge, refuse_upload


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
    served = [Served(model, backends[model.name], Slots(max_requests)) for model in models]
    app = FastAPI(
        title="melray",
        description="Classify sounds and generate clips by trained models.",
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(check_parameters)],
    )
    app.add_exception_handler(UploadTooLarge, refuse_upload)
    app.add_exception_handler(RequestValidationError, _invalid_parameter)
    app.add_exception_handler(Exception, _internal_error)
    add_classification(app, Models("classifier", served), limits)
    add_generation(app, Models("generator", served))
    add_examples(app, served)
    _add_description(app, served, limits)
    files = read_page_files()
    _add_page(app, files)
    return Gate(app, token, {"/health", *files})


def _add_description(app: FastAPI, served: Sequence[Served], limits: UploadLimits) -> None:
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
