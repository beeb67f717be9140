"""What people do on the page, and what they expect to have then."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from service.page import STATIC
from tests.page.answers import Answer
from tests.page.conftest import AXE, until
from tests.page.music import tune

OpenPage = Callable[..., Any]
Samples = npt.NDArray[np.int16]

PHONE = {
    "viewport": {"width": 360, "height": 740},
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
}
MUSIC = "Waltz"
MUSIC_FILE = STATIC / "clips" / "piano-waltz.flac"


def pick(page: Any, clip: str = MUSIC, *, view: str = "continue") -> None:
    page.locator(f"#{view}").get_by_role("button", name=clip).click()


def choose(
    page: Any, clip: str = MUSIC, *, seconds: float = 3, seed: int | None = 7, versions: int = 1
) -> None:
    pick(page, clip)
    page.locator("#settings").wait_for()
    page.locator("#seconds").fill(str(seconds))
    page.locator("#seed").fill("" if seed is None else str(seed))
    page.locator(f"#versions input[value='{versions}']").check(force=True)


def go(page: Any) -> None:
    page.get_by_role("button", name="Continue", exact=True).click()


def wait_until_made(page: Any) -> None:
    until(page, "!document.querySelector('.take.running')")


def wait_until_checked(page: Any) -> None:
    page.locator(".finding:not(.running)").wait_for()


def open_file(page: Any, path: Path, *, view: str = "continue") -> None:
    page.locator(f"#{view} input[type=file]").set_input_files(path)


def detecting(page: Any, answer: Answer) -> list[Any]:
    """From now on POST /detect answers so. Returns the requests as they come."""
    requests: list[Any] = []

    def fulfill(route: Any, request: Any) -> None:
        requests.append(request)
        route.fulfill(json=answer)

    page.route("**/detect", fulfill)
    return requests


def refusing(page: Any, status: int, code: str, detail: str, *, wait_seconds: int = 0) -> None:
    """From now on POST /detect refuses so."""
    headers = {"Content-Type": "application/problem+json", "Retry-After": str(wait_seconds)}
    body = json.dumps({"status": status, "code": code, "detail": detail})
    page.route("**/detect", lambda route: route.fulfill(status=status, headers=headers, body=body))


def tab_to(page: Any, selector: str) -> None:
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} cannot be reached")


def downloaded(page: Any, button: str) -> Path:
    with page.expect_download() as download:
        page.get_by_role("button", name=button, exact=True).click()
    return Path(download.value.path())


def samples_of(sound: Path | bytes) -> Samples:
    file = io.BytesIO(sound) if isinstance(sound, bytes) else sound
    samples, rate = soundfile.read(file, dtype="int16")
    assert rate == 16_000
    return np.asarray(samples)


def expected(prompt: Samples, seed: int, seconds: float) -> Samples:
    made = np.rint(tune(seed, round(seconds * 16_000)).astype(np.float64) * 32768).astype(np.int16)
    return np.concatenate([prompt, made])


def violations(page: Any, within: str = "html") -> list[str]:
    """What axe-core finds. It adds inline styles, which the policy forbids: for pages with `bypass_csp` only."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("within => axe.run(within)", within)["violations"]
    return [
        f"{item['id']}: {node['html']} {node['failureSummary']}" for item in found for node in item["nodes"]
    ]


def is_wider_than_the_screen(page: Any) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > innerWidth"))
