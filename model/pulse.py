"""Whether a stroke is due: what the tokens so far say of it, as rows of a stage's table.

Some semantic tokens begin a note or a vowel (`SemanticTokenizer.struck`). From one such stroke to the next it takes a
few frames, and rhythms repeat these intervals. So the chance of a stroke at some step is about the share of the last
intervals that are just as long as the last stroke is past, among those that are at least as long: the hazard of their
distribution. A transformer would have to learn to count it, which takes far more music than a small one ever hears.

Decisions held here: the last 16 intervals within the window count; shares are told in tenths, for a stroke a frame
earlier, now and a frame later; all is integers, so that every way to compute a step agrees. Knows no ids: what is
struck is told.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

INTERVALS = 16
LONGEST = 50  # frames since the last stroke that are told apart: 2 s
SHARES = 10
LEVELS = SHARES + 3  # no interval yet; none as long as that; shares of 0 to 10 tenths
SHIFTS = (-1, 0, 1)
NUM_ROWS = 1 + LONGEST + len(SHIFTS) * LEVELS


def pulse_rows(struck: Tensor, steps: Tensor) -> Tensor:
    """struck [B, T] of a window's frames, steps [B, N] in it -> rows [B, N, 4], from 0 to below NUM_ROWS.

    The first is how long ago the last stroke was (0: none), the others how due one is for each of SHIFTS. Step n knows
    frames before n only.
    """
    length = struck.shape[1]
    frames = torch.arange(length, device=struck.device)
    places = torch.where(struck, frames, length).sort(dim=1).values  # (B, T): strokes first, in order
    strokes = F.pad(struck.cumsum(1), (1, 0)).gather(1, steps)  # (B, N): before each step
    since = steps - places.gather(1, (strokes - 1).clamp_min(0))
    number = strokes[..., None] - 2 - torch.arange(INTERVALS, device=struck.device)  # (B, N, I)
    known, first = number >= 0, number.clamp_min(0).flatten(1)
    ends, begins = (places.gather(1, (first + i).clamp_max(length - 1)).view_as(number) for i in (1, 0))
    intervals = ends - begins
    rows = [torch.where(strokes > 0, since.clamp_max(LONGEST), 0)]
    for place, shift in enumerate(SHIFTS):
        at = (since + shift)[..., None]
        same = (known & (intervals == at)).sum(-1)
        least = (known & (intervals >= at)).sum(-1)
        level = torch.where(least > 0, 2 + SHARES * same // least.clamp_min(1), 1)
        rows.append(1 + LONGEST + place * LEVELS + torch.where(strokes > 1, level, 0))
    return torch.stack(rows, -1)
