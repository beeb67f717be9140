"""The dashboard of what is asked for, what is made, and what is known again: provenance and content."""

from __future__ import annotations

from panels import Dashboard, Panel, Query, Row
from queries import CONTINUE, DETECT, heatmap, here, mean, quantiles, rate, stat

CONTENT = Dashboard(
    "audiolm-content",
    "AudioLM: provenance and content",
    "What is made and marked, and what is known again when it comes back. No sound and no text is ever recorded.",
    (
        Row(
            "Is it well?",
            (
                stat(
                    "Clips examined",
                    "In the last hour.",
                    "none",
                    f"sum (increase({here('audiolm_detections_total')}[1h]))",
                ),
                stat(
                    "Found to be ours",
                    "Part of the clips examined in the last hour, wholly or in part.",
                    "percentunit",
                    "audiolm:detections_of_ours:ratio_rate1h",
                ),
                stat(
                    "Drift of that part",
                    "Against the week; far from 0 either the uploads or the layers have changed.",
                    "percentunit",
                    "abs(audiolm:detections_of_ours:ratio_rate1h - audiolm:detections_of_ours:ratio_rate1w)",
                    limit=0.2,
                ),
                stat(
                    "Drift of the classifier",
                    "Mean probability of the last hour against the week's.",
                    "none",
                    "abs(audiolm:detect_probability:mean_rate1h - audiolm:detect_probability:mean_rate1w)",
                    limit=0.15,
                ),
                stat(
                    "Watermarked",
                    "Part of the continuations finished in the last hour; 1 while the watermark is on.",
                    "percentunit",
                    f"sum (increase({here('audiolm_watermark_embeddings_total')}[1h])) / "
                    f"(sum (increase({here('audiolm_generated_audio_seconds_count')}[1h])) > 0)",
                ),
                stat(
                    "Ledger failures",
                    "In the last hour: rows not written, and questions not answered.",
                    "none",
                    f"sum (increase({here('audiolm_ledger_failures_total')}[1h]))",
                    limit=1,
                ),
            ),
        ),
        Row(
            "Detections",
            (
                Panel(
                    "Detections by verdict",
                    "Clips per second.",
                    "reqps",
                    (Query(rate("audiolm_detections_total", by="verdict"), "{{verdict}}"),),
                    stacked=True,
                ),
                Panel(
                    "What spoke for us",
                    "Layers that found something, per second. Where watermark and classifier part: look closer.",
                    "reqps",
                    (Query(rate("audiolm_detect_evidence_total", by="layer"), "{{layer}}"),),
                ),
                Panel(
                    "Requests to /detect by outcome",
                    "Anything but ok and client_error is ours to explain.",
                    "reqps",
                    (Query(rate("audiolm_requests_total", DETECT, "outcome"), "{{outcome}}"),),
                    stacked=True,
                ),
                heatmap(
                    "Probability",
                    "What the classifier says of whole clips: two clouds, and little between them.",
                    "none",
                    "audiolm_detect_probability",
                ),
                heatmap("Clips to examine", "Seconds of sound in each.", "s", "audiolm_detect_audio_seconds"),
                Panel(
                    "Duration of /detect",
                    "Whole answers, upload included.",
                    "s",
                    quantiles("audiolm_request_duration_seconds", DETECT),
                ),
                Panel(
                    "Steps of /detect",
                    "Mean time of each; detect is the classifier, which runs beside the others.",
                    "s",
                    (Query(mean("audiolm_detect_step_seconds", "step"), "{{step}}"),),
                ),
                Panel(
                    "Marks and rows",
                    "Continuations watermarked per second, and failures of the ledger and of signing.",
                    "reqps",
                    (
                        Query(rate("audiolm_watermark_embeddings_total"), "watermarked"),
                        Query(
                            rate("audiolm_ledger_failures_total", by="operation"),
                            "ledger failed: {{operation}}",
                        ),
                        Query(rate("audiolm_credential_failures_total"), "not signed"),
                    ),
                ),
            ),
        ),
        Row(
            "Amounts",
            (
                Panel(
                    "Continuations finished",
                    "Per second, over all instances.",
                    "reqps",
                    (Query(rate("audiolm_generated_audio_seconds_count"), "continuations"),),
                ),
                Panel(
                    "Sound handed out",
                    "Seconds of new sound in the last hour.",
                    "s",
                    (
                        Query(
                            f"sum (increase({here('audiolm_generated_audio_seconds_sum')}[1h]))", "last hour"
                        ),
                    ),
                ),
                Panel(
                    "Uploads refused",
                    "Requests with something wrong with them: no audio, too long, a bad parameter.",
                    "reqps",
                    (
                        Query(
                            rate("audiolm_requests_total", CONTINUE + ', outcome="client_error"'),
                            "client errors",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Lengths",
            (
                heatmap(
                    "Prompts", "Seconds of sound kept of the upload.", "s", "audiolm_prompt_audio_seconds"
                ),
                heatmap("Continuations", "Seconds of new sound.", "s", "audiolm_generated_audio_seconds"),
                Panel(
                    "Mean lengths",
                    "Of prompts and of continuations.",
                    "s",
                    (
                        Query(mean("audiolm_prompt_audio_seconds"), "prompt"),
                        Query(mean("audiolm_generated_audio_seconds"), "continuation"),
                    ),
                    width=24,
                ),
            ),
        ),
    ),
)
