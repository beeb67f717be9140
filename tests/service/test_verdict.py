"""What follows from findings: trust in order, seconds from the most trusted layer, and nothing said of strangers."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.findings import (
    CredentialsFinding,
    LedgerFinding,
    OperatingPoint,
    Span,
    WatermarkFinding,
)
from service.verdict import ClassifierFinding, Conclusion, Findings, conclude

POINT = OperatingPoint(
    bucket="5-10 s",
    threshold=0.9,
    false_positive_rate=0.001,
    upper_bound=0.003,
    clips=3000,
    true_positive_rate=0.8,
)


def spans(*pairs: tuple[float, float]) -> list[Span]:
    return [Span(start=start, end=end) for start, end in pairs]


def signed(state: str, signer: str | None = "somebody") -> CredentialsFinding:
    return CredentialsFinding(state=state, signer=signer, generation_id=None, detail="")  # type: ignore[arg-type]


def ledger(match: str, *pairs: tuple[float, float]) -> LedgerFinding:
    known = match != "none"
    return LedgerFinding(
        match=match,  # type: ignore[arg-type]
        generation_id="g1" if known else None,
        created_at="2026-11-22T12:00:00Z" if known else None,
        bundle="starter 1" if known else None,
        seed=7 if known else None,
        segments=spans(*pairs),
    )


def mark(*pairs: tuple[float, float]) -> WatermarkFinding:
    present = bool(pairs)
    return WatermarkFinding(
        present=present,
        p_value=1e-9 if present else 0.4,
        payload=5 if present else None,
        key_id="ab12cd34" if present else None,
        segments=spans(*pairs),
    )


def classifier(probability: float, *pairs: tuple[float, float], point: Any = POINT) -> ClassifierFinding:
    return ClassifierFinding(probability, (), tuple(spans(*pairs)), point)


def of(seconds: float = 8.0, **layers: Any) -> Conclusion:
    quiet = {
        "content_credentials": signed("none", None),
        "ledger": ledger("none"),
        "watermark": mark(),
        "classifier": classifier(0.02),
    }
    return conclude(Findings(seconds, **{**quiet, **layers}))


def found(conclusion: Conclusion) -> list[tuple[float, float, list[str]]]:
    return [(segment.start, segment.end, list(segment.evidence)) for segment in conclusion.segments]


def test_nothing_found() -> None:
    conclusion = of()
    assert conclusion.verdict == "no_evidence"
    assert conclusion.segments == () == conclusion.evidence
    assert "does not tell who" in conclusion.summary


def test_our_answer_byte_for_byte() -> None:
    conclusion = of(
        content_credentials=signed("ours"),
        signed=tuple(spans((3, 8))),
        ledger=ledger("file", (3, 8)),
        watermark=mark((3.1, 7.9)),
        classifier=classifier(0.97, (2.5, 8)),
    )
    everyone = ["content_credentials", "ledger", "watermark", "classifier"]
    assert conclusion.verdict == "made_by_this_system"
    assert found(conclusion) == [(3, 8, everyone)]
    assert list(conclusion.evidence) == everyone
    assert "own valid signature" in conclusion.summary and "3.0-8.0 s" in conclusion.summary


@pytest.mark.parametrize("layer", ["content_credentials", "ledger"])
def test_a_file_of_ours_needs_no_other_layer(layer: str) -> None:
    layers: dict[str, Any] = dict.fromkeys(("content_credentials", "ledger", "watermark", "classifier"))
    layers[layer] = signed("ours") if layer == "content_credentials" else ledger("file", (3, 8))
    conclusion = conclude(Findings(8.0, **layers))
    assert conclusion.verdict == "made_by_this_system"
    assert conclusion.evidence == (layer,)
    assert "Not looked at" in conclusion.summary and "the watermark" in conclusion.summary


def test_our_signature_says_which_seconds() -> None:
    conclusion = of(
        content_credentials=signed("ours"), signed=tuple(spans((3, 8))), classifier=classifier(0.99, (0, 8))
    )
    assert found(conclusion) == [(3, 8, ["content_credentials", "classifier"])]
    stranger = of(content_credentials=signed("other"), signed=tuple(spans((3, 8))))
    assert stranger.segments == ()


def test_the_callers_part_of_a_file_of_ours_stays_the_callers_whatever_the_classifier_thinks() -> None:
    conclusion = of(ledger=ledger("file", (5, 10)), classifier=classifier(0.99, (0, 4), (5, 10)), seconds=10)
    assert found(conclusion) == [(5, 10, ["ledger", "classifier"])]


def test_a_prompt_that_was_ours_before_keeps_its_mark() -> None:
    conclusion = of(ledger=ledger("file", (5, 10)), watermark=mark((0, 10)), seconds=10)
    assert found(conclusion) == [(0, 5, ["watermark"]), (5, 10, ["ledger", "watermark"])]


def test_a_part_found_by_watermark_and_classifier() -> None:
    conclusion = of(watermark=mark((3.2, 8)), classifier=classifier(0.95, (2.0, 8)))
    assert conclusion.verdict == "partly"
    assert found(conclusion) == [(3.2, 8, ["watermark", "classifier"])]
    assert "made 3.2-8.0 s" in conclusion.summary and "watermark" in conclusion.summary


def test_a_less_trusted_layer_adds_what_is_longer_than_its_edge() -> None:
    conclusion = of(watermark=mark((10, 12)), classifier=classifier(0.95, (1, 12.5), (20, 21)), seconds=30)
    assert found(conclusion) == [
        (1, 10, ["classifier"]),
        (10, 12, ["watermark", "classifier"]),
        (20, 21, ["classifier"]),
    ]


def test_sound_that_is_ours_throughout() -> None:
    for layers in (
        {"watermark": mark((0.3, 7.8))},
        {"classifier": classifier(0.95, (0, 8))},
        {"ledger": ledger("sound", (0, 8))},
    ):
        assert of(**layers).verdict == "made_by_this_system", layers


def test_the_classifier_alone_names_its_error_rate() -> None:
    summary = of(classifier=classifier(0.95, (0, 8))).summary
    assert "0.10%" in summary and "0.30%" in summary


def test_a_payload_that_names_a_row() -> None:
    conclusion = of(ledger=ledger("payload"), watermark=mark((0, 8)))
    assert conclusion.evidence == ("ledger", "watermark")
    assert "watermark of generation g1" in conclusion.summary


@pytest.mark.parametrize("state", ["other", "untrusted", "invalid", "unsupported", "none"])
def test_a_strangers_signature_never_counts(state: str) -> None:
    conclusion = of(content_credentials=signed(state))
    assert conclusion.verdict == "no_evidence"
    assert conclusion.evidence == ()
    assert ("signature" in conclusion.summary) == (state in ("other", "untrusted"))
    assert ("not valid" in conclusion.summary) == (state == "invalid")


@pytest.mark.parametrize(
    ("probability", "point", "verdict"),
    [
        (0.49, POINT, "no_evidence"),
        (0.5, POINT, "inconclusive"),
        (0.899, POINT, "inconclusive"),
        (0.9, POINT, "made_by_this_system"),
        (0.99, None, "inconclusive"),  # nobody measured how often it is wrong
    ],
)
def test_the_classifier_counts_from_its_operating_point_on(
    probability: float, point: OperatingPoint | None, verdict: str
) -> None:
    conclusion = of(classifier=classifier(probability, (0, 8), point=point))
    assert conclusion.verdict == verdict
    assert bool(conclusion.segments) == (verdict == "made_by_this_system")


def test_without_anything_that_listens_nothing_can_be_said() -> None:
    conclusion = of(watermark=None, classifier=None)
    assert conclusion.verdict == "inconclusive"
    assert "Not looked at: the watermark, the classifier." in conclusion.summary
    assert of(watermark=None).verdict == of(classifier=None).verdict == "no_evidence"


PAIRS = st.lists(
    st.tuples(st.floats(0, 20), st.floats(0.1, 5)).map(lambda pair: (pair[0], pair[0] + pair[1])), max_size=3
)


@given(
    state=st.sampled_from(["ours", "other", "untrusted", "invalid", "unsupported", "none"]),
    match=st.sampled_from(["file", "sound", "payload", "none"]),
    marked=PAIRS,
    heard=PAIRS,
    probability=st.floats(0, 1),
    absent=st.sets(st.sampled_from(["content_credentials", "ledger", "watermark", "classifier"])),
)
def test_whatever_was_found(
    state: str,
    match: str,
    marked: list[tuple[float, float]],
    heard: list[tuple[float, float]],
    probability: float,
    absent: set[str],
) -> None:
    layers: dict[str, Any] = {
        "content_credentials": signed(state),
        "ledger": ledger(match, *([(2, 7)] if match in ("file", "sound") else [])),
        "watermark": mark(*marked),
        "classifier": classifier(probability, *heard),
    } | dict.fromkeys(absent)
    conclusion = of(25.0, **layers)
    assert "human" not in conclusion.summary.lower()
    assert (conclusion.verdict in ("made_by_this_system", "partly")) == bool(conclusion.evidence)
    order = ["content_credentials", "ledger", "watermark", "classifier"]
    assert list(conclusion.evidence) == [layer for layer in order if layer in conclusion.evidence]
    assert not set(conclusion.evidence) & absent
    for one, other in itertools.pairwise(conclusion.segments):
        assert one.end <= other.start, "segments are in order and do not overlap"
    for segment in conclusion.segments:
        assert 0 <= segment.start < segment.end <= 25.0
        assert segment.evidence and set(segment.evidence) <= set(conclusion.evidence)
