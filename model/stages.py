"""The token stages: which codebooks, in which layout, at which frame rate, and how ids become embeddings and logits.

SemanticStage   1 codebook at 25 Hz, autoregressive
CoarseStage     the codec's first codebooks at 50 Hz in a delay pattern, conditioned on aligned semantic tokens
FineStage       the codec's other codebooks, one bidirectional pass per level (VALL-E's NAR, arXiv 2301.02111)

Decisions held here: ids 0..V-1 are codes and the id V means "none" (before the first frame, or not known yet); heads
have exactly V classes, so whatever is drawn is a code. All embeddings of a stage are rows of one table, summed; the
rows of codes are also the heads (tied). Conditioning is embedded for a whole window at once, before its first step.
Knows no cache, no sampling settings and no window plan.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import StageConfig
from model.linear import inference_linear
from model.pulse import NUM_ROWS, pulse_rows
from model.style import Style
from model.transformer import Transformer

STAGE_NUMBERS = {"semantic": 0, "coarse": 1, "fine": 2}  # separates the noise of a request's stages


class Stage(nn.Module, ABC):
    """A transformer, its table of embeddings and its tied heads.

    table rows: `code_levels` x V codes, then one row for "none", then `extra_rows` of the subclass.
    """

    kind: str
    activation_bits = 16

    def __init__(self, config: StageConfig, max_length: int, code_levels: int, extra_rows: int) -> None:
        super().__init__()
        self.config, self.max_length = config, max_length
        self.vocab_size, self.num_codebooks = config.vocab_size, config.num_codebooks
        self.none_id = config.vocab_size
        self.none_row = code_levels * config.vocab_size
        self.table = nn.Embedding(self.none_row + 1 + extra_rows, config.n_embd)
        nn.init.normal_(self.table.weight, std=0.02)
        self.transformer = Transformer(config, max_length)
        self.heads: nn.ModuleList | None = None

    @property
    def number(self) -> int:
        """The stage's number in noise keys."""
        return STAGE_NUMBERS[self.kind]

    def rows(self, codes: Tensor, first_level: int = 0) -> Tensor:
        """Table rows of codes [.., K] of levels first_level, first_level + 1, ..."""
        levels = (
            torch.arange(first_level, first_level + codes.shape[-1], device=codes.device) * self.vocab_size
        )
        return torch.where(codes == self.none_id, self.none_row, codes + levels)

    def head_weight(self, level: int, levels: int = 1) -> Tensor:
        """Rows of the codes of `levels` levels from `level` on, [levels * V, C]."""
        return self.table.weight[level * self.vocab_size : (level + levels) * self.vocab_size]

    def prepare(self, *, kernels: bool = True) -> None:
        """Turn the stage into its form for inference on the device it is on (see model.linear). Not undone."""
        self.eval().requires_grad_(False)
        self.heads = nn.ModuleList(
            inference_linear(weight, kernels=kernels) for weight in self._head_weights()
        )
        self.transformer.prepare(self.activation_bits, kernels=kernels)

    @abstractmethod
    def _head_weights(self) -> list[Tensor]:
        """One matrix [rows, C] per head of the stage's inference form."""


