"""Where a sound is heard and with what: a synthetic room, a microphone, noise and a level.

Every recording draws its own. Speech and piano use the same ranges, except for how close the microphone is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.training.corpus.waveform import SAMPLE_RATE, Waveform, set_level

BAND_EDGES = (0.0, 400.0, 1600.0, 8000.0)  # low, middle and high decay differently


def record(
    waveform: Waveform,
    rng: np.random.Generator,
    *,
    dry: float = 0.2,
    levels: tuple[float, float] = (-28.0, -18.0),
) -> Waveform:
    """The waveform [N] as a recording [N]: a share `dry` of recordings has no room; `levels` in dB of full scale."""
    count = len(waveform)
    length = fast_length(count + SAMPLE_RATE)
    spectrum = np.fft.rfft(waveform, length) * microphone_response(length, rng)
    if rng.random() >= dry:
        spectrum *= np.fft.rfft(room_response(rng), length)
    heard = np.fft.irfft(spectrum, length)[:count]
    rms = float(np.sqrt(np.mean(heard**2)))
    noise = background_noise(count, rng) * rms * 10.0 ** (-rng.uniform(38.0, 75.0) / 20.0)
    return set_level((heard + noise).astype(np.float32), float(rng.uniform(*levels)))


def room_response(rng: np.random.Generator) -> NDArray[np.float64]:
    """An impulse response [<= 16000]: direct sound, a few early reflections, a diffuse tail."""
    reverberation = float(np.exp(rng.uniform(np.log(0.12), np.log(1.0))))  # seconds to decay by 60 dB
    count = min(SAMPLE_RATE, round(1.2 * reverberation * SAMPLE_RATE))
    time = np.arange(count) / SAMPLE_RATE
    tail = np.zeros(count)
    for band, factor in zip(range(3), (1.1, 1.0, float(rng.uniform(0.4, 0.8))), strict=True):
        tail += _band_noise(count, band, rng) * np.exp(-6.9 * time / (reverberation * factor))
    tail[: round(rng.uniform(0.004, 0.02) * SAMPLE_RATE)] = 0.0
    for _ in range(int(rng.integers(4, 14))):
        arrival = rng.uniform(0.002, 0.05)
        strength = rng.uniform(0.2, 1.0) * np.exp(-arrival / 0.03) * rng.choice([-1.0, 1.0])
        tail[round(arrival * SAMPLE_RATE)] += strength * 0.5 * np.abs(tail).max()
    tail *= 10.0 ** (-rng.uniform(2.0, 20.0) / 20.0) / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    return tail


def _band_noise(count: int, band: int, rng: np.random.Generator) -> NDArray[np.float64]:
    length = fast_length(count)
    frequency = np.fft.rfftfreq(length, 1.0 / SAMPLE_RATE)
    inside = (frequency >= BAND_EDGES[band]) & (frequency < BAND_EDGES[band + 1] + 1.0)
    return np.asarray(np.fft.irfft(np.fft.rfft(rng.normal(size=length)) * inside, length)[:count])


def fast_length(count: int) -> int:
    """The next power of two: an FFT of a length with large prime factors is ten times slower."""
    return 1 << (count - 1).bit_length()


def microphone_response(length: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Gains [length // 2 + 1]: a gentle random curve, a high-pass, sometimes a dull top."""
    frequency = np.fft.rfftfreq(length, 1.0 / SAMPLE_RATE)
    knots = np.log2(np.array([50.0, 120.0, 300.0, 700.0, 1600.0, 3500.0, 8000.0]))
    curve = rng.normal(0.0, rng.uniform(0.3, 2.5), len(knots))
    gains = 10.0 ** (np.interp(np.log2(np.maximum(frequency, 1.0)), knots, curve) / 20.0)
    high_pass = rng.uniform(20.0, 90.0)
    gains *= frequency**2 / (frequency**2 + high_pass**2)
    if rng.random() < 0.15:
        gains /= np.sqrt(1.0 + (frequency / rng.uniform(3000.0, 7000.0)) ** 6)
    return np.asarray(gains)


def background_noise(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Noise [count] of RMS 1, from white to brown, sometimes with mains hum."""
    length = fast_length(count)
    frequency = np.maximum(np.fft.rfftfreq(length, 1.0 / SAMPLE_RATE), 30.0)
    spectrum = np.fft.rfft(rng.normal(size=length)) * frequency ** -rng.uniform(0.0, 1.0)
    noise = np.fft.irfft(spectrum, length)[:count]
    if rng.random() < 0.1:
        time = np.arange(count) / SAMPLE_RATE
        mains = float(rng.choice([50.0, 60.0]))
        noise = noise / noise.std() + sum(np.sin(2 * np.pi * mains * k * time) / k for k in (1, 2, 3))
    return np.asarray(noise / noise.std())
