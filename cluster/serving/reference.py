"""The page `/docs`: the HTTP interface, made from the OpenAPI schema, without scripts and other servers.

FastAPI's own page loads Swagger UI from a CDN.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

TEMPLATES = Path(__file__).parent / "templates"
_FILE = {"type": "string", "format": "binary"}
# Request body of `POST /classify`, which is read without FastAPI's own handling of forms.
UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["file"], "properties": {"file": _FILE}}
            },
            "application/octet-stream": {"schema": _FILE},
        },
    }
}


def reference_page(schema: Mapping[str, Any]) -> str:
    """Return the page that describes an OpenAPI schema."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    operations = [
        {"method": method.upper(), "path": path, **operation}
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]
    return environment.get_template("reference.html.j2").render(schema=schema, operations=operations)
