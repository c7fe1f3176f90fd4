"""List of nodes: it is complete, also on clusters of hundreds of nodes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from cluster.connection.address import JobServer
from cluster.connection.nodes import read_nodes

NODES = [
    {
        "node_id": f"{number:x}",
        "node_ip": f"10.0.{number // 250}.{number % 250}",
        "is_head_node": number == 0,
        "state": "ALIVE",
        "resources_total": {"CPU": 2.0},
    }
    for number in range(250)
]


class Dashboard(BaseHTTPRequestHandler):
    """Answers as Ray's dashboard does: at most 100 nodes, unless the request has a limit."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        limit = int(parse_qs(url.query).get("limit", ["100"])[0])
        data = (
            {"result": {"result": NODES[:limit]}} if url.path == "/api/v0/nodes" else {"clusterStatus": None}
        )
        content = json.dumps({"data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def dashboard() -> Iterator[JobServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Dashboard)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield JobServer(f"http://127.0.0.1:{server.server_port}", None, is_local=False)
    server.shutdown()
    server.server_close()


def test_more_than_hundred_nodes_are_listed(dashboard: JobServer) -> None:
    nodes = read_nodes(dashboard)
    assert len(nodes) == len(NODES) and nodes[0].head
