"""Headless Chromium as a person uses it: with clicks, keys and files; over the DevTools protocol."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from websockets.sync.client import ClientConnection, connect

EXECUTABLE = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# A microphone that beeps and is permitted, and audio that plays without a click.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--hide-scrollbars",
    "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--remote-debugging-port=0",
)
WAIT_SECONDS = 60.0
# Key codes of keys that are not characters.
KEY_CODES = {
    "Tab": 9,
    "Enter": 13,
    "Escape": 27,
    " ": 32,
    "End": 35,
    "Home": 36,
    "ArrowLeft": 37,
    "ArrowRight": 39,
}
SHIFT = 8


class Browser:
    """A tab of Chromium. Errors and warnings on its console are in `messages`."""

    def __init__(self, connection: ClientConnection):
        self._connection = connection
        self._next_id = 0
        self.messages: list[str] = []
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self._next_id += 1
        self._connection.send(json.dumps({"id": self._next_id, "method": method, "params": params}))
        while True:
            message = json.loads(self._connection.recv(timeout=WAIT_SECONDS))
            if message.get("id") == self._next_id:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                result: dict[str, Any] = message["result"]
                return result
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.messages.append(str(params["exceptionDetails"]))
        elif message.get("method") == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.messages.append(str(params["args"]))
        elif message.get("method") == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.messages.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    def navigate(self, url: str) -> None:
        """Open a page and wait until it is loaded."""
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, after a promise has resolved."""
        params = {"awaitPromise": True, "returnByValue": True, "userGesture": True}
        result = self.call("Runtime.evaluate", expression=expression, **params)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until a JavaScript expression has a truthy value."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not self.evaluate(f"Boolean({expression})"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{expression}; page: {self.text('body')}; messages: {self.messages}")
            time.sleep(0.05)

    def text(self, selector: str) -> str:
        """Return the visible text of an element."""
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))

    def click(self, selector: str) -> None:
        """Click the center of an element with the mouse."""
        box = self.evaluate(
            f"(() => {{ const element = document.querySelector({json.dumps(selector)});"
            " element.scrollIntoView({block: 'center', behavior: 'instant'});"
            " const {x, y, width, height} = element.getBoundingClientRect();"
            " return [x + width / 2, y + height / 2]; })()"
        )
        self.click_at(*box)

    def click_at(self, x: float, y: float) -> None:
        """Click a position of the window in CSS pixels."""
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str, modifiers: int = 0) -> None:
        """Press and release a key."""
        params: dict[str, Any] = {"key": key, "code": key if len(key) > 1 else "", "modifiers": modifiers}
        params["windowsVirtualKeyCode"] = KEY_CODES.get(key, ord(key[0].upper()))
        text = "\r" if key == "Enter" else key if len(key) == 1 else ""
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **params)
        self.call("Input.dispatchKeyEvent", type="keyUp", **params)

    def type(self, text: str) -> None:
        """Type text into the element that has the focus."""
        self.call("Input.insertText", text=text)

    def choose_files(self, selector: str, files: Sequence[Path]) -> None:
        """Choose files in a file input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file.absolute()) for file in files])

    def resize(self, width: int, height: int = 900, is_mobile: bool = False) -> None:
        """Set the size of the window in CSS pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_mobile}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)

    def set_color_scheme(self, scheme: str) -> None:
        """Prefer the light or the dark color scheme."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self, full_page: bool = False) -> bytes:
        """Return a PNG of the window, or of the whole page."""
        return base64.b64decode(
            self.call("Page.captureScreenshot", format="png", captureBeyondViewport=full_page)["data"]
        )


@contextmanager
def open_browser(profile: Path) -> Iterator[Browser]:
    """Start Chromium with a profile in an empty folder; yield a tab of it."""
    command = [str(EXECUTABLE), *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            with connect(_tab_address(profile), max_size=None) as connection:
                yield Browser(connection)
        finally:
            # Ended by itself, as it would otherwise write to its profile while that is removed.
            with connect(_browser_address(profile)) as connection:
                connection.send(json.dumps({"id": 1, "method": "Browser.close"}))
                process.wait(WAIT_SECONDS)


def _tab_address(profile: Path) -> str:
    """Return the WebSocket address of the tab, after Chromium has written its port."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if (profile / "DevToolsActivePort").exists():
            tabs = requests.get(f"http://127.0.0.1:{_port_and_path(profile)[0]}/json", timeout=10).json()
            if pages := [tab for tab in tabs if tab["type"] == "page"]:
                return str(pages[0]["webSocketDebuggerUrl"])
        time.sleep(0.05)
    raise TimeoutError(f"Chromium did not start: no {profile / 'DevToolsActivePort'}")


def _browser_address(profile: Path) -> str:
    """Return the WebSocket address of the browser itself."""
    port, path = _port_and_path(profile)
    return f"ws://127.0.0.1:{port}{path}"


def _port_and_path(profile: Path) -> list[str]:
    return (profile / "DevToolsActivePort").read_text(encoding="utf-8").split()
