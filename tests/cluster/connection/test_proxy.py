"""Requests to a cluster in the environment of a company: proxies and ~/.netrc."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cluster.connection.proxy import is_private

TOKEN = "0123456789abcdef" * 4


class Recorder(BaseHTTPRequestHandler):
    """Records requests; as a dashboard it checks the token, and answers like a Ray without jobs."""

    requests: list[str]

    def do_GET(self) -> None:
        self.requests.append(f"{self.command} {self.path} {self.headers}")
        authorized = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        import ray

        body = f'{{"ray_version": "{ray.__version__}", "version": "4"}}' if "version" in self.path else "[]"
        self.send_response(200 if authorized else 403)
        self.end_headers()
        self.wfile.write(body.encode())

    do_CONNECT = do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.fixture
def servers() -> Iterator[dict[str, ThreadingHTTPServer]]:
    """Yield a dashboard and a proxy, each with its list of requests."""
    running = {}
    for name in ("dashboard", "proxy"):
        handler = type(name, (Recorder,), {"requests": []})
        running[name] = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=running[name].serve_forever, daemon=True).start()
    yield running
    for server in running.values():
        server.shutdown()
        server.server_close()


def requests_of(server: ThreadingHTTPServer) -> list[str]:
    return server.RequestHandlerClass.requests  # type: ignore[attr-defined]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("no_proxy", [{}, {"no_proxy": "example.org", "NO_PROXY": ".corp"}])
def test_token_reaches_neither_proxy_nor_netrc_host(
    host: str, no_proxy: dict[str, str], servers: dict[str, ThreadingHTTPServer], tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text(f"machine {host} login someone password secret\n")
    proxy = f"http://127.0.0.1:{servers['proxy'].server_port}"
    names = ("http_proxy", "https_proxy", "all_proxy")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= no_proxy | {spelling: proxy for name in names for spelling in (name, name.upper())}
    environment |= {"HOME": str(tmp_path), "MELRAY_HOME": str(tmp_path / "melray"), "RAY_AUTH_TOKEN": TOKEN}
    code = "from cluster.cli import main; main()"
    address = f"http://{host}:{servers['dashboard'].server_port}"
    completed = subprocess.run(
        [sys.executable, "-c", code, "jobs", "--address", address],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (completed.returncode, completed.stdout) == (0, "no jobs\n"), completed.stderr
    assert requests_of(servers["proxy"]) == []
    assert requests_of(servers["dashboard"])
    assert all(f"Bearer {TOKEN}" in request for request in requests_of(servers["dashboard"]))


@pytest.mark.parametrize(
    ("host", "private"),
    [("127.0.0.1", True), ("::1", True), ("10.1.2.3", True), ("100.64.0.1", True), ("8.8.8.8", False)],
)
def test_host_is_private_by_its_address(host: str, private: bool) -> None:
    assert is_private(host) == private


def test_unresolvable_host_is_left_to_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise socket.gaierror("unknown")

    monkeypatch.setattr("socket.getaddrinfo", fail)
    assert not is_private("dashboard.corp")
