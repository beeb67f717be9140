"""Sound from magnitudes alone: phases that make overlapping windows agree.

Phases start from the frequencies of the spectrum's peaks, advanced from window to window (single pass spectrogram
inversion, Beauregard, Harish & Wyse 2015), and are then improved by the fast Griffin-Lim algorithm (Perraudin, Balazs &
Sondergaard 2013). Samples that are already known, the sound that was made before, stay as they are, and the phases go
on from them: sound can be made piece by piece. Deterministic: there is no random start. On a CPU with kernels those
iterate (`model.native.phases`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from model.native import phases as native

LEAD = 0.99 / 1.99  # of the last iteration's spectrum, which the next one moves away from
TINY = 1e-8


def reconstruct(magnitudes: Tensor, window: Tensor, hop: int, past: Tensor, iterations: int) -> Tensor:
    """Sound [B, (H - 1) * hop + window] with magnitudes [B, H, bins] of windows every `hop` samples.

    past [B, P]: what is known of its first samples, P >= 0; they are matched, not copied.
    """
    windows = Windows(window, hop)
    phases = _first_phases(magnitudes, windows, past)
    if magnitudes.device.type == "cpu" and native.supported(windows.length, hop):
        share = windows.share(magnitudes.shape[1])[0]
        rows = zip(magnitudes, phases, past, strict=True)
        return torch.stack(
            [
                native.improve(size, phase, window, hop, share, known, iterations, LEAD)
                for size, phase, known in rows
            ]
        )
    return improve_by_tensors(magnitudes, phases, windows, past, iterations)


def improve_by_tensors(
    magnitudes: Tensor, phases: Tensor, windows: Windows, past: Tensor, iterations: int
) -> Tensor:
    """Sound [B, N] with magnitudes [B, H, bins] whose phases [B, H, bins] were made to agree, on any device."""
    spectrum = torch.polar(magnitudes, phases)
    previous: Tensor | None = None
    for _ in range(iterations):
        sound = windows.join(spectrum)
        sound[:, : past.shape[1]] = past
        consistent = windows.split(sound)
        ahead = consistent if previous is None else consistent - LEAD * previous
        previous = consistent
        spectrum = magnitudes * (ahead / (ahead.abs() + TINY))
    return windows.join(spectrum)


class Windows:
    """Windowed spectra of overlapping pieces [B, H, bins] <-> sound [B, N]. The window is a whole number of hops."""

    def __init__(self, window: Tensor, hop: int) -> None:
        self.window, self.hop, self.length = window, hop, window.shape[0]
        self.overlap = self.length // hop

    def split(self, sound: Tensor) -> Tensor:
        spectra: Tensor = torch.fft.rfft(sound.unfold(1, self.length, self.hop) * self.window)
        return spectra

    def join(self, spectra: Tensor) -> Tensor:
        return self._add(torch.fft.irfft(spectra, self.length) * self.window) * self.share(spectra.shape[1])

    def share(self, count: int) -> Tensor:
        """One over what the squares of `count` windows add up to, [1, N]."""
        return 1 / self._add(self.window.square().expand(1, count, -1)).clamp_min(1e-3)

    def _add(self, pieces: Tensor) -> Tensor:
        rows, count, _ = pieces.shape
        parts = pieces.view(rows, count, self.overlap, self.hop)
        sound = pieces.new_zeros(rows, count + self.overlap - 1, self.hop)
        for part in range(self.overlap):
            sound[:, part : part + count] += parts[:, :, part]
        return sound.flatten(1)


def _first_phases(magnitudes: Tensor, windows: Windows, past: Tensor) -> Tensor:
    """Phases [B, H, bins]: every bin turns with the peak nearest to it, from where the known samples end."""
    advance = 2 * math.pi * windows.hop / windows.length * _peak_positions(magnitudes)  # (B, H, bins)
    turned = functional.pad(0.5 * (advance[:, 1:] + advance[:, :-1]), (0, 0, 1, 0)).cumsum(1)
    if not past.shape[1]:
        return turned + math.pi * torch.arange(magnitudes.shape[2], device=magnitudes.device)
    known = functional.pad(past[:, : windows.length], (0, max(0, windows.length - past.shape[1])))
    return turned + windows.split(known).angle()


def _peak_positions(magnitudes: Tensor) -> Tensor:
    """For every bin of [B, H, bins] the position of the nearest spectral peak, in bins, between bins too."""
    bins = magnitudes.shape[2]
    level = (magnitudes + TINY).log()
    padded = functional.pad(level, (1, 1), value=-1e9)
    below, above = padded[..., :-2], padded[..., 2:]
    is_peak = (level >= below) & (level > above)
    curvature = (below - 2 * level + above).clamp_max(-1e-6)
    offset = (0.5 * (below - above) / curvature).clamp(-0.5, 0.5)  # of a parabola through three bins
    here = torch.arange(bins, device=magnitudes.device).expand_as(level)
    last = torch.where(is_peak, here, -bins).cummax(2).values
    following = torch.where(is_peak, here, 2 * bins).flip(2).cummin(2).values.flip(2)
    nearest = torch.where(here - last <= following - here, last, following).clamp(0, bins - 1)
    return nearest + offset.gather(2, nearest)
