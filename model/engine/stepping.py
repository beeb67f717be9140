"""An autoregressive stage under the engine: rows of many sequences, each at its own position, stepped together.

Decisions held here: the rows of a stage are the first rows of its cache, so that attention reads the cache in place; a
row that leaves is replaced by the last one. A row that cannot step now (it waits for another stage) steps along with
the others and what it makes is made again when its turn comes: nothing reads it before. So a batch commits
nothing that a second run would not write again. Knows ids and positions, no audio and no policy.
"""

from __future__ import annotations

from collections.abc import Sequence as Rows

import torch
from torch import Tensor

from model.engine.graphs import StepGraphs
from model.engine.lanes import Lanes, Settings
from model.engine.plan import Stepped
from model.engine.sequence import Sequence
from model.generation import styles_of
from model.guidance import guided_logits, views_of
from model.native.kernels import NativeSteps
from model.positions import ADVANCE, ORIGIN, SLOT, START, STEP
from model.sampling import sample
from model.stages import AutoregressiveStage
from model.transformer import KVCache


class SteppedStage:
    """A semantic or coarse stage, its cache, and the sequences that are in it."""

    def __init__(self, stage: AutoregressiveStage, lanes: Lanes, settings: Settings, cache: KVCache) -> None:
        self.stage, self.lanes, self.settings, self.cache = stage, lanes, settings, cache
        self.name = stage.kind
        self.rows: list[Sequence] = []  # row -> sequence
        self.rows_stepped = 0  # rows of the last step, those included that only stepped along
        codes = lanes.codes[:, : stage.num_codebooks]
        self.tokens = codes if stage.conditioning_rows else lanes.semantic  # [slots, K, T]
        self.device = lanes.codes.device
        self.styles: Tensor | None = None  # [slots, C], of the prompts
        if stage.style is not None:
            self.styles = torch.zeros(len(lanes.codes), stage.config.n_embd, device=self.device)
        self.music = torch.zeros(len(lanes.codes), dtype=torch.bool, device=self.device)  # [slots]
        self._codebooks = torch.arange(stage.num_codebooks, device=self.device)
        self._window = torch.arange(stage.max_length, device=self.device)
        self._ahead = torch.arange(stage.config.lookahead + 1, device=self.device)
        spare_slot = len(lanes.codes) - 1
        self._graphs, self._native = None, None
        if stage.transformer.native is not None:
            semantic = lanes.semantic[:, 0] if stage.conditioning_rows else None
            self._native = NativeSteps(stage, cache, self.tokens, semantic, self.styles, self.music)
        if self.device.type == "cuda":
            self._graphs = StepGraphs(self._step, cache.num_slots // stage.passes, spare_slot, self.device)

    def plan_of(self, sequence: Sequence) -> Stepped:
        return sequence.plan.coarse if self.stage.conditioning_rows else sequence.plan.semantic

    def leave(self, sequence: Sequence) -> None:
        """Free the sequence's row, if it has one."""
        if sequence not in self.rows:
            return
        row, last = self.rows.index(sequence), len(self.rows) - 1
        if row != last:
            moved, passes = self.rows[last], self.stage.passes
            for number in range(passes):
                self.cache.move(last * passes + number, row * passes + number, self._length(moved))
            self.rows[row] = moved
        self.rows.pop()

    def prefill(self, sequence: Sequence) -> None:
        """Read the history of the sequence's next window and make the window's first step."""
        if sequence not in self.rows:
            self._open(sequence)
        window, number = self.plan_of(sequence).at(sequence.done[self.name])
        assert number == 0 and sequence.slot is not None
        stage, steps = self.stage, window.history + 1
        history = self.tokens[sequence.slot, None, :, window.start : window.known]
        semantic = self.lanes.semantic[sequence.slot, :, window.start // stage.conditioning_rate :]
        style = None if self.styles is None else self.styles[sequence.slot, None]
        music = self.music[sequence.slot, None]
        prompt_frames = self.plan_of(sequence).windows[0].known - window.start
        first_slot = self.rows.index(sequence) * stage.passes
        views = views_of(stage, history, steps, semantic, style, prompt_frames, music)
        hidden = [
            stage.transformer.prefill(
                view.embed(stage, steps), self.cache, first_slot + number, first=steps - 1 - view.left_out
            )[:, 0]
            for number, view in enumerate(views)
        ]
        narrowed = sequence.top_k is not None, sequence.top_p is not None
        self._draw(hidden, self._positions([sequence], {id(sequence)}), narrowed)

    def step(self, sequences: Rows[Sequence], steps: int) -> None:
        """`steps` steps of each of `sequences`, all past their window's prefill and far enough from its end."""
        for sequence in [row for row in self.rows if row.done[self.name] == self.plan_of(row).units]:
            self.leave(sequence)
        wanted = {id(sequence) for sequence in sequences}
        # a graph steps every row of the cache: those that must keep their place have to be among the positions
        last = len(self.rows) - 1
        while self._graphs is None and id(self.rows[last]) not in wanted:
            last -= 1
        count = last + 1
        rows = self.rows[:count]
        positions = self._positions(rows, wanted)
        narrowed = any(row.top_k is not None for row in rows), any(row.top_p is not None for row in rows)
        self.rows_stepped = count if self._graphs is None else self.cache.num_slots
        if self._graphs is not None:
            self._graphs.run(positions, narrowed, steps)
            return
        if self._native is not None:
            sampling = self.settings.of(positions[SLOT], narrowed_k=narrowed[0], narrowed_p=narrowed[1])
            self._native.run(positions, sampling, steps)
            return
        for _ in range(steps):
            self._step(positions, narrowed, int(positions[STEP].max()) + 1)
            positions[STEP] += positions[ADVANCE]

    def _open(self, sequence: Sequence) -> None:
        """Give the sequence a row, its settings, its prompt's style and whether that is music."""
        self.settings.open(sequence)
        prompt_frames, rate = self.plan_of(sequence).windows[0].known, self.stage.conditioning_rate
        tokens = prompt_frames // rate if self.stage.conditioning_rows else prompt_frames
        self.music[sequence.slot] = self.stage.is_music(self.lanes.semantic[sequence.slot, :, :tokens])[0]
        if self.styles is not None:
            style = styles_of(self.stage, self.tokens[sequence.slot, None, :, :prompt_frames])
            assert style is not None
            self.styles[sequence.slot] = style[0]
        self.rows.append(sequence)

    def _length(self, sequence: Sequence) -> int:
        """Positions of the cache that the sequence's next steps look at."""
        plan, done = self.plan_of(sequence), sequence.done[self.name]
        if done == plan.units:
            return 0
        window, number = plan.at(done)
        return window.history + number if number else 0

    def _positions(self, rows: Rows[Sequence], wanted: set[int]) -> Tensor:
        """int64 [FIELDS, B] of `rows`, of which those in `wanted` (by identity) move on."""
        values = []
        for sequence in rows:
            plan = self.plan_of(sequence)
            window, number = plan.at(sequence.done[self.name])
            step = window.history + number
            origin = plan.windows[0].known
            values.append(
                (sequence.slot, window.start, window.history, step, origin, int(id(sequence) in wanted))
            )
        return torch.tensor(values, device=self.device).t().contiguous()

    def _step(self, positions: Tensor, narrowed: tuple[bool, bool], length: int | None) -> None:
        """One step of rows 0..B-1 at `positions` [FIELDS, B]. Static shapes, no host synchronization."""
        slots, start, step = positions[SLOT], positions[START], positions[STEP]
        places, x = [step], [self._embed(slots, start, step, self.styles)]
        if self.stage.passes == 2:
            left_out = (positions[ORIGIN] - start).clamp_min(0)
            places.append(step - left_out)
            untold = self.music[slots] if self.stage.config.semantic_guidance else None
            x.append(self._embed(slots, start + left_out, step - left_out, None, untold))
        rows = torch.stack(x, 1).flatten(0, 1)  # (B * passes, C)
        hidden = self.stage.transformer.step(
            rows, self.cache, torch.stack(places, 1).flatten(), length=length
        )
        self._draw(hidden.view(len(slots), -1, hidden.shape[-1]).unbind(1), positions, narrowed)

    def _embed(
        self,
        slots: Tensor,
        start: Tensor,
        step: Tensor,
        styles: Tensor | None,
        untold: Tensor | None = None,
    ) -> Tensor:
        """Embeddings [B, C] of steps [B] after frames start [B] of the lanes slots [B], those of rows untold [B]
        without semantic tokens."""
        frames = step[:, None] - 1 - self._codebooks  # (B, K): of the previous column
        previous = self.tokens[slots[:, None], self._codebooks, start[:, None] + frames.clamp_min(0)]
        previous = torch.where(frames >= 0, previous, self.stage.none_id)
        return self.stage.embed(
            previous, self._condition(slots, start, step, styles, untold), self._pulse(slots, start, step)
        )

    def _pulse(self, slots: Tensor, start: Tensor, step: Tensor) -> Tensor | None:
        if not self.stage.config.pulse:
            return None
        window = (start[:, None] + self._window).clamp_max(self.tokens.shape[2] - 1)  # (B, max_length)
        pulse = self.stage.pulse_of(self.tokens[slots[:, None], 0, window], step[:, None])
        return None if pulse is None else pulse[:, 0]

    def _condition(
        self, slots: Tensor, start: Tensor, step: Tensor, styles: Tensor | None, untold: Tensor | None
    ) -> Tensor | None:
        style = None if styles is None else styles[slots]
        if not self.stage.conditioning_rows:
            return style
        token = (start + step) // self.stage.conditioning_rate
        ahead = self.lanes.semantic[slots[:, None], 0, token[:, None] + self._ahead]  # (B, lookahead + 1)
        if untold is not None:
            ahead = ahead.masked_fill(untold[:, None], self.lanes.no_token)
        aligned = self.stage.condition_step(ahead, step)
        return aligned if style is None else aligned + style

    def _draw(self, hidden: Rows[Tensor], positions: Tensor, narrowed: tuple[bool, bool]) -> None:
        """Draw the column at `positions` from the passes' hidden [B, C], leaving what the window's known frames fix."""
        slots, start, known, step, origin, _ = positions.unbind(0)
        sampling = self.settings.of(slots, narrowed_k=narrowed[0], narrowed_p=narrowed[1])
        logits = guided_logits(self.stage, hidden, self.music[slots])
        ids = sample(logits, sampling, start + step - origin)  # (B, K)
        frames = step[:, None] - self._codebooks  # (B, K)
        at = slots[:, None], self._codebooks, start[:, None] + frames.clamp_min(0)
        self.tokens[at] = torch.where(frames >= known[:, None], ids, self.tokens[at])
