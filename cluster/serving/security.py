"""Who may use the server, and the headers of every response.

Without a token, only programs of this host can connect; but a page of another site, opened in a browser of
this host, could too. Its name would be in the `Host` header after it was made to mean this host (DNS
rebinding), and requests that it sends to this host itself are marked by the browser.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.connection.loopback import is_loopback
from cluster.serving.token import is_authorized

CONTENT_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "media-src 'self' blob: data:",
        "connect-src 'self'",
        "worker-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": CONTENT_POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


class Gate:
    """Application that checks each request before another one gets it."""

    def __init__(self, app: ASGIApp, token: str | None, public_paths: Collection[str]):
        """Protect an application.

        Args:
            app: the application.
            token: token that clients must send; None: any program of this host may use it.
            public_paths: paths that need no token.
        """
        self._app, self._token, self._public = app, token, frozenset(public_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        response = self._refusal(scope["path"], Headers(scope=scope))
        await (response or self._app)(scope, receive, send_with_headers)

    def _refusal(self, path: str, headers: Headers) -> JSONResponse | None:
        """Return the response to a request that is not allowed; None if it is."""
        if headers.get("sec-fetch-site") == "cross-site" and path not in self._public:
            return _error(403, "pages of other sites may not use this server")
        if self._token is None:
            name = host_name(headers.get("host", ""))
            if not is_loopback(name):
                return _error(403, f"Host '{name}': without a token this server is for its own host alone")
            return None
        if path in self._public or is_authorized(headers.get("authorization", ""), self._token):
            return None
        response = _error(401, "this server needs its token: header 'Authorization: Bearer TOKEN'")
        response.headers["WWW-Authenticate"] = "Bearer"
        return response


def host_name(header: str) -> str:
    """Return the host of a `Host` header, without port."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def _error(status: int, detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail}, status)
