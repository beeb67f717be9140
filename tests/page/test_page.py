"""What the service sends for the page, without a browser."""

from __future__ import annotations

import asyncio
import gzip
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.app import create_app
from service.page import STATIC, STYLES, THIRD_PARTY, Page
from service.settings import Settings
from tests.service.conftest import clip, serving
from tests.service.fakes import DETECT, FakeDetector, FakeRunner, Gate, fake_worker

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def client() -> Any:
    transport = httpx.ASGITransport(app=create_app(Settings(), fake_worker()))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


async def test_the_policy_lets_the_page_load_from_its_own_origin_only(client: httpx.AsyncClient) -> None:
    first, second = await client.get("/"), await client.get("/")
    policy = first.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; ")
    assert "unsafe" not in policy and "http" not in policy and "*" not in policy
    nonce = policy.split("'nonce-")[1].split("'")[0]
    assert f'nonce="{nonce}"' in first.text
    assert nonce not in second.text and nonce not in second.headers["content-security-policy"]
    assert first.headers["cache-control"] == "no-store"


async def test_files_are_compressed_kept_and_asked_for_again(client: httpx.AsyncClient) -> None:
    async with client.stream("GET", "/static/style.css", headers={"Accept-Encoding": "gzip"}) as answer:
        body = b"".join([piece async for piece in answer.aiter_raw()])
    assert answer.headers["content-encoding"] == "gzip" and answer.headers["cache-control"] == "no-cache"
    style = b"\n".join((STATIC / f"{name}.css").read_bytes() for name in STYLES)
    assert len(STYLES) == len(list(STATIC.glob("*.css")))
    assert gzip.decompress(body) == style
    plain = await client.get("/static/style.css", headers={"Accept-Encoding": "identity"})
    assert plain.content == style and "content-encoding" not in plain.headers
    again = await client.get("/static/style.css", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304 and again.content == b""
    stale = await client.get("/static/style.css", headers={"If-None-Match": '"another"'})
    assert stale.status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "../page.py",
        "..%2fpage.py",
        "package.json",
        "index.html",
        "node_modules/axe-core/axe.js",
        "clips",
        "clips/README.md",
    ],
)
async def test_nothing_else_is_served(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(f"http://service/static/{path}")
    assert answer.status_code == 404 and answer.headers["content-type"] == "application/problem+json"


async def test_clips_are_short_and_plain(client: httpx.AsyncClient) -> None:
    clips = sorted(path.name for path in (STATIC / "clips").glob("*.flac"))
    assert len(clips) == 4
    for name in clips:
        answer = await client.get(f"/static/clips/{name}")
        assert answer.headers["content-type"] == "audio/flac" and len(answer.content) < 120 * 1024


async def test_the_page_says_what_is_missing(tmp_path: Path) -> None:
    bare = tmp_path / "static"
    shutil.copytree(STATIC, bare, ignore=shutil.ignore_patterns("node_modules"))
    page = Page(bare)
    assert page.missing == tuple(THIRD_PARTY)
    text = bytes(page.html("index", {}).body).decode()
    assert "vendor/wavesurfer.js" in text and "make install" in text
    assert page.file("main.js", {}) is not None and page.file("vendor/wavesurfer.js", {}) is None


async def test_the_whole_page_is_light() -> None:
    page = Page()
    if page.missing:
        pytest.skip(f"not installed: {page.missing}")
    assert "make install" not in bytes(page.html("index", {}).body).decode()
    sizes = {
        name: len(file.compressed)
        for name, file in page.files.items()
        if file.compressed is not None and "swagger" not in name  # belongs to /docs
    }
    total = sum(sizes.values()) + len(page.html("index", {"accept-encoding": "gzip"}).body)
    print(f"page weight {total / 1000:.0f} kB", sizes)
    assert total < 300_000


async def test_progress_tells_the_place_in_the_queue_and_the_stages() -> None:
    gate = Gate()
    async with serving(FakeRunner(slots=1, before=gate)) as client:

        def ask(name: str) -> Any:
            url = "/continue?seconds=1"
            return asyncio.create_task(client.post(url, content=clip(), headers={"X-Request-ID": name}))

        async def progress(name: str) -> Any:
            return (await client.get(f"/v1/progress/{name}")).json()

        requests = []
        for name in ("first", "second", "third"):
            requests.append(ask(name))
            while (await progress(name))["state"] == "unknown":
                await asyncio.sleep(0.01)
        await asyncio.to_thread(gate.reached.wait, 60)
        assert await progress("first") == {
            "state": "running",
            "place": 0,
            "stages": {"encode": 1.0, "decode": 0.0},
        }
        assert (await progress("second")) == {"state": "queued", "place": 1, "stages": {}}
        assert (await progress("third"))["place"] == 2
        gate.open()
        assert [answer.status_code for answer in await asyncio.gather(*requests)] == [200] * 3
        assert (await progress("first"))["state"] == "unknown"


async def test_progress_of_a_clip_that_is_checked() -> None:
    gate = Gate(DETECT)
    async with serving(FakeRunner(before=gate, detector=FakeDetector())) as client:
        headers = {"X-Request-ID": "checked"}
        request = asyncio.create_task(client.post("/detect", content=clip(), headers=headers))
        await asyncio.to_thread(gate.reached.wait, 60)
        answer = (await client.get("/v1/progress/checked")).json()
        assert answer == {"state": "running", "place": 0, "stages": {"detect": 0.0}}
        gate.open()
        assert (await request).status_code == 200


async def test_progress_needs_a_key_where_there_are_keys() -> None:
    async with serving(api_keys="0123456789abcdef") as client:
        assert (await client.get("/v1/progress/x")).status_code == 401
        assert (await client.get("/")).status_code == 200
