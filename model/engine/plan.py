"""Every length of one continuation, known before its first step: what each stage does, in which order, and when it may.

Decisions held here: the stages of one continuation interleave, so that the first sound leaves while later seconds are
not begun: coarse frames follow semantic tokens at the distance of the look-ahead, fine windows follow coarse frames,
sound follows fine frames. The plan depends on lengths alone, never on load, so that a streamed answer and an unstreamed
one are the same; its windows are those of `model.generation`. Frames count from the start of the prompt.
Knows no tensors.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from model.engine.work import COARSE, DECODE, ENCODE, FINE, SEMANTIC, STAGES, Work, prefill_of
from model.rendering import Cut
from model.tokens import Window


@dataclass(frozen=True)
class Stepped:
    """What an autoregressive stage does: a prefill at the start of each window, then step after step.

    Unit u of the stage is step `known + j` of the frames of its window; the first unit of a window is its prefill,
    which makes a step too. `delay` steps after its own, a frame is complete."""

    windows: tuple[Window, ...]
    delay: int

    @cached_property
    def _starts(self) -> tuple[int, ...]:
        """The first unit of each window, and the number of all units: asked for at every step of every sequence."""
        return tuple(accumulate((self._units_of(window) for window in self.windows), initial=0))

    @property
    def units(self) -> int:
        return self._starts[-1]

    def at(self, unit: int) -> tuple[Window, int]:
        """The window that `unit` belongs to, and its number there."""
        assert 0 <= unit < self.units, "no such unit"
        number = bisect_right(self._starts, unit) - 1
        return self.windows[number], unit - self._starts[number]

    def frames_after(self, units: int) -> int:
        """Frames complete, prompt included, once `units` units are done."""
        if units == self.units:
            return self.windows[-1].stop
        window, done = self.at(units)
        return window.known + max(0, done - self.delay)

    def cost(self, stage: str, done: int) -> dict[str, int]:
        """Steps still to make, and positions still to prefill."""
        left = {stage: self.units - done, prefill_of(stage): 0}
        for window in self.windows:
            if done <= 0:
                left[stage] -= 1
                left[prefill_of(stage)] += window.history
            done -= self._units_of(window)
        return left

    def next_work(self, stage: str, done: int, frames_allowed: int) -> Work | None:
        """The next prefill or steps, none of a frame from `frames_allowed` on."""
        if done == self.units:
            return None
        window, number = self.at(done)
        steps = min(self._units_of(window) - number, frames_allowed - window.known - number)
        if steps <= 0:
            return None
        if number == 0:
            return Work(stage, ("prefill", window.history), opens=True, size=window.history)
        return Work(stage, "step", steps)

    def _units_of(self, window: Window) -> int:
        return window.stop - window.known + self.delay


@dataclass(frozen=True)
class Plan:
    """One continuation. A unit is a step (semantic, coarse), one level of a window (fine), a cut (decode).

    `cost` counts units by their size: steps, positions of a prefill, frames of a window."""

    prompt_seconds: float
    prompt_frames: int
    frames: int  # of prompt and continuation
    samples: int  # of the continuation
    lookahead: int  # semantic tokens a coarse frame sees beyond its own
    frames_per_token: int
    semantic: Stepped
    coarse: Stepped
    fine: tuple[Window, ...]
    levels: int  # passes of one fine window
    cuts: tuple[Cut, ...]
    past_samples: int = 0  # samples before a cut that its decoding goes on from

    def cost(self, done: Mapping[str, int] | None = None, *, encoded: bool = False) -> dict[str, int]:
        """Cost still to come after `done` units per stage (default: none), per kind of work."""
        done = done or dict.fromkeys(STAGES, 0)
        at, level = divmod(done[FINE], self.levels)
        passes = self.levels * sum(window.frames for window in self.fine[at:])
        if level:
            passes -= level * self.fine[at].frames
        return {
            ENCODE: 0 if encoded else self.prompt_frames,
            **self.semantic.cost(SEMANTIC, done[SEMANTIC]),
            **self.coarse.cost(COARSE, done[COARSE]),
            FINE: passes,
            DECODE: sum(cut.last - cut.first for cut in self.cuts[done[DECODE] :]),
        }

    def works(self, done: Mapping[str, int], *, encoded: bool) -> Iterator[Work]:
        """What can be done next, at most one piece of work per stage."""
        if not encoded:
            yield Work(ENCODE, self.prompt_frames, size=self.prompt_frames)
            return
        semantic = self.semantic.next_work(SEMANTIC, done[SEMANTIC], self.frames)
        if semantic is not None:
            yield semantic
        coarse = self.coarse.next_work(COARSE, done[COARSE], self._frames_for_coarse(done[SEMANTIC]))
        if coarse is not None:
            yield coarse
        awaited = done[DECODE] == 0
        at, level = divmod(done[FINE], self.levels)
        if at < len(self.fine) and self.fine[at].stop <= self.coarse.frames_after(done[COARSE]):
            window = self.fine[at]
            shape = (window.history, window.frames, level)
            yield Work(FINE, shape, self.levels - level, size=window.frames, awaited=awaited)
        if done[DECODE] < len(self.cuts):
            cut = self.cuts[done[DECODE]]
            if at == len(self.fine) or cut.last <= self.fine[at].known:
                shape = (cut.start - cut.first, cut.end - cut.start, cut.last - cut.end)
                yield Work(DECODE, shape, size=cut.last - cut.first, awaited=awaited)

    def _frames_for_coarse(self, semantic_done: int) -> int:
        if semantic_done == self.semantic.units:
            return self.frames + self.coarse.delay
        return (self.semantic.frames_after(semantic_done) - self.lookahead) * self.frames_per_token
