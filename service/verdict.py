"""What follows from the findings about a clip: the verdict, the seconds it is about, and one sentence.

Decisions held here: layers are heard in the order of trust (our own valid signature, ledger, watermark, classifier),
and where two of them speak of the same sound the more trusted one says from when to when. A signature or the ledger's
digest is about the file as it is; everything else is about the sound it covers. A stranger's signature counts for
nothing, whoever it is. What our ledger knows to be the caller's own part of a file is not called ours because the
classifier thinks so. Nothing here ever says who made a clip that we did not make.
Pure: knows neither files nor sound.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from service.findings import (
    CredentialsFinding,
    DetectAnswer,
    Layer,
    LedgerFinding,
    OperatingPoint,
    Segment,
    Span,
    Verdict,
    Versions,
    WatermarkFinding,
    WindowFinding,
)

WHOLE = (
    0.85  # part of the clip that must be ours for the clip to be: no layer tells an edge to the split second
)
EDGE_SECONDS = (
    2.0  # what a less trusted layer adds at the edge of a segment must be longer: a classifier's window
)
HINT = 0.5  # the classifier finds it likelier than not, but stays below its operating point


@dataclass(frozen=True)
class ClassifierFinding:
    """What the learned detector says of a clip."""

    probability: float  # of the whole clip, calibrated
    timeline: tuple[WindowFinding, ...]
    segments: tuple[Span, ...]  # counted only if it speaks
    operating_point: OperatingPoint | None

    @property
    def speaks(self) -> bool:
        """It has reached the probability at which its error rate is known."""
        return self.operating_point is not None and self.probability >= self.operating_point.threshold


@dataclass(frozen=True)
class Findings:
    """Everything found out about a clip of `seconds`; None for a layer that did not look."""

    seconds: float
    content_credentials: CredentialsFinding | None = None
    ledger: LedgerFinding | None = None
    watermark: WatermarkFinding | None = None
    classifier: ClassifierFinding | None = None
    signed: tuple[Span, ...] = ()  # what our own valid signature says was generated


@dataclass(frozen=True)
class Conclusion:
    """What follows. `evidence`: the layers that spoke for us, in the order of trust."""

    verdict: Verdict
    summary: str
    segments: tuple[Segment, ...]
    evidence: tuple[Layer, ...]


@dataclass
class _Piece:
    span: Span
    evidence: list[Layer] = field(default_factory=list)


def conclude(findings: Findings) -> Conclusion:
    """Weigh the findings."""
    evidence = tuple(_speaking(findings))
    segments = tuple(_segments(findings, evidence))
    if not evidence:
        verdict: Verdict = (
            "inconclusive" if _is_hint(findings) or _nobody_listened(findings) else "no_evidence"
        )
    elif _is_our_file(findings) or _covered(segments) >= WHOLE * findings.seconds:
        verdict = "made_by_this_system"
    else:
        verdict = "partly"
    return Conclusion(verdict, _summary(verdict, findings, segments), segments, evidence)


def answer_of(request_id: str, findings: Findings, versions: Versions) -> DetectAnswer:
    """The whole answer: the findings and what follows from them."""
    conclusion = conclude(findings)
    classifier = findings.classifier
    return DetectAnswer(
        id=request_id,
        verdict=conclusion.verdict,
        summary=conclusion.summary,
        probability=None if classifier is None else classifier.probability,
        seconds=round(findings.seconds, 4),
        timeline=[] if classifier is None else list(classifier.timeline),
        segments=list(conclusion.segments),
        watermark=findings.watermark,
        content_credentials=findings.content_credentials,
        ledger=findings.ledger,
        evidence=list(conclusion.evidence),
        operating_point=None if classifier is None else classifier.operating_point,
        versions=versions,
    )


def _speaking(findings: Findings) -> Iterable[Layer]:
    """The layers that say this system made at least a part."""
    if findings.content_credentials is not None and findings.content_credentials.state == "ours":
        yield "content_credentials"
    if findings.ledger is not None and findings.ledger.match != "none":
        yield "ledger"
    if findings.watermark is not None and findings.watermark.present:
        yield "watermark"
    if findings.classifier is not None and findings.classifier.speaks:
        yield "classifier"


def _is_our_file(findings: Findings) -> bool:
    """Byte for byte what was answered; its first seconds may still be the caller's clip."""
    signed = findings.content_credentials is not None and findings.content_credentials.state == "ours"
    return signed or (findings.ledger is not None and findings.ledger.match == "file")


def _is_hint(findings: Findings) -> bool:
    return findings.classifier is not None and findings.classifier.probability >= HINT


def _nobody_listened(findings: Findings) -> bool:
    """No layer looked at the sound itself: a file without a signature tells nothing then."""
    return findings.watermark is None and findings.classifier is None


def _segments(findings: Findings, evidence: Sequence[Layer]) -> list[Segment]:
    pieces: list[_Piece] = []
    end = findings.seconds
    if "content_credentials" in evidence:
        _add(pieces, _merged(findings.signed, end), "content_credentials")
    if "ledger" in evidence and findings.ledger is not None:
        _add(pieces, _merged(findings.ledger.segments, end), "ledger")
    known = _is_our_file(findings) and bool(pieces)
    if "watermark" in evidence and findings.watermark is not None:
        _add(pieces, _merged(findings.watermark.segments, end), "watermark")
    if "classifier" in evidence and findings.classifier is not None:
        _add(pieces, _merged(findings.classifier.segments, end), "classifier", only_confirm=known)
    pieces.sort(key=lambda piece: piece.span.start)
    return [Segment(start=piece.span.start, end=piece.span.end, evidence=piece.evidence) for piece in pieces]


