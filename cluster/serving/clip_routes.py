"""`GET /generate` and `GET /examples`: generated clips, and real ones to compare them with."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated
from urllib.parse import quote, urlencode

from fastapi import FastAPI, HTTPException, Query
from starlette.responses import Response

from cluster.serving.examples import Example, Examples
from cluster.serving.messages import Rejection, ServedClip
from cluster.serving.served import Label, Models, Run, Served, check_label

PNG, WAV = "image/png", "audio/wav"
_BINARY = {"type": "string", "format": "binary"}
MAX_SEED = 2**53 - 1  # the largest integer of JavaScript
Seed = Annotated[int, Query(ge=0, le=MAX_SEED, description="Each seed gives another clip, always the same.")]


def add_generation(app: FastAPI, models: Models) -> None:
    """Add the paths of generated clips to an application."""

    async def generated(label: str, seed: int, run: str | None) -> ServedClip:
        served = models.find(run)
        check_label(served.model, label)

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


def add_examples(app: FastAPI, served: Sequence[Served]) -> None:
    """Add the paths of real clips to an application."""
    examples = Examples({one.model.name: one.model.run for one in served})
    # By default as /generate; a classifier has real clips too.
    by_name = {
        one.model.name: one.model for one in sorted(served, key=lambda one: one.model.kind != "generator")
    }

    async def find(label: str, run: str | None) -> tuple[str, list[Example]]:
        name = next(iter(by_name)) if run is None else run
        if name not in by_name:
            raise HTTPException(404, f"run '{name}': no such run; available: {', '.join(by_name)}")
        check_label(by_name[name], label)
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
