"""Local S3 and Google Cloud Storage servers, and paths in their buckets."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from pipeline.io.remote_path import RemotePath
from pipeline.io.storage import to_path
from tests.helpers.s3_server import s3_server

SLOW_DOWN = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code>"
    b"<Message>Please reduce your request rate.</Message></Error>"
)


class FlakyServer:
    """WSGI application that rejects every n-th request, like a throttling server; n = 0 rejects none."""

    def __init__(self, app: Callable[..., Iterable[bytes]]):
        self._app, self._count = app, itertools.count(1)
        self.fail_every, self.rejected = 0, 0

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if self.fail_every and next(self._count) % self.fail_every == 0:
            self.rejected += 1
            # Read the body first: closing the connection on a sender would be a different error.
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response(
                "503 Slow Down",
                [("Content-Type", "application/xml"), ("Content-Length", str(len(SLOW_DOWN)))],
            )
            return [SLOW_DOWN]
        return self._app(environ, start_response)


@contextmanager
def s3_bucket(name: str = "sounds") -> Iterator[tuple[Any, FlakyServer]]:
    """Start an S3 server; yield the path of an empty bucket and the server."""
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    class Quiet(MotoRequestHandler):
        def log_request(self, *_: Any) -> None: ...

    flaky = FlakyServer(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, flaky, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    os.environ.update(
        AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_EC2_METADATA_DISABLED="true"
    )
    endpoint = f"http://127.0.0.1:{server.port}"
    requests.put(f"{endpoint}/{name}", timeout=30).raise_for_status()
    path: Any = to_path(f"s3://{name}?endpoint={endpoint}&region=us-east-1")
    yield path, flaky
    server.shutdown()
    thread.join()


@contextmanager
def gcs_bucket(name: str = "sounds") -> Iterator[Any]:
    """Start a server; yield the path of an empty bucket that is used as one of Google Cloud Storage.

    Its XML interface, which obstore uses, is that of S3; emulators of the JSON interface cannot be used.
    """
    with s3_server() as server:
        server.bucket(name)
        yield to_path(f"gs://{name}?endpoint={server.endpoint}")


def upload_folder(folder: Path, target: RemotePath) -> None:
    """Upload a local folder recursively."""
    for path in folder.rglob("*"):
        if path.is_file():
            (target / path.relative_to(folder).as_posix()).write_bytes(path.read_bytes())
