"""A headless Chromium, driven over its DevTools protocol: what a page looks like and does in a real browser."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find() -> str | None:
    """Return a browser's path, None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Tab:
    """One page."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._sent = socket, 0
        self.messages: list[str] = []

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self._sent += 1
        await self._socket.send_json({"id": self._sent, "method": method, "params": parameters})
        while True:
            said = await asyncio.wait_for(self._socket.receive_json(), 60)
            if said.get("method") in (
                "Runtime.consoleAPICalled",
                "Runtime.exceptionThrown",
                "Log.entryAdded",
                "Page.javascriptDialogOpening",
            ):
                self.messages.append(str(said["params"])[:500])
            if said.get("id") == self._sent:
                assert "error" not in said, said
                result: dict[str, Any] = said["result"]
                return result

    async def run(self, script: str) -> Any:
        """Evaluate an expression, awaiting it if it is a promise."""
        said = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    async def until(self, condition: str, seconds: float = 30.0) -> None:
        """Wait until an expression is true."""
        for _ in range(int(seconds / 0.1)):
            if await self.run(f"Boolean({condition})"):
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"never: {condition}; {self.messages}")

    async def view(self, width: int, height: int, *, dark: bool = False) -> None:
        """Set the size of the window, and light or dark."""
        await self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    async def picture(self, path: Path, height: int = 0) -> None:
        """Save what is shown, from the top; `height` cuts a long page."""
        size = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(height or size["height"], size["height"]), "scale": 1}
        said = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(said["data"]))


@contextlib.asynccontextmanager
async def tab(url: str, browser: str) -> AsyncIterator[Tab]:
    """Open a page in a browser of its own."""
    folder = tempfile.mkdtemp(prefix="chromium-")
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-dev-shm-usage",
        "--no-first-run",
    ]
    process = subprocess.Popen(
        [browser, *options, "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "NO_PROXY": "*"},
    )
    try:
        port_file = Path(folder, "DevToolsActivePort")
        for _ in range(600):
            if port_file.is_file() and "\n" in port_file.read_text():
                break
            await asyncio.sleep(0.05)
        port = port_file.read_text().splitlines()[0]
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as reply:
                address = next(t["webSocketDebuggerUrl"] for t in await reply.json() if t["type"] == "page")
            async with session.ws_connect(address, max_msg_size=2**27) as socket:
                found = Tab(socket)
                for domain in ("Page", "Runtime", "Log"):
                    await found.call(f"{domain}.enable")
                await found.call("Page.navigate", url=url)
                yield found
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(folder, ignore_errors=True)
