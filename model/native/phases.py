"""The iterations of `model.phase` in the kernels, for windows of a length that they can transform."""

from __future__ import annotations

import ctypes
import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from model.native import library as c
from model.native.library import library

LANES = 16  # as in native.h
RADICES = (5, 4, 2)


def supported(length: int, hop: int) -> bool:
    """Whether there are kernels for windows of `length` samples every `hop`."""
    return library() is not None and hop % 2 == 0 and math.prod(_radices(length // 2)) == length // 2


def improve(
    magnitudes: Tensor,
    phases: Tensor,
    window: Tensor,
    hop: int,
    share: Tensor,
    past: Tensor,
    iterations: int,
    lead: float,
) -> Tensor:
    """`improve_by_tensors` for one row: sound [N] of magnitudes and first phases [H, bins], `hop` samples apart.

    share [N]: what each sample's sum of windows is multiplied by; past [P]: samples that stay as they are."""
    kernels = library()
    assert kernels is not None and magnitudes.dtype == window.dtype == past.dtype == torch.float32
    count, length = magnitudes.shape[0], window.shape[0]
    groups = -(-count // LANES)
    columns = groups * LANES + length // hop - 1
    magnitudes, phases = (_lanes(x, groups) for x in (magnitudes, phases))
    spectra = torch.stack(
        [magnitudes * phases.cos(), magnitudes * phases.sin()], 2
    )  # (groups, bins, 2, LANES)
    shares = F.pad(share, (0, columns * hop - share.shape[0])).view(columns, hop).t().contiguous()
    sound = torch.zeros(hop, columns)
    turns, place, radices = _tables(length)
    window, past = window.contiguous(), past.contiguous()
    tensors = magnitudes, window, shares, past, turns, place, radices
    sizes = len(radices), length, hop, groups, columns, past.shape[0], iterations
    struct = c.Phases(*(x.data_ptr() for x in tensors), *sizes, lead)
    kernels.improve_phases(ctypes.byref(struct), spectra.data_ptr(), sound.data_ptr())
    return sound.t().flatten()[: share.shape[0]]


def _lanes(x: Tensor, groups: int) -> Tensor:
    """[H, bins] -> [groups, bins, LANES]."""
    filled = F.pad(x, (0, 0, 0, groups * LANES - x.shape[0]))
    return filled.view(groups, LANES, -1).transpose(1, 2).contiguous()


def _radices(size: int) -> list[int]:
    """Factors of `size` that the kernels know, as many as it has."""
    found = []
    for radix in RADICES:
        while size % radix == 0 and size > 1:
            found.append(radix)
            size //= radix
    return found


@functools.cache
def _tables(length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Turns [length, 2], places [length / 2] and radices; see phase.c."""
    angles = torch.arange(length, dtype=torch.float64) * (2 * math.pi / length)
    radices = _radices(length // 2)
    rest, size, place = torch.arange(length // 2), length // 2, torch.zeros(length // 2, dtype=torch.int64)
    for radix in radices:
        size //= radix
        place += rest % radix * size
        rest = rest // radix
    return torch.stack([angles.cos(), angles.sin()], 1).float(), place, torch.tensor(radices)
