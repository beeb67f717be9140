"""What tasks offer and the scheduler chooses from, and the names of AudioLM's stages in the pipeline's order."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

ENCODE, SEMANTIC, COARSE, FINE, DECODE = STAGES = ("encode", "semantic", "coarse", "fine", "decode")


@dataclass(frozen=True)
class Work:
    """What one task could do next in one stage. Works of equal stage and shape may share a batch.

    `steps` is how many units it could do without any other stage; `opens` marks a prefill, which goes before steps;
    `size` is what a unit costs compared with others of its kind (frames of a window, say); `awaited` marks a window
    without which somebody has heard nothing yet."""

    stage: str
    shape: Hashable
    steps: int = 1
    opens: bool = False
    size: int = 1
    awaited: bool = False

    @property
    def kind(self) -> str:
        """What costs are measured by: a stage, or the prefills of a stage."""
        return prefill_of(self.stage) if self.opens else self.stage


def prefill_of(stage: str) -> str:
    """The kind of work that a stage's prefills are."""
    return f"{stage} prefill"
