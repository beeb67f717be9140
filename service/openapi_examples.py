"""Sample answers of /detect for the API description. Made by the models that answer, so they cannot fall behind."""

from __future__ import annotations

from typing import Any

from service.findings import (
    CredentialsFinding,
    LedgerFinding,
    OperatingPoint,
    Span,
    Versions,
    WatermarkFinding,
    WindowFinding,
)
from service.verdict import ClassifierFinding, Findings, answer_of

_POINT = OperatingPoint(
    bucket="5-10 s",
    threshold=0.9,
    false_positive_rate=0.001,
    upper_bound=0.003,
    clips=3000,
    true_positive_rate=0.9,
)
_VERSIONS = Versions(service="0.2.0", bundle="1", detector="1", watermark="1")
_GENERATED = (Span(start=3.0, end=8.0),)
_NOT_IN_LEDGER = LedgerFinding(
    match="none", generation_id=None, created_at=None, bundle=None, seed=None, segments=[]
)
_UNSIGNED = CredentialsFinding(
    state="none", signer=None, generation_id=None, detail="The file has no content credentials."
)
_UNMARKED = WatermarkFinding(present=False, p_value=0.38, payload=None, key_id=None, segments=[])


def _classifier(probability: float, *windows: float, segments: tuple[Span, ...] = ()) -> ClassifierFinding:
    timeline = tuple(
        WindowFinding(start=i / 2, end=i / 2 + 2.5, probability=value) for i, value in enumerate(windows)
    )
    return ClassifierFinding(probability, timeline, segments, _POINT)


_ANSWER_OF_OURS = Findings(
    8.0,
    content_credentials=CredentialsFinding(
        state="ours",
        signer="AudioLM as a service",
        generation_id="5b0c6e2f9b1d4a7c8d3e2f1a0b9c8d7e",
        detail="Signed by this system; unchanged since.",
    ),
    ledger=LedgerFinding(
        match="file",
        generation_id="5b0c6e2f9b1d4a7c8d3e2f1a0b9c8d7e",
        created_at="2026-11-22T14:03:11Z",
        bundle="starter 1",
        seed=7,
        segments=list(_GENERATED),
    ),
    watermark=WatermarkFinding(
        present=True, p_value=1e-12, payload=1234, key_id="ab12cd34", segments=list(_GENERATED)
    ),
    classifier=_classifier(0.97, 0.03, 0.05, 0.2, 0.6, 0.9, 0.97, 0.98, segments=_GENERATED),
)
_CUT_IN = Findings(
    8.0,
    _UNSIGNED,
    _NOT_IN_LEDGER,
    WatermarkFinding(present=True, p_value=1e-9, payload=1234, key_id="ab12cd34", segments=list(_GENERATED)),
    _classifier(0.95, 0.03, 0.05, 0.2, 0.6, 0.9, 0.97, 0.98, segments=_GENERATED),
)
_NOT_OURS = Findings(3.0, _UNSIGNED, _NOT_IN_LEDGER, _UNMARKED, _classifier(0.02, 0.02, 0.03))

DETECT_EXAMPLES: dict[str, dict[str, Any]] = {
    name: answer_of("8c1d2e3f", findings, _VERSIONS).model_dump()
    for name, findings in {
        "an answer of ours, unchanged": _ANSWER_OF_OURS,
        "a part of ours, re-encoded": _CUT_IN,
        "a recording": _NOT_OURS,
    }.items()
}
