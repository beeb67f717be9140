"""The Python client: one conversation, carried out blocking and with asyncio; retries honour Retry-After."""

from __future__ import annotations

import io
import random
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.client import AsyncClient, Client
from service.conversation import RequestRefused, ServiceUnreachable
from tests.service.conftest import clip, samples_of, serving

pytestmark = pytest.mark.anyio

PROBLEM = {"code": "overloaded", "detail": "3.0 s of work are in the queue", "request_id": "r1"}
Handler = Callable[[httpx.Request], httpx.Response]


class Script:
    """Answers requests one after the other; an exception is raised."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Both:
    """The blocking and the asyncio client behind one face; `slept` are the pauses of either."""

    def __init__(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kind = kind
        self.slept: list[float] = []

        async def no_sleep(seconds: float) -> None:
            self.slept.append(seconds)

        monkeypatch.setattr("service.client.asyncio.sleep", no_sleep)
        monkeypatch.setattr("service.client.time.sleep", self.slept.append)

    async def call(self, script: Handler, method: str = "continue_clip", **kwargs: Any) -> Any:
        transport = httpx.MockTransport(script)
        options: dict[str, Any] = {"transport": transport, "rng": random.Random(0), "key": "secret-key"}
        if self.kind == "blocking":
            with Client("http://service", retries=2, **options) as client:
                return getattr(client, method)(clip(0.6), **kwargs)
        async with AsyncClient("http://service", retries=2, **options) as client:
            return await getattr(client, method)(clip(0.6), **kwargs)


@pytest.fixture(params=["blocking", "asyncio"])
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Both:
    return Both(request.param, monkeypatch)


def sound() -> httpx.Response:
    headers = {
        "Content-Type": "audio/wav",
        "AudioLM-Seed": "7",
        "AudioLM-Prompt-Seconds": "0.6",
        "X-Request-ID": "r2",
    }
    return httpx.Response(200, content=b"RIFF", headers=headers)


def refusal(status: int, **headers: str) -> httpx.Response:
    return httpx.Response(status, json=PROBLEM, headers=headers)


async def test_answer_and_what_was_sent(client: Both) -> None:
    script = Script(sound())
    answer = await client.call(script, seconds=5, stream=False, top_k=None)
    assert (answer.audio, answer.seed, answer.prompt_seconds, answer.request_id) == (b"RIFF", 7, 0.6, "r2")
    (request,) = script.requests
    assert request.url == "http://service/continue?seconds=5&stream=false"
    assert request.headers["authorization"] == "Bearer secret-key"
    assert clip(0.6) in request.content


async def test_detect_sends_the_clip_and_gives_the_finding(client: Both) -> None:
    script = Script(
        refusal(429, **{"Retry-After": "2"}), httpx.Response(200, json={"verdict": "no_evidence"})
    )
    assert await client.call(script, "detect") == {"verdict": "no_evidence"}
    for request in script.requests:
        assert (request.method, request.url) == ("POST", "http://service/detect")
        assert request.headers["authorization"] == "Bearer secret-key"
        assert clip(0.6) in request.content
    assert 2 <= client.slept[0] <= 2.5


async def test_retry_after_is_honoured(client: Both) -> None:
    script = Script(refusal(429, **{"Retry-After": "3"}), refusal(503, **{"Retry-After": "1"}), sound())
    assert (await client.call(script)).audio == b"RIFF"
    assert len({request.content for request in script.requests}) <= 3
    assert all(clip(0.6) in request.content for request in script.requests), "the clip is sent again, whole"
    assert 3 <= client.slept[0] <= 3.75
    assert 1 <= client.slept[1] <= 1.25


async def test_the_last_refusal_is_raised(client: Both) -> None:
    script = Script(*[refusal(429, **{"Retry-After": "1"}) for _ in range(3)])
    with pytest.raises(RequestRefused, match="work are in the queue") as caught:
        await client.call(script)
    assert (caught.value.status, caught.value.code, caught.value.request_id) == (429, "overloaded", "r1")
    assert len(client.slept) == 2


@pytest.mark.parametrize(("status", "wait"), [(422, None), (503, None), (503, "soon"), (429, "3600")])
async def test_what_waiting_does_not_help_is_raised_at_once(
    client: Both, status: int, wait: str | None
) -> None:
    answer = refusal(status, **({"Retry-After": wait} if wait else {}))
    with pytest.raises(RequestRefused):
        await client.call(Script(answer))
    assert client.slept == []


async def test_a_refusal_that_is_no_problem_document(client: Both) -> None:
    with pytest.raises(RequestRefused, match="answered 502"):
        await client.call(Script(httpx.Response(502, text="<html>bad gateway")))


async def test_a_lost_connection_is_tried_again_with_growing_pauses(client: Both) -> None:
    assert (
        await client.call(Script(httpx.ConnectError("refused"), httpx.ReadError("reset"), sound()))
    ).seed == 7
    assert client.slept[0] < 0.75 <= 1.5 * 0.5 <= client.slept[1] + 0.25
    with pytest.raises(ServiceUnreachable, match="refused"):
        await client.call(Script(*[httpx.ConnectError("refused")] * 3))


def test_a_broken_stream_is_an_error() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"RIFF"
        raise httpx.RemoteProtocolError("peer closed connection")

    script = Script(httpx.Response(200, content=pieces()))
    with (
        Client("http://service", transport=httpx.MockTransport(script)) as client,
        pytest.raises(ServiceUnreachable, match="broke off"),
        client.stream(clip(0.6)) as stream,
    ):
        list(stream)
    assert script.requests[0].url.params["stream"] == "true"


async def test_a_broken_stream_is_an_error_with_asyncio() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"RIFF"
        raise httpx.RemoteProtocolError("peer closed connection")

    script = Script(httpx.Response(200, content=pieces()))
    async with AsyncClient("http://service", transport=httpx.MockTransport(script)) as client:
        with pytest.raises(ServiceUnreachable, match="broke off"):
            async with client.stream(clip(0.6)) as stream:
                async for _ in stream:
                    pass


async def test_against_the_service_itself(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    path.write_bytes(clip(0.6))
    async with serving() as http, AsyncClient("http://service", transport=http._transport) as client:
        answer = await client.continue_clip(path, seconds=0.5, seed=3)
        document = await client.continue_clip_json(
            io.BytesIO(clip(0.6)), seconds=0.5, seed=3, num_continuations=2
        )
        async with client.stream(path, seconds=0.5, seed=3) as pieces:
            streamed = b"".join([piece async for piece in pieces])
        with pytest.raises(RequestRefused, match="seconds"):
            await client.continue_clip(path, seconds=-1)
        assert (await client.model())["name"] == "fake"
    assert len(samples_of(answer.audio)) == round(1.1 * 16_000)
    assert streamed == answer.audio
    assert [item["seed"] for item in document["continuations"]] == [3, 4]
