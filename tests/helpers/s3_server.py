"""A light S3 server with a configurable latency and failures, which counts the requests it gets.

It runs in a process of its own, keeps objects in memory or reads them from a folder, and accepts any
credentials. moto (`tests/helpers/object_store.py`) answers more faithfully but needs ten times as long.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.sax.saxutils import escape

import psutil
from aiohttp import web

from pipeline.io.storage import to_path

_XML = "<?xml version='1.0' encoding='UTF-8'?>"


class S3Server:
    """A running server, seen from the tests."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]):
        self.port, self._process = port, process

    @property
    def endpoint(self) -> str:
        """URL of the server."""
        return f"http://127.0.0.1:{self.port}"

    def bucket(self, name: str = "sounds", folder: Path | None = None) -> Any:
        """Create a bucket, with the files below `folder` as objects if given; return its path."""
        self._control(bucket=name, folder=None if folder is None else str(folder))
        return to_path(f"s3://{name}?endpoint={self.endpoint}&region=us-east-1")

    def configure(self, **settings: Any) -> None:
        """Set how requests are answered.

        - `latency_s`: seconds before each answer;
        - `fail_every`: every n-th request fails (0: none);
        - `deny`: all requests are denied;
        - `errors`: kinds of requests that fail, each with status and body of the answer;
        - `lost_answers`: number of objects that are written although the answer is an error;
        - `region`: region that the server says its buckets are in;
        - `conditional_writes`: False refuses writes on condition that an object does not exist.
        """
        self._control(**settings)

    def requests(self) -> Counter[str]:
        """Return the number of requests by kind (`GET`, `HEAD`, `PUT`, `LIST`, `DELETE`, …) since `reset`."""
        return Counter(self._control())

    def reset(self) -> None:
        """Set the counts of requests to zero."""
        self._control(reset=True)

    def cpu_seconds(self) -> float:
        """Return the CPU time that the server has used."""
        times = psutil.Process(self._process.pid).cpu_times()
        return times.user + times.system

    def last_authorization(self) -> str:
        """Return the header `Authorization` of the last request; empty if it had none."""
        return self._control(authorization=True)["authorization"]

    def _control(self, **values: Any) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self.endpoint}/-/control", data=json.dumps(values).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=300) as response:
            return json.load(response)


