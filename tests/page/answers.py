"""Answers of POST /detect as they may come, for what the page makes of them.

Each holds what `service.findings` promises: any layer may be null. The test of the real route is in
`test_check_for_real.py`.
"""

from __future__ import annotations

from typing import Any

Answer = dict[str, Any]

SECONDS = 5.0
GENERATION = "4f0c2d1ab37e4c5d9a6b8e7f00112233"


def timeline(probabilities: list[float], *, window: float = 2.5, hop: float = 0.5) -> list[Answer]:
    return [
        {"start": hop * i, "end": hop * i + window, "probability": probability}
        for i, probability in enumerate(probabilities)
    ]


def answer(verdict: str, summary: str, **changes: Any) -> Answer:
    """Every layer looked, none found anything; `changes` on top."""
    return {
        "id": "f3a1",
        "verdict": verdict,
        "summary": summary,
        "probability": 0.02,
        "seconds": SECONDS,
        "timeline": timeline([0.02, 0.03, 0.02, 0.05, 0.02, 0.01]),
        "segments": [],
        "watermark": {"present": False, "p_value": 0.41, "payload": None, "key_id": None, "segments": []},
        "content_credentials": {
            "state": "none",
            "signer": None,
            "generation_id": None,
            "detail": "no manifest",
        },
        "ledger": {
            "match": "none",
            "generation_id": None,
            "created_at": None,
            "bundle": None,
            "seed": None,
            "segments": [],
        },
        "evidence": [],
        "operating_point": {
            "bucket": "3-5 s",
            "threshold": 0.9,
            "false_positive_rate": 0.001,
            "upper_bound": 0.003,
            "clips": 3000,
            "true_positive_rate": 0.94,
        },
        "versions": {"service": "0.2.0", "bundle": "music box 1.0", "detector": "1", "watermark": "1"},
        **changes,
    }


NO_EVIDENCE = answer(
    "no_evidence", "Nothing was found that this system made any of this clip; that does not tell who did."
)

INCONCLUSIVE = answer(
    "inconclusive",
    "The classifier leans towards this system (0.71), below the 0.90 at which it counts.",
    probability=0.71,
    timeline=timeline([0.3, 0.52, 0.71, 0.66, 0.4, 0.35]),
)

PARTLY = answer(
    "partly",
    "This system made 3.0-5.0 s of this clip: its sound carries this system's watermark (p = 1.0e-09), which names "
    f"generation {GENERATION}. Of the rest there is no evidence.",
    probability=0.97,
    timeline=timeline([0.03, 0.02, 0.2, 0.81, 0.96, 0.97]),
    segments=[{"start": 3.0, "end": 5.0, "evidence": ["ledger", "watermark", "classifier"]}],
    watermark={
        "present": True,
        "p_value": 1e-9,
        "payload": 4711,
        "key_id": "ab12cd34",
        "segments": [{"start": 3.1, "end": 5.0}],
    },
    ledger={
        "match": "payload",
        "generation_id": GENERATION,
        "created_at": "2026-11-22T14:20:00Z",
        "bundle": "music box 1.0",
        "seed": 7,
        "segments": [{"start": 3.0, "end": 5.0}],
    },
    content_credentials={
        "state": "untrusted",
        "signer": "Example Recorder",
        "generation_id": None,
        "detail": "the signature is valid, its certificate is of no known authority",
    },
    evidence=["ledger", "watermark", "classifier"],
)

OURS = answer(
    "made_by_this_system",
    "This system made this clip: it carries this system's own valid signature.",
    probability=0.9996,
    timeline=timeline([0.98, 0.99, 0.9996, 0.9996, 0.99, 0.97]),
    segments=[
        {"start": 0.0, "end": 5.0, "evidence": ["content_credentials", "ledger", "watermark", "classifier"]}
    ],
    watermark={
        "present": True,
        "p_value": 1e-30,
        "payload": 4711,
        "key_id": "ab12cd34",
        "segments": [{"start": 0.0, "end": 5.0}],
    },
    ledger={
        "match": "file",
        "generation_id": GENERATION,
        "created_at": "2026-11-22T14:20:00Z",
        "bundle": "music box 1.0",
        "seed": 7,
        "segments": [{"start": 0.0, "end": 5.0}],
    },
    content_credentials={
        "state": "ours",
        "signer": "AudioLM as a service",
        "generation_id": GENERATION,
        "detail": "valid, and unchanged since",
    },
    evidence=["content_credentials", "ledger", "watermark", "classifier"],
)

BLIND = answer(
    "inconclusive",
    "This file carries no proof, and no layer that looks at the sound itself is at work here. Not looked at: content "
    "credentials, the ledger, the watermark, the classifier.",
    probability=None,
    timeline=[],
    watermark=None,
    content_credentials=None,
    ledger=None,
    operating_point=None,
    versions={"service": "0.2.0", "bundle": "music box 1.0", "detector": None, "watermark": None},
)

ALL = {
    "no-evidence": NO_EVIDENCE,
    "inconclusive": INCONCLUSIVE,
    "partly": PARTLY,
    "ours": OURS,
    "blind": BLIND,
}
