"""Marking sound as it is made.

Each cell is raised or lowered by 0.4 to 3.5 decibels: bands that dominate their frame, which are heard
best and cost the most distortion, by less than those in their shadow. Decisions held here: work goes in blocks of
fixed size, so that marking chunk by chunk gives the very samples of marking the whole; what is added fades in and out
over 8 ms, so nothing jumps where the mark begins or ends; no sample is driven beyond full scale; silence stays silent.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model.watermark.bands import CHIP_FRAMES, FRAME, HOP, LEAD, first_bins, window
from model.watermark.key import WatermarkKey
from model.watermark.pattern import PERIOD, Pattern, start_of

STRENGTH = 1.4  # dB in a band of average energy
_SHADE = 0.3  # strength goes with (energy of the band / mean energy of the bands) ** -_SHADE
_WEAKEST, _STRONGEST = 0.3, 2.5  # times STRENGTH
_FADE = HOP
_BLOCK = CHIP_FRAMES  # frames worked on at a time
_SILENCE = 1e-12  # energy

Floats = npt.NDArray[np.float32]


class Embedder:
    """One generation's mark. The samples of all `push` and `finish`, joined, are the marked sound, as long as what
    was pushed. What comes back lags by at most 0.1 s. Raises ConfigError for a payload outside 0 to 65535."""

    def __init__(self, key: WatermarkKey, payload: int) -> None:
        self._course = _course(np.roll(Pattern.of(key).chips(payload), -start_of(key, payload), axis=0))
        self._waiting = np.zeros(LEAD, np.float32)  # samples that are not in a finished block
        self._plain = np.zeros(0, np.float32)  # samples that have not come back yet
        self._added = np.zeros(0, np.float32)  # what is added to them, as far as it is final
        self._tail = np.zeros(LEAD, np.float32)  # of the last frames, not final yet
        self._lead = LEAD
        self._frame = 0
        self._begun = 0  # samples of the fade-in that are done

    def push(self, chunk: Floats) -> Floats:
        """Samples [n] -> marked samples [m] that follow those that came back before; m may be 0."""
        chunk = np.asarray(chunk, np.float32)
        self._plain = np.concatenate([self._plain, chunk])
        self._waiting = np.concatenate([self._waiting, chunk])
        self._work()
        return self._release(max(0, min(len(self._added), len(self._plain)) - _FADE))

    def finish(self) -> Floats:
        """The rest of the marked samples. The embedder is used up."""
        missing = len(self._plain) - len(self._added)
        if missing > 0:
            self._waiting = np.concatenate(
                [self._waiting, np.zeros(missing + FRAME + _BLOCK * HOP, np.float32)]
            )
            self._work()
        rest = len(self._plain)
        fade = min(_FADE, rest)
        self._added = self._added[:rest]
        if fade:
            self._added[rest - fade :] *= np.arange(fade - 1, -1, -1, dtype=np.float32) / _FADE
        return self._release(rest)

    def _work(self) -> None:
        """Turn all complete blocks of waiting samples into added ones."""
        size = (_BLOCK - 1) * HOP + FRAME
        done, position = [self._added], 0
        while position + size <= len(self._waiting):
            done.append(self._block(self._waiting[position : position + size]))
            position += _BLOCK * HOP
        self._waiting = self._waiting[position:]
        self._added = np.concatenate(done)

    def _block(self, samples: Floats) -> Floats:
        """The 768 samples of the mark that become final with these six frames."""
        frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::HOP] * window()
        spectrum = np.fft.rfft(frames, axis=1)  # (6, 257)
        decibels = self._decibels(spectrum)
        first, last = first_bins()[0], first_bins()[-1]
        change = np.zeros_like(spectrum)
        change[:, first:last] = spectrum[:, first:last] * (10 ** (decibels / 20) - 1)
        parts = np.fft.irfft(change, axis=1).astype(np.float32) * (window() / 2)
        total = np.zeros((_BLOCK - 1) * HOP + FRAME, np.float32)
        total[:LEAD] = self._tail
        for i, part in enumerate(parts):
            total[i * HOP : i * HOP + FRAME] += part
        self._tail = total[_BLOCK * HOP :]
        self._frame += _BLOCK
        final = total[self._lead : _BLOCK * HOP]
        self._lead = 0
        return final

    def _decibels(self, spectrum: npt.NDArray[np.complexfloating]) -> Floats:
        """[6, bins of the bands]"""
        rows = np.arange(self._frame, self._frame + _BLOCK) % len(self._course)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        energy = (
            np.add.reduceat(power[:, : first_bins()[-1]], first_bins()[:-1], axis=1) + _SILENCE
        )  # (6, 24)
        relative = energy / energy.mean(axis=1, keepdims=True)
        strength = STRENGTH * np.clip(relative**-_SHADE, _WEAKEST, _STRONGEST)
        return np.repeat(self._course[rows] * strength, np.diff(first_bins()), axis=1).astype(np.float32)

    def _release(self, count: int) -> Floats:
        plain, added = self._plain[:count], self._added[:count]
        self._plain, self._added = self._plain[count:], self._added[count:]
        if self._begun < _FADE:
            rising = np.arange(self._begun, min(_FADE, self._begun + count), dtype=np.float32) / _FADE
            added = added.copy()
            added[: len(rising)] *= rising
            self._begun += len(rising)
        limit = np.maximum(np.abs(plain), np.float32(1))
        marked: Floats = np.clip(plain + added, -limit, limit)
        return marked


def _course(chips: Floats) -> Floats:
    """Signs [64, 24] of one period -> [384, 24] for its frames, eased from chip to chip."""
    place = (
        np.arange(PERIOD * CHIP_FRAMES) - 0.5
    ) / CHIP_FRAMES  # in chips; frame 1 is the first whose half lies in
    chip = np.floor(place).astype(np.int64)
    within = (place - chip)[:, None]
    edge = 1 / CHIP_FRAMES
    before = np.clip((edge - within) / (2 * edge), 0, 0.5)
    after = np.clip((within - 1 + edge) / (2 * edge), 0, 0.5)
    here, last, following = (chips[(chip + shift) % PERIOD] for shift in (0, -1, 1))
    return (here * (1 - before - after) + last * before + following * after).astype(np.float32)


def embed(waveform: Floats, key: WatermarkKey, payload: int) -> Floats:
    """waveform [N] at 16 kHz -> [N], marked throughout. Raises ConfigError for a payload outside 0 to 65535."""
    embedder = Embedder(key, payload)
    return np.concatenate([embedder.push(waveform), embedder.finish()])
