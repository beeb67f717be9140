"""What holds for every route: ids, keys, origins, probes, problem documents."""

from __future__ import annotations

import asyncio
import re

import httpx
import pytest

from service.app import create_app
from service.settings import Settings
from tests.service.conftest import assert_problem, clip, serving
from tests.service.fakes import FakeRunner, fake_worker

pytestmark = pytest.mark.anyio

KEY = "a-key-of-sixteen-or-more"


async def test_a_well_formed_request_id_is_echoed() -> None:
    async with serving() as client:
        kept = await client.get("/livez", headers={"X-Request-ID": "trace-1.a_B:9"})
        made = [await client.get("/livez") for _ in range(2)]
        replaced = [
            await client.get("/livez", headers={"X-Request-ID": bad})
            for bad in ("a b", "x" * 65, "<script>", b"\xe9")
        ]
        in_problem = await client.get("/nowhere", headers={"X-Request-ID": "mine"})
    assert kept.headers["x-request-id"] == "trace-1.a_B:9"
    assert made[0].headers["x-request-id"] != made[1].headers["x-request-id"]
    for response in [*made, *replaced]:
        assert re.fullmatch(r"[0-9a-f]{16}", response.headers["x-request-id"])
    assert in_problem.json()["request_id"] == "mine"


async def test_unknown_paths_and_methods_are_problems() -> None:
    async with serving() as client:
        assert_problem(await client.get("/nowhere"), 404, "not_found")
        response = await client.get("/continue")
        assert_problem(response, 405, "method_not_allowed")
        assert response.headers["allow"] == "POST"


async def test_keys() -> None:
    async with serving(api_keys=f"{KEY}, another-key-of-this-service") as client:
        for authorization in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {KEY}"}):
            response = await client.post("/continue", content=clip(), headers=authorization)
            assert_problem(response, 401, "unauthorized")
            assert response.headers["www-authenticate"] == "Bearer"
            assert_problem(await client.get("/v1/model", headers=authorization), 401, "unauthorized")
        for key in (KEY, "another-key-of-this-service"):
            headers = {"Authorization": f"Bearer {key}"}
            assert (await client.post("/continue", content=clip(), headers=headers)).status_code == 200
        for open_to_all in ("/livez", "/readyz", "/metrics", "/openapi.json"):
            assert (await client.get(open_to_all)).status_code == 200
        description = (await client.get("/openapi.json")).json()
    assert description["paths"]["/continue"]["post"]["security"] == [{"key": []}]
    assert "401" in description["paths"]["/continue"]["post"]["responses"]


async def test_a_refused_key_costs_no_body() -> None:
    read = 0

    async def body():  # type: ignore[no-untyped-def]
        nonlocal read
        read += 1
        yield b"x"

    async with serving(api_keys=KEY) as client:
        assert_problem(await client.post("/continue", content=body()), 401, "unauthorized")
    assert read == 0


async def test_other_origins_are_off_unless_named() -> None:
    origin = {"Origin": "https://studio.example"}
    preflight = {**origin, "Access-Control-Request-Method": "POST"}
    async with serving() as client:
        assert "access-control-allow-origin" not in (await client.get("/livez", headers=origin)).headers
        assert_problem(await client.options("/continue", headers=preflight), 405, "method_not_allowed")
    async with serving(cors_origins="https://studio.example") as client:
        allowed = await client.options("/continue", headers=preflight)
        refused = await client.get("/livez", headers={"Origin": "https://other.example"})
    assert allowed.headers["access-control-allow-origin"] == "https://studio.example"
    assert "access-control-allow-origin" not in refused.headers


async def test_model_card() -> None:
    async with serving(max_seconds=12) as client:
        card = (await client.get("/v1/model")).json()
    assert card["name"] == "fake"
    assert card["limits"]["max_seconds"] == 12
    assert card["limits"]["sample_rate"] == 16_000


async def test_loading_is_503_everywhere_but_alive() -> None:
    worker = fake_worker()  # never started
    transport = httpx.ASGITransport(app=create_app(Settings(), worker))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        for response in (
            await client.get("/readyz"),
            await client.get("/v1/model"),
            await client.post("/continue", content=clip()),
            await client.post("/detect", content=clip()),
        ):
            assert_problem(response, 503, "not_ready")
        assert (await client.get("/metrics")).status_code == 200


async def test_probes_follow_the_engine() -> None:
    def die(batch) -> None:  # type: ignore[no-untyped-def]
        raise ConnectionError("the device is gone")

    async with serving(FakeRunner(before=die)) as client:
        assert (await client.get("/livez")).json() == {"status": "alive"}
        assert (await client.get("/readyz")).json() == {"status": "ready"}
        assert_problem(await client.post("/continue", content=clip()), 503, "engine_failed")
        async with asyncio.timeout(60):
            while client.worker.alive:  # type: ignore[attr-defined]
                await asyncio.sleep(0.01)
        assert_problem(await client.get("/livez"), 503, "not_ready")
        assert_problem(await client.get("/readyz"), 503, "not_ready")


async def test_metrics_count_by_template_and_outcome() -> None:
    async with serving() as client:
        await client.post("/continue?seconds=2", content=clip())
        await client.post("/continue?seconds=-1", content=clip())
        for i in range(20):
            await client.get(f"/random-{i}")
        text = (await client.get("/metrics")).text
    for line in (
        'audiolm_requests_total{outcome="ok",route="/continue"} 1.0',
        'audiolm_requests_total{outcome="client_error",route="/continue"} 1.0',
        'audiolm_requests_total{outcome="client_error",route="unmatched"} 20.0',
        "audiolm_generated_audio_seconds_sum 2.0",
        "audiolm_ready 1.0",
    ):
        assert line in text, text
    assert "random-" not in text


async def test_uploads_share_a_budget_of_memory() -> None:
    size = len(clip())
    async with serving(upload_memory_bytes=size + 10) as client:
        started = asyncio.Event()
        go_on = asyncio.Event()

        async def slow_body():  # type: ignore[no-untyped-def]
            yield clip()[:-10]
            started.set()
            await go_on.wait()
            yield clip()[-10:]

        first = asyncio.create_task(client.post("/continue", content=slow_body()))
        await started.wait()
        assert_problem(await client.post("/continue", content=clip()), 429, "upload_memory_full")
        go_on.set()
        assert (await first).status_code == 200
        for _ in range(3):
            assert (await client.post("/continue", content=clip())).status_code == 200


async def test_a_mistake_of_ours_is_a_problem_without_details() -> None:
    class Broken(FakeRunner):
        @property
        def max_prompt_seconds(self) -> float:  # type: ignore[override]
            raise RuntimeError("a secret of the inside")

    async with serving(Broken()) as client:
        response = await client.get("/v1/model")
    assert_problem(response, 500, "internal_error")
    assert "secret" not in response.text
