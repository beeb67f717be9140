"""The dashboard of what is asked for and what is made."""

from __future__ import annotations

from panels import Dashboard, Panel, Query, Row
from queries import CONTINUE, heatmap, here, mean, rate

CONTENT = Dashboard(
    "audiolm-content",
    "AudioLM: content",
    "What is asked for and what is made: lengths and amounts of sound. No sound and no text is ever recorded.",
    (
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