def _merged(spans: Iterable[Span], end: float) -> list[Span]:
    """`spans` in order, within the clip, none touching another."""
    merged: list[Span] = []
    for span in sorted(spans, key=lambda span: span.start):
        if merged and span.start <= merged[-1].end:
            merged[-1] = Span(start=merged[-1].start, end=min(end, max(merged[-1].end, span.end)))
        elif max(0.0, span.start) < min(end, span.end):
            merged.append(Span(start=max(0.0, span.start), end=min(end, span.end)))
    return merged


def _add(pieces: list[_Piece], spans: Iterable[Span], layer: Layer, *, only_confirm: bool = False) -> None:
    """Let `layer` confirm the pieces that `spans` touch, and add what lies outside of them."""
    before = list(pieces)
    for span in spans:
        touched = [piece for piece in before if _overlap(piece.span, span) > 0]
        for piece in touched:
            if layer not in piece.evidence:
                piece.evidence.append(layer)
        if only_confirm:
            continue
        for rest in _without(span, [piece.span for piece in touched]):
            if not touched or rest.seconds > EDGE_SECONDS:
                pieces.append(_Piece(rest, [layer]))


def _without(span: Span, others: Sequence[Span]) -> list[Span]:
    """`span` minus `others`."""
    rests = []
    at = span.start
    for other in sorted(others, key=lambda other: other.start):
        if other.start > at:
            rests.append(Span(start=at, end=other.start))
        at = max(at, other.end)
    if at < span.end:
        rests.append(Span(start=at, end=span.end))
    return rests


def _overlap(one: Span, other: Span) -> float:
    return min(one.end, other.end) - max(one.start, other.start)


def _covered(segments: Iterable[Segment]) -> float:
    """Seconds inside of segments, which do not overlap."""
    return sum(segment.seconds for segment in segments)


def _summary(verdict: Verdict, findings: Findings, segments: Sequence[Segment]) -> str:
    return " ".join([_finding(verdict, findings, segments), *_stranger(findings), *_missing(findings)])


def _finding(verdict: Verdict, findings: Findings, segments: Sequence[Segment]) -> str:
    where = ", ".join(f"{segment.start:.1f}-{segment.end:.1f} s" for segment in segments)
    if verdict == "made_by_this_system":
        said = f"This system made this clip: {_reason(findings)}."
        if segments and _covered(segments) < WHOLE * findings.seconds:
            said += f" Generated are {where}; the rest is the caller's own sound."
        return said
    if verdict == "partly":
        return (
            f"This system made {where} of this clip: {_reason(findings)}. Of the rest there is no evidence."
        )
    if verdict == "no_evidence":
        return "Nothing was found that this system made any of this clip; that does not tell who did."
    if _is_hint(findings) and findings.classifier is not None:
        point = findings.classifier.operating_point
        against = (
            f"below the {point.threshold:.2f} at which it counts"
            if point
            else "and has no measured threshold"
        )
        return f"The classifier leans towards this system ({findings.classifier.probability:.2f}), {against}."
    return "This file carries no proof, and no layer that looks at the sound itself is at work here."


def _reason(findings: Findings) -> str:
    """The most trusted evidence, in words."""
    ledger, mark = findings.ledger, findings.watermark
    if findings.content_credentials is not None and findings.content_credentials.state == "ours":
        return "it carries this system's own valid signature"
    if ledger is not None and ledger.match == "file":
        return f"the ledger holds this very file, generation {ledger.generation_id}"
    if ledger is not None and ledger.match == "sound":
        return f"the ledger knows its sound, generation {ledger.generation_id}"
    if ledger is not None and ledger.match == "payload":
        named = f"generation {ledger.generation_id}" if ledger.generation_id else "generations in the ledger"
        return f"its sound carries the watermark of {named}"
    if mark is not None and mark.present:
        return f"its sound carries this system's watermark (p = {mark.p_value:.1e})"
    assert findings.classifier is not None and findings.classifier.operating_point is not None
    point = findings.classifier.operating_point
    return (
        f"the classifier says so with {findings.classifier.probability:.2f}, as it does of "
        f"{point.false_positive_rate:.2%} of the clips not made here (at most {point.upper_bound:.2%})"
    )


def _stranger(findings: Findings) -> Iterable[str]:
    credentials = findings.content_credentials
    match credentials.state if credentials is not None else "none":
        case "other" | "untrusted":
            yield "Somebody else's signature on the file does not count here."
        case "invalid":
            yield "The file's content credentials are not valid and do not count."


def _missing(findings: Findings) -> Iterable[str]:
    layers = {
        "content credentials": findings.content_credentials,
        "the ledger": findings.ledger,
        "the watermark": findings.watermark,
        "the classifier": findings.classifier,
    }
    missing = [name for name, finding in layers.items() if finding is None]
    if missing:
        yield f"Not looked at: {', '.join(missing)}."
