"""Reads an uploaded file, as the raw body or as a multipart field, within limits of size and time.

The size is limited while the body is read, whatever its header declares, and the file stays in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

from fastapi import HTTPException, Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

FIELD = "file"
# Of a multipart body, in addition to the file: boundaries, headers, and small fields.
ENVELOPE_BYTES = 1 << 16
MAX_FIELDS = 8
# A client that sends nothing must not occupy one of the concurrent requests forever.
UPLOAD_TIMEOUT_S = 300.0
# Seconds in which the rest of a refused upload is read, so that its client gets the reason.
LINGER_S = 2.0


async def read_upload(request: Request, max_bytes: int) -> tuple[str, bytes]:
    """Return the name of the uploaded file, without folders and possibly empty, and its content.

    Raises:
        UploadTooLarge: the file is larger than `max_bytes`.
        HTTPException: 408 for too slow a client, 400 for a malformed or incomplete
            body, or 422 for one without a file.
    """
    is_form = request.headers.get("content-type", "").lower().startswith("multipart/form-data")
    read = _read_form if is_form else _read_body
    try:
        async with asyncio.timeout(UPLOAD_TIMEOUT_S):
            name, content = await read(request, max_bytes)
    except TimeoutError:
        raise HTTPException(408, f"the upload took longer than {UPLOAD_TIMEOUT_S:g} s") from None
    except ClientDisconnect:  # canceled uploads are no errors of the server, which would log a traceback
        raise HTTPException(400, "the client has closed the connection") from None
    if len(content) > max_bytes:
        raise UploadTooLarge(max_bytes)
    return name.replace("\\", "/").rpartition("/")[2], content


async def _read_body(request: Request, max_bytes: int) -> tuple[str, bytes]:
    return "", b"".join([chunk async for chunk in _limited(request, max_bytes, max_bytes)])


async def _read_form(request: Request, max_bytes: int) -> tuple[str, bytes]:
    stream = _limited(request, max_bytes + ENVELOPE_BYTES, max_bytes)
    parser = MultiPartParser(request.headers, stream, max_files=1, max_fields=MAX_FIELDS)
    parser.spool_max_size = max_bytes + ENVELOPE_BYTES  # in memory, never in a temporary file
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, f"malformed multipart body: {error.message}") from None
    file = form.get(FIELD)
    if not isinstance(file, UploadFile):
        raise HTTPException(422, f"the multipart body has no file in a field '{FIELD}'")
    try:
        return file.filename or "", await file.read()
    finally:
        await form.close()


async def _limited(request: Request, limit: int, max_bytes: int) -> AsyncGenerator[bytes]:
    """Yield the body; raise an error once it exceeds `limit`, or if its header says that it does."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise UploadTooLarge(max_bytes)
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise UploadTooLarge(max_bytes)
        yield chunk


class UploadTooLarge(HTTPException):
    """An upload exceeds the limit of size."""

    def __init__(self, max_bytes: int):
        super().__init__(
            413, f"larger than the {max_bytes / 1e6:g} MB that this server accepts", {"Connection": "close"}
        )


async def refuse_upload(request: Request, error: Exception) -> Response:
    """Return the response to too large an upload."""
    assert isinstance(error, UploadTooLarge)
    return _LingeringResponse({"detail": error.detail}, error.status_code, error.headers)


class _LingeringResponse(JSONResponse):
    """Response during an upload, whose rest is read and dropped for a moment after it is sent.

    A connection that is closed with unread data is reset, and its client may lose the response.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_without_end(message: Message) -> None:
            await send({**message, "more_body": True} if message["type"] == "http.response.body" else message)

        await super().__call__(scope, receive, send_without_end)
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while (await receive()).get("more_body"):
                    await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b""})
