"""What the service tells Prometheus of its engine, read from it at every scrape, so that nothing in the engine knows
of metrics. While the model is loading, only the worker's own state is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from model.engine.counters import Distribution
from model.engine.errors import NotReady
from model.engine.sequence import Reason
from service.gauges import Gauges
from service.worker import Worker


class WorkerCollector(Collector):
    """The numbers of `worker` and of the engine it owns."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    def describe(self) -> list[Metric]:
        return []  # registration must not ask an engine that is still loading

    def collect(self) -> Iterator[Metric]:
        worker = self.worker
        yield GaugeMetricFamily(
            "audiolm_ready", "1 when requests are accepted.", float(worker.state == "ready")
        )
        yield GaugeMetricFamily(
            "audiolm_draining", "1 while finishing before the end.", float(worker.state == "draining")
        )
        yield GaugeMetricFamily(
            "audiolm_backlog_limit_seconds",
            "Backlog above which requests are refused.",
            worker.max_backlog_seconds,
        )
        try:
            gauges = worker.gauges()
            card = worker.engine.runner.card
        except NotReady:
            return
        info = GaugeMetricFamily("audiolm_bundle_info", "1, with what is served.", labels=["name", "version"])
        info.add_metric([str(card.get("name", "")), str(card.get("version", ""))], 1)
        yield info
        yield from _now(gauges)
        yield from _so_far(gauges)


def _now(gauges: Gauges) -> Iterator[Metric]:
    """What goes up and down."""
    yield GaugeMetricFamily("audiolm_running", "Continuations and other work in the engine.", gauges.running)
    yield GaugeMetricFamily("audiolm_waiting", "Continuations without a slot yet.", gauges.waiting)
    yield GaugeMetricFamily("audiolm_slots", "Continuations that can run at once.", gauges.slots)
    yield GaugeMetricFamily("audiolm_slots_used", "Slots that a continuation holds.", gauges.slots_used)
    yield GaugeMetricFamily(
        "audiolm_backlog_seconds", "Time to finish all accepted work.", gauges.backlog_seconds
    )
    yield GaugeMetricFamily(
        "audiolm_engine_heartbeat_age_seconds", "Since the engine's last step.", gauges.heartbeat_age
    )
    yield GaugeMetricFamily(
        "audiolm_row_budget_ratio",
        "Part of each batch's rows in use; less than 1 after an out-of-memory.",
        gauges.row_budget,
    )
    memory = GaugeMetricFamily(
        "audiolm_device_memory_bytes", "Memory of the GPU, by state.", labels=["state"]
    )
    for state, size in gauges.device_memory.items():
        memory.add_metric([state], size)
    yield memory


def _so_far(gauges: Gauges) -> Iterator[Metric]:
    """What only grows."""
    yield CounterMetricFamily("audiolm_out_of_memory", "Batches that did not fit.", gauges.out_of_memory)
    yield CounterMetricFamily(
        "audiolm_failed_batches",
        "Batches that raised; each is halved until only the offender fails.",
        gauges.failed_batches,
    )
    yield CounterMetricFamily(
        "audiolm_engine_audio_seconds", "Sound made, heard or not.", gauges.audio_seconds
    )
    yield _counter(
        "audiolm_continuations",
        "Work of the engine by how it ended.",
        "reason",
        {reason: gauges.finished.get(reason, 0) for reason in Reason},
    )
    yield _counter(
        "audiolm_engine_units",
        "Units of work: semantic tokens, coarse frames, levels of fine windows, pieces of sound.",
        "stage",
        gauges.units,
    )
    yield _counter("audiolm_padding_rows", "Rows of batches computed for nobody.", "stage", gauges.padding)
    yield _histogram("audiolm_engine_step_seconds", "Time of one batch.", gauges.step_seconds)
    yield _histogram("audiolm_batch_rows", "Continuations side by side in one batch.", gauges.batch_rows)


def _counter(name: str, text: str, label: str, values: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family


def _histogram(name: str, text: str, stages: Mapping[str, Distribution]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, text, labels=["stage"])
    for stage, distribution in stages.items():
        buckets, total = [], 0
        bounds = [*(str(float(bound)) for bound in distribution.bounds), "+Inf"]
        for bound, count in zip(bounds, list(distribution.counts), strict=True):
            total += count
            buckets.append((bound, float(total)))
        family.add_metric([stage], buckets, distribution.total)
    return family
