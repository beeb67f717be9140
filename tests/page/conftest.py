"""A service that plays music, and a real browser to look at it; skipped, saying why, where something is not installed.

Every page is watched: a request to another origin, a breach of the Content-Security-Policy or an uncaught error fails
the test, whatever else it checks. Screenshots go to `build/screenshots` for people to look at.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from service.page import STATIC
from service.page import Page as Files

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / "build" / "screenshots"
AXE = STATIC / "node_modules" / "axe-core" / "axe.min.js"
PATIENCE = 60_000  # milliseconds; the machine may be busy
START_SECONDS = 200.0  # for a service to listen: importing torch takes its time on a busy machine
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",  # a microphone that beeps
    "--use-fake-ui-for-media-stream",
]


class Service:
    """A running tests.page.server. `url`; `said(text)` waits until it says a line that begins so; `go_on()` lets a
    continuation of HELD_SEED go on, which waits after its first second."""

    def __init__(self, **options: Any) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.page.server"])
        self._words, words = context.Pipe(duplex=False)
        self._held = context.Semaphore(0)
        self._process = context.Process(
            target=_serve, args=(words, {**options, "go_on": self._held}), daemon=True
        )
        self._process.start()
        self.url = self.said("http", START_SECONDS)

    def said(self, text: str, patience_seconds: float = PATIENCE / 1000) -> str:
        deadline = time.monotonic() + patience_seconds
        while self._words.poll(max(0.0, deadline - time.monotonic())):
            line: str = self._words.recv()
            if line.startswith(text):
                return line
        raise AssertionError(f"the service did not say {text!r}")

    def go_on(self) -> None:
        self._held.release()

    def close(self) -> None:
        self._process.terminate()
        self._process.join(20)


def _serve(words: Connection, options: dict[str, Any]) -> None:
    from tests.page.server import serve

    for name in [name for name in os.environ if name.startswith("AUDIOLM_")]:
        del os.environ[name]
    serve(words.send, **options)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    running = Service()
    yield running
    running.close()


@pytest.fixture(scope="module")  # not longer: while Playwright runs, no test of this process can run asyncio
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    if Files().missing or not AXE.is_file():
        pytest.skip("the page's third-party files are not installed (make test installs them where npm can)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield running
        running.close()


@pytest.fixture
def open_page(browser: Any, service: Service) -> Iterator[Callable[..., Any]]:
    """open_page(url=None, view="", **context options) -> a watched page, open at the service."""
    contexts = []
    wrong: list[str] = []

    def open(url: str = service.url, view: str = "", **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: _check_origin(request.url, url, wrong))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: "Content Security" in message.text and wrong.append(message.text))
        page.goto(f"{url}#{view}" if view else url)
        page.wait_for_selector("#versions label", state="attached")
        return page

    yield open
    for context in contexts:
        context.close()
    assert wrong == []


def _check_origin(asked: str, url: str, wrong: list[str]) -> None:
    if not asked.startswith((url, f"blob:{url}", "data:")):
        wrong.append(f"a request left the origin: {asked}")


def until(page: Any, expression: str) -> None:
    """Wait until `expression` is true in the page. (Playwright's own way evaluates strings there, which the policy of
    the page forbids.)"""
    deadline = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"never true: {expression}"
        page.wait_for_timeout(50)


def screenshot(page: Any, name: str) -> Path:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    path = SCREENSHOTS / f"{name}.png"
    page.screenshot(path=path, full_page=True)
    return path
