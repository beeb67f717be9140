"""One OpenTelemetry span per request, which continues the trace of a caller who sends `traceparent`.

Decisions held here: a span is made when its request has ended, from what is known then; the stages are attributes in
seconds, not spans of their own, because those of one continuation interleave. Needs the extra `otel`, so nothing but
`app.py` imports this file, and only when traces are asked for. Never sound, keys, paths or queries.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

NANOSECONDS = 1_000_000_000


class Traces:
    """Hands the spans of requests to `processor`, which sends them where they belong."""

    def __init__(self, processor: SpanProcessor) -> None:
        resource = Resource({"service.name": "audiolm", "service.version": version("audiolm-service")})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("audiolm")
        self._propagator = TraceContextTextMapPropagator()

    def record(
        self,
        name: str,
        headers: Mapping[str, str],
        seconds: float,
        attributes: Mapping[str, str | int | float],
        *,
        failed: bool,
    ) -> None:
        """A request that took `seconds` and ends now. `headers` may name the caller's span."""
        end = time.time_ns()
        span = self._tracer.start_span(
            name,
            context=self._propagator.extract(headers),
            kind=SpanKind.SERVER,
            attributes=attributes,
            start_time=end - round(seconds * NANOSECONDS),
        )
        if failed:
            span.set_status(StatusCode.ERROR)
        span.end(end)

    def close(self) -> None:
        """Send what has not been sent yet. Blocks."""
        self._provider.shutdown()


def traces_to(endpoint: str) -> Traces:
    """Traces for an OpenTelemetry collector at `endpoint` (OTLP over HTTP, such as http://collector:4318/v1/traces)."""
    return Traces(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
