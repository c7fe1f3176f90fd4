"""A Hugging Face hub on loopback: datasets in a folder, served by the HTTP interface that its client uses.

Dataset `owner/name` is the folder `owner/name`, its other revisions are `owner/name@revision`. Files are
answered by a redirect to another path, without authorization, as large files are on the hub.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

TOKEN = "hf_test"
PAGE_ENTRIES = 1000


class HubServer:
    """A running hub."""

    def __init__(self, root: Path, port: int):
        self.root, self.endpoint = root, f"http://127.0.0.1:{port}"
        self.private: set[str] = set()
        """Datasets, as `owner/name`, that need a token to be seen."""
        self.gated: set[str] = set()
        """Datasets whose files need a token."""
        self.requests: Counter[str] = Counter()
        """Number of requests by kind: `tree`, `paths-info`, `resolve` (a file), `other`."""
        self.fail_next = 0
        """Number of requests that are answered by an error 503 next."""


class _HubError(Exception):
    def __init__(self, status: int, code: str, message: str):
        self.status, self.code, self.message = status, code, message


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def log_message(self, *_: Any) -> None: ...

    def _answer(self, body: bytes) -> None:
        url = urlsplit(self.path)
        parts = url.path.strip("/").split("/")
        if parts[0] == "cdn":
            return self._send_file(self.hub.root / unquote("/".join(parts[1:])))
        is_api = parts[0] == "api"
        parts = [unquote(part) for part in parts[is_api:]]
        kind = parts[3] if len(parts) > 4 and parts[0] == "datasets" else "other"
        self.hub.requests[kind] += 1
        try:
            if self.hub.fail_next:
                self.hub.fail_next -= 1
                raise _HubError(503, "", "Service Unavailable")
            if kind == "other":
                raise _HubError(404, "", "Not Found")
            folder = self._revision("/".join(parts[1:3]), parts[4], kind)
            path = "/".join(parts[5:])
            if kind == "tree":
                return self._send_tree(folder, path, parse_qs(url.query))
            if kind == "paths-info":
                names = parse_qs(body.decode())["paths"]
                entries = [_entry(folder / name, folder) for name in names if (folder / name).exists()]
                return self._send(200, json.dumps(entries).encode())
            return self._redirect(folder / path)
        except _HubError as error:
            headers = {"X-Error-Code": error.code, "X-Error-Message": error.message}
            self._send(error.status, json.dumps({"error": error.message}).encode(), headers)

    def _revision(self, name: str, revision: str, kind: str) -> Path:
        has_token = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        folder = self.hub.root / name
        if not folder.is_dir() or (name in self.hub.private and not has_token):
            raise _HubError(404 if has_token else 401, "RepoNotFound", "Repository not found")
        if name in self.hub.gated and kind == "resolve" and not has_token:
            raise _HubError(401, "GatedRepo", f"Access to dataset {name} is restricted. Please log in.")
        folder = folder if revision == "main" else folder.with_name(f"{folder.name}@{quote(revision, '')}")
        if not folder.is_dir():
            raise _HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return folder

    def _send_tree(self, folder: Path, path: str, query: dict[str, list[str]]) -> None:
        if not (folder / path).is_dir():
            raise _HubError(404, "EntryNotFound", f"{path} does not exist")
        is_recursive = query.get("recursive", [""])[0].lower() == "true"
        entries = sorted((folder / path).rglob("*") if is_recursive else (folder / path).iterdir())
        start = int(query.get("cursor", ["0"])[0])
        end, headers = start + PAGE_ENTRIES, {}
        if end < len(entries):
            page = f"{self.path.partition('?')[0]}?recursive={str(is_recursive).lower()}&cursor={end}"
            headers["Link"] = f'<{self.hub.endpoint}{page}>; rel="next"'
        body = json.dumps([_entry(entry, folder) for entry in entries[start:end]]).encode()
        self._send(200, body, headers)

    def _redirect(self, file: Path) -> None:
        if not file.is_file():
            raise _HubError(404, "EntryNotFound", "Entry not found")
        location = quote(f"/cdn/{file.relative_to(self.hub.root).as_posix()}")
        self._send(302, b"", {"Location": location})

    def _send_file(self, file: Path) -> None:
        content, size = file.read_bytes(), file.stat().st_size
        if "Range" not in self.headers:
            return self._send(200, content)
        first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last or size) + 1, size)
        if start >= size:
            return self._send(416, b"")
        self._send(206, content[start:end], {"Content-Range": f"bytes {start}-{end - 1}/{size}"})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _entry(path: Path, folder: Path) -> dict[str, Any]:
    name = path.relative_to(folder).as_posix()
    if path.is_dir():
        return {"type": "directory", "oid": "0" * 40, "size": 0, "path": name}
    oid = hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()
    return {"type": "file", "oid": oid, "size": path.stat().st_size, "path": name}


@contextmanager
def hub_server(root: Path) -> Iterator[HubServer]:
    """Start a hub with the datasets in a folder."""
    handler = type("Handler", (_Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        handler.hub = HubServer(root, server.server_address[1])  # type: ignore[attr-defined]
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield handler.hub  # type: ignore[attr-defined]
        finally:
            server.shutdown()
            thread.join()
