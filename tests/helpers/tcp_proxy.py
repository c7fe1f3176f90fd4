"""TCP proxy whose connections can be lost: closed, refused, or silent as behind a router that forgot them."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self


class TcpProxy:
    """Forwards connections to a port of this host; a context manager."""

    def __init__(self, port: int):
        """`port` is the port to forward to."""
        self._target = port
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self.accepted = 0
        self._listener = self._listen(0)
        self.port = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse()

    def drop(self) -> None:
        """Close all connections; new ones are accepted."""
        with self._lock:
            sockets, self._sockets = self._sockets, []
        for connection in sockets:
            _close(connection)

    def refuse(self) -> None:
        """Close all connections and accept no new ones, until `accept` is called."""
        _close(self._listener)
        self.drop()

    def accept(self) -> None:
        """Accept connections again."""
        self._listener = self._listen(self.port)

    def silence(self) -> None:
        """Forward nothing more on the present connections, and do not close them."""
        with self._lock:
            self._sockets = []

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._serve, args=(listener,), daemon=True).start()
        return listener

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            with self._lock:
                self.accepted += 1
                self._sockets += [client, server]
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._forward, args=(source, target), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                with self._lock:
                    is_silenced = source not in self._sockets
                if is_silenced:
                    threading.Event().wait()  # the connection stays open
                target.sendall(data)
        for connection in (source, target):
            _close(connection)


def _close(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
