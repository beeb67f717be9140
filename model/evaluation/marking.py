"""What the watermark does to the sound that carries it: how far the marked sound is from the unmarked one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from model.evaluation.spectral import Waveform, pesq_wideband
from model.watermark import WatermarkKey, embed


def signal_to_mark(unmarked: Waveform, marked: Waveform) -> float:
    """Power of the sound [N] over that of what marking added, in dB."""
    added = marked.astype(np.float64) - unmarked
    return float(10 * np.log10(np.square(unmarked, dtype=np.float64).sum() / np.square(added).sum()))


def imperceptibility(made: Sequence[Waveform], key: WatermarkKey) -> dict[str, Any]:
    """PESQ-WB and SNR of the marked against the unmarked, over generations [N]: mean and worst.

    Sounds in which PESQ finds no speech are left out of its row.
    """
    pairs = [(sound, embed(sound, key, number)) for number, sound in enumerate(made)]
    scores = [pesq_wideband(sound, marked) for sound, marked in pairs]
    heard = [score for score in scores if np.isfinite(score)]
    ratios = [signal_to_mark(sound, marked) for sound, marked in pairs]
    return {
        "clips": len(pairs),
        "snr": {"mean": float(np.mean(ratios)), "lowest": min(ratios)},
        "pesq": {"clips": len(heard), "mean": float(np.mean(heard)), "lowest": min(heard)} if heard else None,
    }
