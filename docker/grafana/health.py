"""The dashboard of the service's health: traffic by outcome, objective, speed, engine, failures, memory."""

from __future__ import annotations

from panels import Dashboard, Panel, Query, Row
from queries import CONTINUE, OURS, heatmap, here, mean, quantile, quantiles, rate, stat

ERROR_BUDGET = 0.01  # part of the requests that may fail, as in prometheus/rules/recording.yml

HEALTH = Dashboard(
    "audiolm-service",
    "AudioLM: service health",
    "Traffic, speed, engine and memory of the instances. Alerts and what to do: docker/prometheus/rules/alerts.yml.",
    (
        Row(
            "Is it well?",
            (
                stat("Ready", "Instances that accept requests.", "none", f"sum ({here('audiolm_ready')})"),
                stat("Draining", "Finishing before their end.", "none", f"sum ({here('audiolm_draining')})"),
                stat(
                    "Error budget burn",
                    "1: the budget of 30 days lasts 30 days. Above 14.4 somebody is woken.",
                    "none",
                    f"(audiolm:error_ratio:rate1h / {ERROR_BUDGET}) or vector(0)",
                    limit=6,
                ),
                stat(
                    "Alerts",
                    "Firing now.",
                    "none",
                    'count(ALERTS{alertstate="firing"}) or vector(0)',
                    limit=1,
                ),
                stat(
                    "Sound made",
                    "Seconds of sound per second: real-time streams that the instances carry.",
                    "none",
                    rate("audiolm_engine_audio_seconds_total"),
                ),
                stat(
                    "Engine heartbeat",
                    "Since the last step of the slowest engine; idle ones beat once a second.",
                    "s",
                    f"max ({here('audiolm_engine_heartbeat_age_seconds')})",
                    limit=15,
                ),
            ),
        ),
        Row(
            "Traffic",
            (
                Panel(
                    "Requests by outcome",
                    "/continue only. Anything but ok and client_error is ours to explain.",
                    "reqps",
                    (Query(rate("audiolm_requests_total", CONTINUE, "outcome"), "{{outcome}}"),),
                    stacked=True,
                ),
                Panel(
                    "Requests by route",
                    "Templates, never paths; what no route knows is 'unmatched'.",
                    "reqps",
                    (Query(rate("audiolm_requests_total", by="route"), "{{route}}"),),
                ),
                Panel(
                    "Rejections by reason",
                    "Work refused although nothing was wrong with it.",
                    "reqps",
                    (Query(rate("audiolm_rejections_total", by="reason"), "{{reason}}"),),
                    stacked=True,
                ),
                Panel(
                    "Errors against the objective",
                    "Share of requests that fail, over three windows; the line is the objective.",
                    "percentunit",
                    (
                        Query("audiolm:error_ratio:rate5m", "5 minutes"),
                        Query("audiolm:error_ratio:rate1h", "1 hour"),
                        Query("audiolm:error_ratio:rate6h", "6 hours"),
                    ),
                    limit=ERROR_BUDGET,
                ),
                Panel(
                    "How continuations end",
                    "cancelled: callers left. failed: alone, without hurting others. expired: past the deadline.",
                    "reqps",
                    (Query(rate("audiolm_continuations_total", by="reason"), "{{reason}}"),),
                ),
                Panel(
                    "Sound made and heard",
                    "The gap is sound made for callers who left before the end.",
                    "none",
                    (
                        Query(rate("audiolm_engine_audio_seconds_total"), "made"),
                        Query(rate("audiolm_generated_audio_seconds_sum"), "heard"),
                    ),
                ),
            ),
        ),
        Row(
            "Speed",
            (
                heatmap(
                    "Time to first audio",
                    "From submission to the first new sound; does not depend on the length asked for.",
                    "s",
                    "audiolm_time_to_first_audio_seconds",
                ),
                heatmap(
                    "Duration of requests",
                    "Whole answers of /continue, upload included.",
                    "s",
                    "audiolm_request_duration_seconds",
                    CONTINUE,
                ),
                Panel(
                    "Time to first audio",
                    "The line is where an alert begins.",
                    "s",
                    quantiles("audiolm_time_to_first_audio_seconds"),
                    limit=3,
                ),
                Panel(
                    "Real-time factor",
                    "Time per second of sound; above 1 a streamed answer stutters.",
                    "none",
                    quantiles("audiolm_real_time_factor"),
                    limit=1,
                ),
                Panel(
                    "Queue against stages",
                    "Mean time of one continuation in the queue and in each stage: the highest is the bottleneck.",
                    "s",
                    (
                        Query(mean("audiolm_queue_seconds"), "queue"),
                        Query(mean("audiolm_stage_seconds", "stage"), "{{stage}}"),
                    ),
                ),
                Panel(
                    "Between pieces of a stream",
                    "Time from one piece of new sound to the next.",
                    "s",
                    quantiles("audiolm_inter_chunk_seconds"),
                ),
                Panel(
                    "Stream underruns",
                    "Times a listener had to wait in the middle.",
                    "reqps",
                    (Query(rate("audiolm_stream_underruns_total"), "underruns"),),
                ),
                Panel(
                    "Waiting for a slot",
                    "From submission to the first step.",
                    "s",
                    quantiles("audiolm_queue_seconds"),
                    limit=10,
                ),
            ),
        ),
        Row(
            "Engine",
            (
                Panel(
                    "Slots and queue",
                    "Full slots with a queue behind them: time to add an instance.",
                    "none",
                    (
                        Query(f"sum ({here('audiolm_slots')})", "slots"),
                        Query(f"sum ({here('audiolm_slots_used')})", "used"),
                        Query(f"sum ({here('audiolm_running')})", "running"),
                        Query(f"sum ({here('audiolm_waiting')})", "waiting"),
                    ),
                ),
                Panel(
                    "Backlog",
                    "Time to finish all accepted work; at the limit requests are refused.",
                    "s",
                    (
                        Query(f"max ({here('audiolm_backlog_seconds')})", "fullest instance"),
                        Query(f"min ({here('audiolm_backlog_limit_seconds')})", "limit"),
                    ),
                ),
                Panel(
                    "Batch size",
                    "Mean rows of a batch: what batching gains.",
                    "none",
                    (Query(mean("audiolm_batch_rows", "stage"), "{{stage}}"),),
                ),
                Panel(
                    "Padding",
                    "Share of computed rows that nobody asked for.",
                    "percentunit",
                    (
                        Query(
                            f"{rate('audiolm_padding_rows_total', by='stage')} / "
                            f"({rate('audiolm_padding_rows_total', by='stage')} "
                            f"+ {rate('audiolm_batch_rows_sum', by='stage')} > 0)",
                            "{{stage}}",
                        ),
                    ),
                ),
                Panel(
                    "Engine steps",
                    "p95 of one batch's time: how long a new request waits at least.",
                    "s",
                    (Query(quantile(0.95, "audiolm_engine_step_seconds", by="stage"), "{{stage}}"),),
                ),
                Panel(
                    "Work done",
                    "Semantic tokens, coarse frames, levels of fine windows and pieces of sound per second.",
                    "none",
                    (Query(rate("audiolm_engine_units_total", by="stage"), "{{stage}}"),),
                ),
            ),
        ),
        Row(
            "Failures and resources",
            (
                Panel(
                    "Failing batches",
                    "Batches that raised, and those of them that did not fit into memory.",
                    "none",
                    (
                        Query(
                            f"sum (increase({here('audiolm_failed_batches_total')}[5m]))",
                            "failed in 5 minutes",
                        ),
                        Query(f"sum (increase({here('audiolm_out_of_memory_total')}[5m]))", "out of memory"),
                    ),
                ),
                Panel(
                    "Row budget",
                    "Part of each batch's rows in use; below 1 after an out-of-memory, growing back.",
                    "percentunit",
                    (Query(here("audiolm_row_budget_ratio"), "{{instance}}"),),
                ),
                Panel(
                    "Restarts",
                    "Starts of the process within an hour.",
                    "none",
                    (
                        Query(
                            f"changes({here('process_start_time_seconds', OURS)}[1h])",
                            "{{instance}}",
                        ),
                    ),
                ),
                Panel(
                    "Memory",
                    "Of the process, and of the uploads it holds. A steady slope is a leak.",
                    "bytes",
                    (
                        Query(here("process_resident_memory_bytes", OURS), "{{instance}}"),
                        Query(here("audiolm_upload_bytes"), "{{instance}} uploads"),
                    ),
                ),
                Panel(
                    "Device memory",
                    "Of the GPU: allocated to tensors, and reserved by the process. Nothing on a CPU.",
                    "bytes",
                    (Query(here("audiolm_device_memory_bytes"), "{{instance}} {{state}}"),),
                ),
                Panel(
                    "Processor and files",
                    "Cores in use, and the share of file descriptors that are open.",
                    "none",
                    (
                        Query(
                            f"rate({here('process_cpu_seconds_total', OURS)}[$__rate_interval])",
                            "{{instance}} cores",
                        ),
                        Query(
                            f"{here('process_open_fds', OURS)} / {here('process_max_fds', OURS)}",
                            "{{instance}} files",
                        ),
                    ),
                ),
                Panel(
                    "Versions",
                    "Of the service and of the bundle, per instance.",
                    "none",
                    (Query(here("audiolm_build_info")), Query(here("audiolm_bundle_info"))),
                    kind="table",
                    width=24,
                ),
            ),
        ),
    ),
)
