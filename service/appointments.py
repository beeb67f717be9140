"""When refused callers may come back: one after the other, as fast as the work before them gets done.

All who are refused in one moment would otherwise be told the same time, come together, and be refused again for the
most part. Nothing is held for them: who comes unasked takes room, too, which is why everyone is told a time at which
about half of the line should be free. Knows no requests.
"""

from __future__ import annotations

SOONEST = 1.0  # seconds
FARTHEST = 4  # times the longest line: however many were refused, nobody is told to stay away longer


class Appointments:
    """Of callers for one kind of work, of which at most `longest_line` seconds wait. Times in seconds of one clock."""

    def __init__(self, longest_line: float) -> None:
        self._farthest = FARTHEST * longest_line
        self._free_from = 0.0  # everyone told so far has been served by then

    def give(self, now: float, room_in: float, seconds: float) -> float:
        """Seconds from `now` after which somebody may come back for whom there is room in `room_in` seconds, were
        there no others, and whose work takes `seconds`."""
        soonest = max(SOONEST, room_in)
        wait = max(soonest, min(self._free_from - now, self._farthest))
        self._free_from = now + wait + seconds
        return wait
