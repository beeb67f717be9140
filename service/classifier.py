"""The bundle's detector as /detect needs it: windows out of a clip, and a finding out of what is said of each.

Reads only what the detector says of itself and plain numbers; its tensors belong to whoever runs the windows, which is
the engine in the service and `listen` in the command line.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model.config import SAMPLE_RATE
from model.detector import Detector
from service.findings import OperatingPoint, Span, WindowFinding
from service.verdict import ClassifierFinding

Samples = npt.NDArray[np.float32]


class Classifier:
    """`detector` belongs to the bundle whose version is `version`."""

    def __init__(self, detector: Detector, version: str) -> None:
        self.detector = detector
        self.version = version

    def num_windows(self, seconds: float) -> int:
        """Windows of a clip of `seconds`, about."""
        return 1 + int(seconds / self.detector.config.hop_seconds)

    def windows_of(self, samples: Samples) -> list[Samples]:
        """Windows [n] of `samples` [N]; no copies."""
        return self.detector.windows_of(samples)[0]

    def finding(self, samples: Samples, probabilities: list[float]) -> ClassifierFinding:
        """What the probabilities of its windows say of the clip `samples` [N]."""
        spans = self.detector.windows_of(samples)[1]
        clip = self.detector.aggregate(probabilities, spans)
        point = self.detector.operating_point(len(samples) / SAMPLE_RATE)
        return ClassifierFinding(
            probability=round(clip.probability, 6),
            timeline=tuple(
                WindowFinding(start=round(start, 3), end=round(end, 3), probability=round(probability, 4))
                for (start, end), probability in zip(spans, probabilities, strict=True)
            ),
            segments=tuple(Span(start=start, end=end) for start, end in clip.segments),
            operating_point=None
            if point is None
            else OperatingPoint(
                bucket=point.bucket,
                threshold=point.threshold,
                false_positive_rate=point.false_positive_rate,
                upper_bound=point.upper_bound,
                clips=point.clips,
                true_positive_rate=point.true_positive_rate,
            ),
        )

    def listen(self, samples: Samples) -> ClassifierFinding:
        """The finding about `samples` [N], worked out here."""
        return self.finding(samples, self.detector.judge(self.windows_of(samples)))
