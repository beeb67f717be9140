"""Where the rows of a step are: one int64 column per row, so that a whole batch is one copy to the device."""

from __future__ import annotations

# slot: lane of tokens; start: first frame of the window; known: frames of its history; step: next step, counted from
# `start`; origin: frames of the prompt; advance: 1 if the row moves on after the step, 0 if it only keeps its place
SLOT, START, KNOWN, STEP, ORIGIN, ADVANCE = range(6)
FIELDS = 6