class AutoregressiveStage(Stage):
    """One step per frame, K codebooks in a delay pattern, aligned conditioning if the config names any.

    Step n sees the delayed codes of step n - 1 and the conditioning of frame n, and predicts grid column n: codebook
    k of frame n - k. T frames take `num_steps(T)` = T + K - 1 steps; positions never exceed `max_length`.
    """

    def __init__(self, config: StageConfig) -> None:
        self.conditioning_rate = 2  # frames per conditioning frame
        self.conditioning_rows = config.conditioning_vocab + 1 if config.conditioning_vocab else 0
        extra = (config.lookahead + 1) * self.conditioning_rows + (
            self.conditioning_rate if self.conditioning_rows else 0
        )
        assert not (config.pulse and extra), "only a stage without conditioning is told of strokes"
        extra += NUM_ROWS if config.pulse else 0
        super().__init__(config, config.max_frames + config.num_codebooks - 1, config.num_codebooks, extra)
        self.style = Style(config.n_embd, config.style_frames) if config.style else None
        self.struck: Tensor | None  # [V + 1]: which ids begin a note; "none" does not
        none_yet = torch.zeros(config.vocab_size + 1, dtype=torch.bool) if config.pulse else None
        self.register_buffer("struck", none_yet)
        self.musical: Tensor | None  # [V + 1]: which semantic tokens are heard in music more than in speech
        tokens = config.conditioning_vocab or config.vocab_size
        none_yet = torch.zeros(tokens + 1, dtype=torch.bool) if config.tells_music else None
        self.register_buffer("musical", none_yet)
        if config.pulse:
            nn.init.zeros_(self.table.weight[self.none_row + 1 :])

    @property
    def passes(self) -> int:
        """How often each step is made: twice where the prompt guides it (model.guidance)."""
        return 2 if self.config.guidance or self.config.music_guidance else 1

    def num_steps(self, num_frames: int) -> int:
        return num_frames + self.num_codebooks - 1

    def conditioning_frames(self, num_frames: int) -> int:
        """Conditioning frames that `num_frames` frames can make use of, look-ahead included."""
        return -(-self.num_steps(num_frames) // self.conditioning_rate) + self.config.lookahead

    def is_music(self, prompt: Tensor) -> Tensor:
        """Which prompts, semantic tokens [B, S], guide as music does: bool [B]."""
        if self.musical is None:
            return torch.zeros(len(prompt), dtype=torch.bool, device=prompt.device)
        return 2 * self.musical[prompt].sum(1) > prompt.shape[1]

    def style_of(self, prompt: Tensor, lengths: Tensor | None = None) -> Tensor | None:
        """What the prompt's codes [B, K, T] as a whole add to every step after it, [B, C]; None for a stage without a
        style. Rows end at `lengths` [B]."""
        if self.style is None:
            return None
        if lengths is None:
            lengths = torch.full((prompt.shape[0],), prompt.shape[2], device=prompt.device)
        frames = F.embedding(self.rows(prompt.transpose(1, 2)), self.table.weight).sum(-2)  # (B, T, C)
        return self.style(frames, lengths)  # type: ignore[no-any-return]

    def pulse_of(self, tokens: Tensor, steps: Tensor) -> Tensor | None:
        """What the strokes among a window's tokens [B, T] add to the embeddings of steps [B, N] in it, [B, N, C]; None
        for a stage that is not told. A step knows the tokens before it."""
        if self.struck is None:
            return None
        rows = pulse_rows(self.struck[tokens], steps) + self.none_row + 1
        return F.embedding(rows, self.table.weight).sum(-2)

    def condition(
        self, semantic: Tensor | None, num_steps: int, style: Tensor | None = None
    ) -> Tensor | None:
        """What is added to each step's embedding: semantic [B, S] from the window's first frame on and style [B, C]
        -> [B, num_steps, C]; None for a stage with neither. Past the end of `semantic`: "none"."""
        aligned = self._aligned(semantic, num_steps)
        if style is None:
            return aligned
        everywhere = style[:, None].expand(-1, num_steps, -1)
        return everywhere if aligned is None else aligned + everywhere

    def _aligned(self, semantic: Tensor | None, num_steps: int) -> Tensor | None:
        """What `semantic` [B, S] adds to each step's embedding, [B, num_steps, C]."""
        if not self.conditioning_rows:
            return None
        assert semantic is not None
        reach = -(-num_steps // self.conditioning_rate) + self.config.lookahead
        known = semantic[:, :reach]
        known = F.pad(known, (0, reach - known.shape[1]), value=self.config.conditioning_vocab)
        per_frame = self._embed_ahead(known.unfold(1, self.config.lookahead + 1, 1))  # (B, S, C)
        phases = self.table.weight[-self.conditioning_rate :]  # the frame's place within its semantic frame
        return (per_frame[:, :, None] + phases).flatten(1, 2)[:, :num_steps]

    def condition_step(self, ahead: Tensor, steps: Tensor) -> Tensor:
        """What semantic tokens add to single steps: ahead [B, lookahead + 1], those from the step's own on ("none"
        past the end); steps [B], counted from the window's first frame -> [B, C]."""
        phases = (
            self.none_row
            + 1
            + (self.config.lookahead + 1) * self.conditioning_rows
            + steps % self.conditioning_rate
        )
        return self._embed_ahead(ahead) + F.embedding(phases, self.table.weight)

    def _embed_ahead(self, ahead: Tensor) -> Tensor:
        """[.., lookahead + 1] ids -> [.., C]."""
        offsets = torch.arange(self.config.lookahead + 1, device=ahead.device) * self.conditioning_rows
        return F.embedding(ahead + offsets + self.none_row + 1, self.table.weight).sum(-2)

    def embed(self, previous: Tensor, conditioning: Tensor | None, pulse: Tensor | None = None) -> Tensor:
        """Embeddings [.., C] of steps whose previous grid columns are `previous` [.., K]; the others [.., C]."""
        x = F.embedding(self.rows(previous), self.table.weight).sum(-2)
        x = x if pulse is None else x + pulse
        return x if conditioning is None else x + conditioning

    def embed_grid(self, grid: Tensor, conditioning: Tensor | None) -> Tensor:
        """Embeddings [B, N, C] of steps 0..N-1 of grid [B, K, N], with conditioning [B, N, C].

        The last column is not looked at: it is what step N - 1 predicts.
        """
        previous = F.pad(grid[..., :-1], (1, 0), value=self.none_id).transpose(1, 2)  # (B, N, K)
        steps = torch.arange(grid.shape[-1], device=grid.device).expand(grid.shape[0], -1)
        return self.embed(previous, conditioning, self.pulse_of(grid[:, 0], steps))

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [.., K, V] of hidden states [.., C]."""
        if self.heads is not None:
            flat = self.heads[0](hidden)
        else:
            flat = F.linear(hidden, self.head_weight(0, self.num_codebooks))
        return flat.unflatten(-1, (self.num_codebooks, self.vocab_size))  # type: ignore[no-any-return]

    def forward(
        self,
        grid: Tensor,
        semantic: Tensor | None = None,
        prompt: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> Tensor:
        """Logits [B, N, K, V] for every step of grid [B, K, N]; semantic [B, S] from the grid's first frame on.

        The style is that of prompt [B, K, T] up to `lengths` [B]; without a prompt there is none.
        """
        style = None if prompt is None else self.style_of(prompt, lengths)
        conditioning = self.condition(semantic, grid.shape[-1], style)
        hidden = self.transformer(self.embed_grid(grid, conditioning), causal=True)
        return self.logits(hidden)

    def _head_weights(self) -> list[Tensor]:
        return [self.head_weight(0, self.num_codebooks)]


class SemanticStage(AutoregressiveStage):
    """Semantic tokens, 25 per second."""

    kind = "semantic"


class CoarseStage(AutoregressiveStage):
    """The codec's first codebooks, 50 frames per second, from semantic tokens at half that rate."""

    kind = "coarse"


class FineStage(Stage):
    """The codec's other codebooks: level after level, all frames of a window at once.

    The prompt's frames show all levels, the others the levels below the one that is predicted.
    """

    kind = "fine"
    activation_bits = 8  # its passes are bound by arithmetic, and a draw decides nothing but its own code

    def __init__(self, config: StageConfig) -> None:
        self.num_levels = config.first_codebook + config.num_codebooks
        super().__init__(config, config.max_frames, self.num_levels, config.num_codebooks)

    def embed(self, codes: Tensor, prompt_frames: Tensor, level: int) -> Tensor:
        """Embeddings [B, T, C] for predicting `level` of codes [B, num_levels, T].

        prompt_frames [B]: leading frames that show all levels. Elsewhere, codes from `level` on are not looked at.
        """
        rows, num_levels, length = codes.shape
        frames = torch.arange(length, device=codes.device)
        levels = torch.arange(num_levels, device=codes.device)
        shown = (frames < prompt_frames[:, None])[..., None] | (levels < level)  # (B, T, K)
        table_rows = self.rows(codes.transpose(1, 2))
        weights = shown.to(self.table.weight.dtype).view(-1, num_levels)
        summed = F.embedding_bag(
            table_rows.reshape(-1, num_levels), self.table.weight, mode="sum", per_sample_weights=weights
        )  # (B * T, C)
        task = self.table.weight[self.none_row + 1 + level - self.config.first_codebook]
        return summed.view(rows, length, -1) + task

    def logits(self, hidden: Tensor, level: int) -> Tensor:
        """Logits [.., V] of `level` from hidden states [.., C]."""
        if self.heads is not None:
            return self.heads[level - self.config.first_codebook](hidden)  # type: ignore[no-any-return]
        return F.linear(hidden, self.head_weight(level))

    def forward(
        self, codes: Tensor, prompt_frames: Tensor, level: int, lengths: Tensor | None = None
    ) -> Tensor:
        """Logits [B, T, V] of `level` at every frame of codes [B, num_levels, T]; rows end at `lengths` [B]."""
        assert self.config.first_codebook <= level < self.num_levels
        hidden = self.transformer(self.embed(codes, prompt_frames, level), causal=False, lengths=lengths)
        return self.logits(hidden, level)

    def _head_weights(self) -> list[Tensor]:
        return [self.head_weight(level) for level in range(self.config.first_codebook, self.num_levels)]
