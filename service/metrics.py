"""What the service tells Prometheus of requests. One registry per app, prefix `audiolm_`, base units, few label values.

Decisions held here: routes are labelled by their template and everything else is "unmatched", so that a scanner adds
no series; every outcome and every reason for a rejection exists from the start at 0, because a rate needs the step
from 0 to 1; durations are of requests that were answered, so that quick refusals do not make them look better.
Numbers of the engine are in `engine_metrics.py`. A test holds the dashboards to what is exported, and the reverse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from service.findings import DetectAnswer, Layer, Verdict
from service.tickets import EngineResult

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

OUTCOMES = ("ok", "client_error", "rejected", "deadline", "cancelled", "oom", "error")
REJECTIONS = (
    "overloaded",
    "upload_memory_full",
    "not_ready",
    "draining",
    "stopped",
    "engine_failed",
    "provenance_unavailable",
)
WORK_ROUTES = (
    "/continue",
    "/detect",
)  # the routes that the service is there for: rejections are about them
LEDGER_OPERATIONS = ("record", "look_up")

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0)
_FACTORS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 5.0, 10.0, 50.0)
_LENGTHS = (0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 60.0)
_CLIP_LENGTHS = (*_LENGTHS, 120.0, 300.0, 600.0)
_PROBABILITIES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


class Metrics:
    """The registry and the instruments that requests write to."""

    def __init__(self) -> None:
        # Creation times are a third more series, of no use to Prometheus.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "audiolm_requests",
            "Requests by route template and outcome.",
            ["route", "outcome"],
            registry=self.registry,
        )
        self.rejections = Counter(
            "audiolm_rejections",
            "Work refused although nothing was wrong with it.",
            ["reason"],
            registry=self.registry,
        )
        self.request_duration = self._histogram(
            "audiolm_request_duration_seconds", "Whole requests that were answered.", _SECONDS, ["route"]
        )
        self.queue = self._histogram("audiolm_queue_seconds", "From submission to the first step.", _SECONDS)
        self.time_to_first_audio = self._histogram(
            "audiolm_time_to_first_audio_seconds", "From submission to the first new samples.", _SECONDS
        )
        self.inter_chunk = self._histogram(
            "audiolm_inter_chunk_seconds", "Between two pieces of new sound of a streamed answer.", _SECONDS
        )
        self.stage = self._histogram(
            "audiolm_stage_seconds",
            "Batches of one stage that a continuation was part of.",
            _SECONDS,
            ["stage"],
        )
        self.real_time_factor = self._histogram(
            "audiolm_real_time_factor",
            "Time from submission to the last sample over the length of the sound.",
            _FACTORS,
        )
        self.prompt_audio = self._histogram("audiolm_prompt_audio_seconds", "Length of prompts.", _LENGTHS)
        self.generated_audio = self._histogram(
            "audiolm_generated_audio_seconds", "Length of finished continuations, without prompts.", _LENGTHS
        )
        self.underruns = Counter(
            "audiolm_stream_underruns",
            "Times a listener who plays a streamed answer from its first new sound had to wait.",
            registry=self.registry,
        )
        self.watermark_embeddings = Counter(
            "audiolm_watermark_embeddings",
            "Continuations that were given the watermark.",
            registry=self.registry,
        )
        self.ledger_failures = Counter(
            "audiolm_ledger_failures",
            "Times the ledger could not be written (record) or asked (look_up).",
            ["operation"],
            registry=self.registry,
        )
        self.credential_failures = Counter(
            "audiolm_credential_failures", "Times an answer could not be signed.", registry=self.registry
        )
        self.detections = Counter(
            "audiolm_detections", "Clips examined, by verdict.", ["verdict"], registry=self.registry
        )
        self.detect_evidence = Counter(
            "audiolm_detect_evidence",
            "Clips examined in which this layer spoke for us.",
            ["layer"],
            registry=self.registry,
        )
        self.detect_audio = self._histogram(
            "audiolm_detect_audio_seconds", "Length of clips examined.", _CLIP_LENGTHS
        )
        self.detect_probability = self._histogram(
            "audiolm_detect_probability", "What the classifier said of a whole clip.", _PROBABILITIES
        )
        self.detect_step = self._histogram(
            "audiolm_detect_step_seconds", "Time of one step of examining a clip.", _SECONDS, ["step"]
        )
        Gauge(
            "audiolm_build_info", "1, with the version of the service.", ["version"], registry=self.registry
        ).labels(version("audiolm-service")).set(1)
        for route in WORK_ROUTES:
            self.request_duration.labels(route)
            for outcome in OUTCOMES:
                self.requests.labels(route, outcome)
        for reason in REJECTIONS:
            self.rejections.labels(reason)
        for operation in LEDGER_OPERATIONS:
            self.ledger_failures.labels(operation)
        for verdict in get_args(Verdict):
            self.detections.labels(verdict)
        for layer in get_args(Layer):
            self.detect_evidence.labels(layer)

    def watch_uploads(self, used: Callable[[], float]) -> None:
        """Tell at every scrape how many bytes of uploads are held."""
        gauge = Gauge("audiolm_upload_bytes", "Uploads held in memory.", registry=self.registry)
        gauge.set_function(used)

    def observe_request(self, route: str, outcome: str, code: str, seconds: float) -> None:
        """Count one request. `code` is that of the problem it was answered with, or empty."""
        self.requests.labels(route, outcome).inc()
        if outcome == "ok":
            self.request_duration.labels(route).observe(seconds)
        if outcome == "rejected" and route in WORK_ROUTES:
            self.rejections.labels(code).inc()

    def observe_continuation(
        self, result: EngineResult, seconds: float, sample_rate: int, *, streamed: bool
    ) -> None:
        """Count one finished continuation of `seconds`."""
        for stage, taken in result.stage_seconds.items():
            if stage == "queue":
                self.queue.observe(taken)
            else:
                self.stage.labels(stage).observe(taken)
        self.time_to_first_audio.observe(result.first_audio_seconds)
        self.real_time_factor.observe(result.seconds / seconds)
        self.generated_audio.observe(seconds)
        if streamed:
            for gap in result.gaps():
                self.inter_chunk.observe(gap)
            self.underruns.inc(result.underruns(sample_rate))

    def count_layer(self, layer: str, applied: bool) -> None:
        """Count that a layer of provenance was applied to a continuation, or failed."""
        if layer == "watermark" and applied:
            self.watermark_embeddings.inc()
        elif layer == "ledger" and not applied:
            self.ledger_failures.labels("record").inc()
        elif layer == "content_credentials" and not applied:
            self.credential_failures.inc()

    def observe_detection(self, answer: DetectAnswer, steps: Mapping[str, float]) -> None:
        """Count one clip that was examined; `steps` are the seconds of each step."""
        self.detections.labels(answer.verdict).inc()
        for layer in answer.evidence:
            self.detect_evidence.labels(layer).inc()
        self.detect_audio.observe(answer.seconds)
        if answer.probability is not None:
            self.detect_probability.observe(answer.probability)
        for step, taken in steps.items():
            self.detect_step.labels(step).observe(taken)

    def exposition(self) -> bytes:
        """The text of one scrape."""
        return generate_latest(self.registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], labels: list[str] | None = None
    ) -> Histogram:
        return Histogram(name, text, labels or [], buckets=buckets, registry=self.registry)