@contextmanager
def s3_server(latency_s: float = 0.0) -> Iterator[S3Server]:
    """Start a server; each request takes at least `latency_s` seconds."""
    os.environ.update(
        AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_EC2_METADATA_DISABLED="true"
    )
    command = [sys.executable, "-m", "tests.helpers.s3_server", str(latency_s)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as process:
        try:
            assert process.stdout is not None
            yield S3Server(int(process.stdout.readline()), process)
        finally:
            process.kill()


@dataclass
class _Object:
    content: bytes | Path
    size: int
    mtime: float
    etag: str

    def read(self, start: int = 0, end: int | None = None) -> bytes:
        """Return a range of the content; files may be larger than the memory."""
        if not isinstance(self.content, Path):
            return self.content[start:end]
        with open(self.content, "rb") as file:
            file.seek(start)
            return file.read(-1 if end is None else end - start)


class _Application:
    """Buckets in memory, and the handlers of requests."""

    def __init__(self, latency_s: float):
        self.latency_s, self.fail_every, self.deny, self.count = latency_s, 0, False, 0
        self.region, self.authorization = "us-east-1", ""
        self.errors: dict[str, tuple[int, str]] = {}
        self.lost_answers, self.conditional_writes = 0, True
        self.requests: Counter[str] = Counter()
        self.buckets: dict[str, dict[str, _Object]] = {}
        self.sorted_keys: dict[str, list[str]] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.upload_ids = itertools.count()
        self.clock = 1_700_000_000.0

    async def control(self, request: web.Request) -> web.Response:
        values = json.loads(await request.read())
        if "bucket" in values:
            self._create_bucket(values["bucket"], values["folder"])
        self.latency_s = values.get("latency_s", self.latency_s)
        self.fail_every = values.get("fail_every", self.fail_every)
        self.deny = values.get("deny", self.deny)
        self.region = values.get("region", self.region)
        self.errors = values.get("errors", self.errors)
        self.lost_answers = values.get("lost_answers", self.lost_answers)
        self.conditional_writes = values.get("conditional_writes", self.conditional_writes)
        if "authorization" in values:
            return web.json_response({"authorization": self.authorization})
        if values.get("reset"):
            self.requests.clear()
        return web.json_response(self.requests)

    def _create_bucket(self, name: str, folder: str | None) -> None:
        objects = self.buckets.setdefault(name, {})
        self.sorted_keys.pop(name, None)
        for path in Path(folder).rglob("*") if folder else ():
            if path.is_file():
                status = path.stat()
                key = path.relative_to(folder or "").as_posix()
                objects[key] = _Object(path, status.st_size, status.st_mtime, f"{status.st_size:x}")

    async def handle(self, request: web.Request) -> web.StreamResponse:
        bucket, _, key = request.path.removeprefix("/").partition("/")
        kind = _kind(request, key)
        self.requests[kind] += 1
        self.authorization = request.headers.get("Authorization", "")
        self.count += 1
        body = _decode_chunks(request, await request.read())
        await asyncio.sleep(self.latency_s)
        if self.fail_every and self.count % self.fail_every == 0:
            self.requests["rejected"] += 1
            return _error(503, "SlowDown")
        if self.deny:
            return _error(403, "AccessDenied")
        if kind in self.errors:
            status, text = self.errors[kind]
            return web.Response(status=status, text=text, content_type="application/xml")
        if bucket not in self.buckets and kind != "PUT bucket":
            return _error(404, "NoSuchBucket")
        response = getattr(self, f"_{kind.replace(' ', '_').lower()}")(request, bucket, key, body)
        if kind == "PUT" and self.lost_answers:
            self.lost_answers -= 1
            return _error(500, "InternalError")
        return response

    def _get(self, request: web.Request, bucket: str, key: str, body: bytes) -> web.Response:
        stored = self.buckets[bucket].get(key)
        if stored is None:
            return _error(404, "NoSuchKey")
        headers, status = _headers(stored), 200
        start, end = 0, stored.size
        if requested := request.headers.get("Range"):
            start, end = _byte_range(requested, stored.size)
            if start >= stored.size:
                return _error(416, "InvalidRange")
            status = 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{stored.size}"
        return web.Response(status=status, body=stored.read(start, end), headers=headers)

    def _head(self, request: web.Request, bucket: str, key: str, body: bytes) -> web.StreamResponse:
        if not key:
            return web.Response(headers={"x-amz-bucket-region": self.region})
        stored = self.buckets[bucket].get(key)
        if stored is None:
            return web.Response(status=404)
        response = web.StreamResponse(headers=_headers(stored))
        response.content_length = stored.size
        return response

    def _put(self, request: web.Request, bucket: str, key: str, body: bytes) -> web.Response:
        headers = request.headers
        if "If-None-Match" in headers and not self.conditional_writes:
            return _error(501, "NotImplemented")
        if headers.get("If-None-Match") == "*" and key in self.buckets[bucket]:
            return _error(412, "PreconditionFailed")
        if source := headers.get("x-amz-copy-source") or headers.get("x-goog-copy-source"):
            name, _, source_key = unquote(source).removeprefix("/").partition("/")
            body = self.buckets[name][source_key].read()
        etag = self._store(bucket, key, body)
        text = f"<CopyObjectResult><ETag>&quot;{etag}&quot;</ETag></CopyObjectResult>" if source else ""
        return web.Response(text=text, headers={"ETag": f'"{etag}"'})

    def _store(self, bucket: str, key: str, body: bytes) -> str:
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        if key not in self.buckets[bucket]:
            self.sorted_keys.pop(bucket, None)
        self.clock += 1  # every version has a modification time of its own
        self.buckets[bucket][key] = _Object(body, len(body), self.clock, etag)
        return etag

    def _put_bucket(self, request: web.Request, bucket: str, key: str, body: bytes) -> web.Response:
        self.buckets.setdefault(bucket, {})
        return web.Response()

    def _delete(self, request: web.Request, bucket: str, key: str, body: bytes) -> web.Response:
        if self.buckets[bucket].pop(key, None) is not None:
            self.sorted_keys.pop(bucket, None)
        return web.Response(status=204)

    def _delete_many(self, request: web.Request, bucket: str, key: str, body: bytes) -> web.Response:
        from xml.etree import ElementTree

        keys = [node.text or "" for node in ElementTree.fromstring(body).iter() if node.tag.endswith("Key")]
        for name in keys:
            self._delete(request, bucket, name, b"")
        deleted = "".join(f"<Deleted><Key>{escape(name)}</Key></Deleted>" for name in keys)
        return _xml(f"<DeleteResult>{deleted}</DeleteResult>")

    def _start_upload(self, request: web.Request, bucket: str, key: str, body: bytes) -> web.Response:
        upload = f"upload{next(self.upload_ids)}"
        self.uploads[upload] = {}
        name = f"<Bucket>{bucket}</Bucket><Key>{escape(key)}</Key><UploadId>{upload}</UploadId>"
        return _xml(f"<InitiateMultipartUploadResult>{name}</InitiateMultipartUploadResult>")

    def _put_part(self, request: web.Request, bucket: str, key: str, body: bytes) -> web.Response:
        self.uploads[request.query["uploadId"]][int(request.query["partNumber"])] = body
        return web.Response(headers={"ETag": f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'})

    def _complete_upload(self, request: web.Request, bucket: str, key: str, body: bytes) -> web.Response:
        parts = self.uploads.pop(request.query["uploadId"])
        etag = self._store(bucket, key, b"".join(parts[number] for number in sorted(parts)))
        return _xml(f"<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>")

    def _list(self, request: web.Request, bucket: str, key: str, body: bytes) -> web.Response:
        query = request.query
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        start = query.get("continuation-token") or query.get("start-after", "")
        limit = min(1000, int(query.get("max-keys", 1000)))
        entries, folders, last = [], [], ""
        for name in self._keys_after(bucket, prefix, start):
            if len(entries) + len(folders) == limit:
                break
            position = name.find(delimiter, len(prefix)) if delimiter else -1
            if position < 0:
                entries.append((name, self.buckets[bucket][name]))
            elif (folder := name[: position + len(delimiter)]) != (folders[-1] if folders else ""):
                if folder <= start and start:
                    continue
                folders.append(folder)
            last = name
        else:
            last = ""
        return _xml(_listing(bucket, prefix, entries, folders, last))

    def _keys_after(self, bucket: str, prefix: str, start: str) -> Iterator[str]:
        from bisect import bisect_left, bisect_right

        keys = self.sorted_keys.get(bucket)
        if keys is None:
            keys = self.sorted_keys[bucket] = sorted(self.buckets[bucket])
        index = max(bisect_left(keys, prefix), bisect_right(keys, start) if start else 0)
        while index < len(keys) and keys[index].startswith(prefix):
            yield keys[index]
            index += 1


def _kind(request: web.Request, key: str) -> str:
    """Return the kind of a request, which names its handler."""
    query = request.query
    if request.method == "POST":
        kinds = {"delete": "DELETE many", "uploads": "START upload", "uploadId": "COMPLETE upload"}
        return next(kind for name, kind in kinds.items() if name in query)
    if request.method == "PUT":
        return "PUT part" if "partNumber" in query else "PUT" if key else "PUT bucket"
    return "LIST" if request.method == "GET" and not key else request.method


def _headers(stored: _Object) -> dict[str, str]:
    return {
        "ETag": f'"{stored.etag}"',
        "Last-Modified": formatdate(stored.mtime, usegmt=True),
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
    }


def _byte_range(text: str, size: int) -> tuple[int, int]:
    """Return start and end of a `Range` header."""
    first, _, last = text.removeprefix("bytes=").partition("-")
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1 if last else size)


def _decode_chunks(request: web.Request, body: bytes) -> bytes:
    """Return the content of a body that is sent in signed or checksummed chunks."""
    if "aws-chunked" not in request.headers.get("Content-Encoding", ""):
        return body
    content, position = b"", 0
    while True:
        end = body.index(b"\r\n", position)
        size = int(body[position:end].split(b";")[0], 16)
        if size == 0:
            return content
        content += body[end + 2 : end + 2 + size]
        position = end + 2 + size + 2


def _listing(
    bucket: str, prefix: str, entries: list[tuple[str, _Object]], folders: list[str], next_token: str
) -> str:
    contents = "".join(
        f"<Contents><Key>{escape(name)}</Key><Size>{stored.size}</Size><ETag>&quot;{stored.etag}&quot;</ETag>"
        f"<LastModified>{_iso(stored.mtime)}</LastModified><StorageClass>STANDARD</StorageClass></Contents>"
        for name, stored in entries
    )
    prefixes = "".join(
        f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in folders
    )
    token = f"<NextContinuationToken>{escape(next_token)}</NextContinuationToken>" if next_token else ""
    return (
        f"<ListBucketResult><Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix>"
        f"<KeyCount>{len(entries) + len(folders)}</KeyCount>"
        f"<IsTruncated>{str(bool(next_token)).lower()}</IsTruncated>"
        f"{token}{contents}{prefixes}</ListBucketResult>"
    )


def _iso(seconds: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _xml(text: str) -> web.Response:
    return web.Response(text=_XML + text, content_type="application/xml")


def _error(status: int, code: str) -> web.Response:
    text = f"{_XML}<Error><Code>{code}</Code><Message>{code}</Message></Error>"
    return web.Response(status=status, text=text, content_type="application/xml")


def main(latency_s: float) -> None:
    """Serve until the process is ended; print the port first."""
    state = _Application(latency_s)
    app = web.Application(client_max_size=2**32)
    app.router.add_post("/-/control", state.control)
    app.router.add_route("*", r"/{path:[\s\S]*}", state.handle)

    async def serve() -> None:
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.Event().wait()

    asyncio.run(serve())


if __name__ == "__main__":
    main(float(sys.argv[1]))
