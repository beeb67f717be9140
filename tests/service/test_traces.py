"""Spans of requests: one each, in the caller's trace, with the stages' seconds."""

from __future__ import annotations

import httpx
import pytest
from pydantic import ValidationError

from service.app import create_app
from service.settings import Settings
from tests.service.conftest import clip
from tests.service.fakes import FakeRunner, fake_worker

pytest.importorskip("opentelemetry.sdk", reason="the extra 'otel' is not installed")

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service.traces import Traces

pytestmark = pytest.mark.anyio

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


async def spans_of(*queries: str, runner: FakeRunner | None = None) -> tuple[ReadableSpan, ...]:
    """What is sent out for requests to /continue with these queries, in a caller's trace."""
    exporter = InMemorySpanExporter()
    worker = fake_worker(runner)
    app = create_app(Settings(), worker, Traces(SimpleSpanProcessor(exporter)))
    async with app.router.lifespan_context(app):
        await worker.ready()
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            for query in queries:
                headers = {"traceparent": f"00-{TRACE}-{CALLER}-01", "X-Request-ID": "caller-1"}
                await client.post(f"/continue?{query}", content=clip(), headers=headers)
        return exporter.get_finished_spans()


async def test_a_span_continues_the_callers_trace() -> None:
    (span,) = await spans_of("seconds=1")
    assert span.name == "POST /continue"
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == CALLER
    assert f"{span.context.trace_id:032x}" == TRACE
    assert span.start_time is not None
    assert span.end_time is not None
    assert 0 < span.end_time - span.start_time < 60e9


@pytest.mark.parametrize("stream", ["true", "false"])
async def test_a_span_tells_the_outcome_and_the_stages(stream: str) -> None:
    (span,) = await spans_of(f"seconds=1&stream={stream}")
    assert span.attributes is not None
    assert span.attributes["http.route"] == "/continue"
    assert span.attributes["http.response.status_code"] == 200
    assert span.attributes["audiolm.outcome"] == "ok"
    assert span.attributes["audiolm.request_id"] == "caller-1"
    for step in ("upload", "queue", "encode", "decode"):
        seconds = span.attributes[f"audiolm.seconds.{step}"]
        assert isinstance(seconds, float)
        assert seconds >= 0
    assert span.status.is_unset


async def test_a_failure_is_marked_and_a_callers_mistake_is_not() -> None:
    def fail(batch: object) -> None:
        raise RuntimeError("broken")

    failed, mistaken = await spans_of("seconds=1", "seconds=-1", runner=FakeRunner(before=fail))
    assert not failed.status.is_ok
    assert not failed.status.is_unset
    assert mistaken.status.is_unset


def test_an_endpoint_must_be_a_url() -> None:
    with pytest.raises(ValidationError):
        Settings(traces_endpoint="collector:4318")
