"""A real headless Chromium, driven through chromedriver by the WebDriver protocol: HTTP and JSON, no package."""

import base64
import contextlib
import json
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars"
)
DEADLINE = 60


class Browser:
    """One window. Scripts run in the page and return JSON."""

    def __init__(self, driver: str, session: str):
        self._session = f"{driver}/session/{session}"

    def open(self, page: pathlib.Path, *, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        """Shows a file at this width in CSS pixels, to a reader whose system is light or dark."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._devtools("Emulation.setEmulatedMedia", features=[scheme])
        self._devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        _ask(f"{self._session}/url", {"url": page.resolve().as_uri()})
        started = time.monotonic()  # on a busy machine the driver answers while a long page is still read
        while self.run("return document.readyState") != "complete":
            assert time.monotonic() - started < DEADLINE, "the page does not load"
            time.sleep(0.05)

    def run(self, script: str) -> Any:
        """What a script, the body of a function, returns."""
        return _ask(f"{self._session}/execute/sync", {"script": script, "args": []})

    def press(self, key: str, code: int, text: str = "") -> None:
        """A key as the reader presses it. text: what it writes; of Enter "\\r"."""
        for kind in ("keyDown", "keyUp"):
            self._devtools(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, text=text
            )

    def write(self, text: str) -> None:
        """Text as the reader writes it, where the focus is."""
        self._devtools("Input.insertText", text=text)

    def click(self, element: str) -> None:
        """The mouse on the middle of an element, a JavaScript expression, which is brought into sight."""
        x, y = self.run(
            f"const e = {element}; e.scrollIntoView({{ block: 'center', inline: 'center' }});"
            " const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2];"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self._devtools("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def requests(self) -> list[str]:
        """Addresses of all that was asked for since the last call, pictures inside a page left out."""
        entries = _ask(f"{self._session}/se/log", {"type": "performance"})
        messages = [json.loads(entry["message"])["message"] for entry in entries]
        sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith("data:")]

    def messages(self) -> list[str]:
        """Errors and warnings of the page since the last call."""
        return [entry["message"] for entry in _ask(f"{self._session}/se/log", {"type": "browser"})]

    def screenshot(self) -> bytes:
        """A PNG of what is seen."""
        return base64.b64decode(self._devtools("Page.captureScreenshot")["data"])

    def _devtools(self, command: str, **parameters: Any) -> Any:
        return _ask(f"{self._session}/goog/cdp/execute", {"cmd": command, "params": parameters})


@contextlib.contextmanager
def open_browser() -> Iterator[Browser]:
    """A browser of its own, with a new profile; skips where there is none."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        missing = "Chromium" if chromium is None else "chromedriver"
        pytest.skip(f"needs a real browser: there is no {missing} in PATH (Debian: apt install chromium-driver)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [chromedriver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        driver = f"http://127.0.0.1:{port}"
        try:
            _until_ready(driver, process)
            options = {"binary": chromium, "args": [*FLAGS.split(), f"--user-data-dir={profile}"]}
            wanted = {
                "browserName": "chrome",
                "goog:chromeOptions": options,
                "goog:loggingPrefs": {"performance": "ALL", "browser": "ALL"},
            }
            session = _ask(f"{driver}/session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
            try:
                yield Browser(driver, session)
            finally:
                _ask(f"{driver}/session/{session}", method="DELETE")  # or Chromium would stay
        finally:
            process.terminate()
            process.wait(timeout=DEADLINE)


def _until_ready(driver: str, process: subprocess.Popen) -> None:
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError):
            if _ask(f"{driver}/status", method="GET")["ready"]:
                return
        time.sleep(0.05)
    raise RuntimeError("chromedriver did not start")


def _ask(address: str, body: dict[str, Any] | None = None, *, method: str = "POST") -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"}, method=method)
    # Not through a proxy, which may be set for other addresses.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=DEADLINE) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{address}: {error.read().decode()}") from error
