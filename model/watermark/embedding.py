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
_MOST_BLOCKS = 16  # worked on together: few calls, and all of it in the processor's cache
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
        self._tail = np.zeros((LEAD // HOP, HOP), np.float32)  # of the last frames, not final yet
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
        hop, overlap = _BLOCK * HOP, FRAME - HOP
        ready = max(0, len(self._waiting) - overlap) // hop * hop
        done = [self._added]
        for start in range(0, ready, _MOST_BLOCKS * hop):
            stop = min(ready, start + _MOST_BLOCKS * hop)
            done.append(self._blocks(self._waiting[start : stop + overlap]))
        self._waiting = self._waiting[ready:]
        self._added = np.concatenate(done)

    def _blocks(self, samples: Floats) -> Floats:
        """The samples of the mark that become final with the frames of `samples`, F of them. No frame looks at
        another, and they are added up in their order: the same bits however many come at once."""
        frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::HOP] * window()
        spectrum = np.fft.rfft(frames, axis=1)  # (F, 257)
        first, last = first_bins()[0], first_bins()[-1]
        change = np.zeros_like(spectrum)
        change[:, first:last] = spectrum[:, first:last] * np.repeat(
            self._gains(spectrum), np.diff(first_bins()), axis=1
        )
        parts = np.fft.irfft(change, axis=1).astype(np.float32) * (window() / 2)
        count = len(parts)
        total = np.zeros((count + LEAD // HOP, HOP), np.float32)  # 128 samples a row
        total[: LEAD // HOP] = self._tail
        for row in reversed(range(FRAME // HOP)):
            total[row : row + count] += parts[:, row * HOP : (row + 1) * HOP]
        self._tail = total[count:].copy()
        self._frame += count
        final = total[:count].ravel()[self._lead :]
        self._lead = 0
        return final

    def _gains(self, spectrum: npt.NDArray[np.complexfloating]) -> Floats:
        """[F, 24]: what part of each band is added to it, or taken away."""
        rows = np.arange(self._frame, self._frame + len(spectrum)) % len(self._course)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        energy = (
            np.add.reduceat(power[:, : first_bins()[-1]], first_bins()[:-1], axis=1) + _SILENCE
        )  # (F, 24)
        relative = energy / energy.mean(axis=1, keepdims=True)
        strength = STRENGTH * np.clip(relative**-_SHADE, _WEAKEST, _STRONGEST)
        decibels = (self._course[rows] * strength).astype(np.float32)
        gains: Floats = 10 ** (decibels / 20) - 1
        return gains

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
