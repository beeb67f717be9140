"""The tokens of running sequences, one lane per slot, where every stage reads and writes them on the device.

A lane holds a sequence's semantic tokens, its codes and its sampling settings. Nothing is ever cleared: what has not
been made yet is not looked at, or is written again before it is. Knows ids, no model.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.engine.sequence import Sequence
from model.sampling import Sampling

OPEN_TOP_K, OPEN_TOP_P = 0, 1.0  # in rows that narrow nothing, beside rows that do


class Lanes:
    """semantic [slots, 1, S], codes [slots, K, T]; `spare` frames beyond the longest sequence may be written to."""

    def __init__(
        self,
        slots: int,
        tokens: int,
        frames: int,
        levels: int,
        num_clusters: int,
        spare: int,
        device: torch.device,
    ) -> None:
        self.no_token = num_clusters
        self.semantic = torch.full((slots, 1, tokens + spare), num_clusters, device=device)
        self.codes = torch.zeros(slots, levels, frames + spare, dtype=torch.int64, device=device)

    def open(self, slot: int, tokens: Tensor, codes: Tensor) -> None:
        """Put a prompt's tokens [S] and codes [K, T] at the start of a lane."""
        self.semantic[slot].fill_(self.no_token)
        self.semantic[slot, 0, : len(tokens)] = tokens
        self.codes[slot, :, : codes.shape[1]] = codes


class Settings:
    """How each row of a stage draws; kept per slot, gathered per batch."""

    def __init__(
        self, slots: int, stage_number: int, temperatures: tuple[float, ...], device: torch.device
    ) -> None:
        self._stage_number, self._temperatures = stage_number, temperatures
        self.temperature = torch.ones(slots, len(temperatures), device=device)
        self.keys = torch.zeros(slots, dtype=torch.int64, device=device)
        self.top_k = torch.full((slots,), OPEN_TOP_K, device=device)
        self.top_p = torch.full((slots,), OPEN_TOP_P, device=device)

    def open(self, sequence: Sequence) -> None:
        """Take over a sequence's settings."""
        temperature = [sequence.temperature * each for each in self._temperatures]
        own = Sampling.of(
            [sequence.seed], self._stage_number, temperature=temperature, device=self.keys.device
        )
        self.temperature[sequence.slot] = own.temperature[0]
        self.keys[sequence.slot] = own.keys[0]
        self.top_k[sequence.slot] = OPEN_TOP_K if sequence.top_k is None else sequence.top_k
        self.top_p[sequence.slot] = OPEN_TOP_P if sequence.top_p is None else sequence.top_p

    def of(self, slots: Tensor, *, narrowed_k: bool, narrowed_p: bool) -> Sampling:
        """Settings of the rows in `slots` [B]; `narrowed_*` say whether any row uses top-k or top-p."""
        return Sampling(
            self.temperature[slots],
            self.keys[slots],
            self.top_k[slots] if narrowed_k else None,
            self.top_p[slots] if narrowed_p else None,
        )
