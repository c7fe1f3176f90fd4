"""Who may use a server, what is served, and the headers of all responses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cluster.serving import page_files
from tests.helpers.serving import client_of, serve_here

TOKEN = "0123456789abcdef"


@pytest.fixture(scope="module")
def protected(classifier_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Yield a client of a server with a token, and a page of two files."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "index.html").write_text("<title>page</title>")
    (folder / "own.js").write_text("1")
    (folder / "notes.txt").write_text("not part of the page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_files, "PAGE_FOLDER", folder)
        app = serve_here([classifier_run], token=TOKEN)
    with client_of(app) as client:
        yield client


@pytest.mark.parametrize("path", ["/models", "/classify", "/docs", "/openapi.json", "/examples", "/unknown"])
def test_paths_need_the_token(protected: httpx.Client, path: str) -> None:
    for header in (
        None,
        "",
        "Bearer",
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        "Bearer é",
    ):
        headers = {} if header is None else {"Authorization": header.encode()}
        response = protected.get(path, headers=headers)
        assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert response.json()["detail"].startswith("this server needs its token")
    accepted = protected.get(path, headers={"Authorization": f"bearer {TOKEN}"})
    assert accepted.status_code != 401


@pytest.mark.parametrize("path", ["/", "/page/own.js", "/page/style.css", "/health"])
def test_page_and_health_are_public(protected: httpx.Client, path: str) -> None:
    assert protected.get(path).status_code == 200


def test_page_consists_of_its_files_only(protected: httpx.Client) -> None:
    assert protected.get("/").text == "<title>page</title>"
    assert protected.get("/page/own.js").headers["content-type"].startswith("text/javascript")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    for path in (
        "/page/notes.txt",
        "/page/",
        "/page/..%2fconfig.py",
        "/page/%2e%2e/config.py",
        "/page//etc/passwd",
    ):
        url = httpx.URL(protected.base_url, raw_path=path.encode())
        assert protected.get(url, headers=headers).status_code == 404


def test_all_responses_have_security_headers(protected: httpx.Client) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Origin": "https://example.org"}
    for path in ("/", "/models", "/unknown", "/classify"):
        for sent in ({}, headers):
            response = protected.get(path, headers=sent)
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            assert "access-control-allow-origin" not in response.headers
            assert "server" not in response.headers


@pytest.mark.parametrize("host", ["example.org", "example.org:8000", "localhost.example.org", "10.0.0.1", ""])
def test_other_host_name_is_refused_without_token(client: httpx.Client, host: str) -> None:
    assert client.get("/models", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000"])
def test_names_of_this_host_are_accepted(client: httpx.Client, host: str) -> None:
    assert client.get("/models", headers={"Host": host}).status_code == 200


def test_pages_of_other_sites_are_refused(client: httpx.Client) -> None:
    headers = {"Sec-Fetch-Site": "cross-site"}
    response = client.post("/classify", content=b"", headers=headers)
    assert (response.status_code, response.json()["detail"]) == (
        403,
        "pages of other sites may not use this server",
    )
    assert client.get("/health", headers=headers).status_code == 200


def test_reference_names_all_paths_without_other_servers(client: httpx.Client) -> None:
    page = client.get("/docs").text
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) >= {"/classify", "/generate", "/models", "/health", "/examples"}
    assert all(path in page for path in paths)
    assert "http" not in page.replace("HTTP", "") and "<script" not in page


def test_models_describe_classes_and_limits(client: httpx.Client) -> None:
    models = client.get("/models").json()
    (classifier,), (generator,) = models["classifiers"], models["generators"]
    assert (classifier["name"], classifier["classes"]) == ("birds", ["noise", "whale"])
    assert (classifier["multi_label"], classifier["thresholds"]) == (False, None)
    assert (generator["name"], generator["sample_rate"], generator["max_hz"]) == ("tones", 8000, 4000)
    assert models["limits"] == {"max_megabytes": 1, "max_seconds": 20}
