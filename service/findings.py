"""The JSON answer of /detect: what each layer found in a clip, and what follows from all of them.

A layer that is switched off, absent or could not be asked is null; a layer that looked and found nothing says so.
Times are seconds from the start of the clip. Knows neither how anything is found (`examiner.py`) nor how findings are
weighed (`verdict.py`).
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Verdict = Literal["made_by_this_system", "partly", "inconclusive", "no_evidence"]
Layer = Literal["content_credentials", "ledger", "watermark", "classifier"]  # in the order of trust
CredentialsState = Literal["none", "ours", "other", "untrusted", "invalid", "unsupported"]
LedgerMatchKind = Literal["file", "sound", "payload", "none"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Span(_Frozen):
    """A part of the clip."""

    start: float = Field(ge=0)
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


class WindowFinding(Span):
    """What the classifier said of one window."""

    probability: float = Field(ge=0, le=1, description="Calibrated probability that this system made it.")


class Segment(Span):
    """A part of the clip that this system made, and the layers that say so."""

    evidence: list[Layer]


class WatermarkFinding(_Frozen):
    """This system's own watermark."""

    present: bool
    p_value: float = Field(description="How likely a clip without the mark looks at least as marked.")
    payload: int | None = Field(description="The 16 bits that the mark carries; null if they cannot be read.")
    key_id: str | None = Field(description="Which of the known keys made the mark.")
    segments: list[Span]


class CredentialsFinding(_Frozen):
    """C2PA content credentials of the file. Only `ours` counts for the verdict."""

    state: CredentialsState = Field(
        description="none: the file has none. ours: signed by this system, and unchanged since. other: signed by "
        "somebody else who is trusted. untrusted: signed by somebody nobody here knows. invalid: changed since it was "
        "signed, or malformed. unsupported: a kind of file that cannot be checked."
    )
    signer: str | None
    generation_id: str | None
    detail: str


class LedgerFinding(_Frozen):
    """The row of this system's ledger that the clip belongs to."""

    match: LedgerMatchKind = Field(
        description="file: this very file was answered. sound: its sound was. payload: the watermark names the row."
    )
    generation_id: str | None
    created_at: str | None
    bundle: str | None
    seed: int | None
    segments: list[Span] = Field(description="Where the generated seconds lie in this clip.")


class OperatingPoint(_Frozen):
    """Where the classifier speaks for us, and how often it is wrong there, as measured on clips of this length."""

    bucket: str = Field(examples=["5-10 s"])
    threshold: float = Field(description="Probability from which on the classifier counts as evidence.")
    false_positive_rate: float = Field(
        description="Part of the clips not made here that reach the threshold."
    )
    upper_bound: float = Field(description="Upper 95 % confidence bound of that rate.")
    clips: int = Field(description="Clips not made here that it was measured on.")
    true_positive_rate: float | None = Field(description="Part of the clips made here that reach it.")


class Versions(_Frozen):
    """What the clip was examined with."""

    service: str
    bundle: str
    detector: str | None
    watermark: str | None


class DetectAnswer(_Frozen):
    """The JSON answer of /detect."""

    id: str = Field(description="The request's id.")
    verdict: Verdict = Field(
        description="made_by_this_system: this file is an answer of this system, or its sound is throughout. partly: "
        "the `segments` are. inconclusive: there are hints below the threshold, or nothing could be looked at. "
        "no_evidence: nothing was found, which does not tell who made the clip."
    )
    summary: str = Field(description="The finding in words.")
    probability: float | None = Field(
        ge=0, le=1, description="The classifier's calibrated probability for the whole clip."
    )
    seconds: float = Field(description="Length of the clip.")
    timeline: list[WindowFinding] = Field(
        description="A window every half second; empty without a classifier."
    )
    segments: list[Segment] = Field(description="The parts that this system made, in order.")
    watermark: WatermarkFinding | None
    content_credentials: CredentialsFinding | None
    ledger: LedgerFinding | None
    evidence: list[Layer] = Field(description="The layers that spoke for us, in the order of trust.")
    operating_point: OperatingPoint | None
    versions: Versions
