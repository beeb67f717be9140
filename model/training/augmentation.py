"""What happens to sound between us and whoever asks about it, at random, for the detector's training.

Decisions held here: every kind of distortion has its share, cheap ones more than slow ones; strengths are drawn from
ranges that enclose those of the attack battery. Both classes go through the same. Knows no detector.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from model.distortions.amplitude import Clipping, Compressor, MuLaw, Polarity, Quantization
from model.distortions.distortion import Distortion, Waveform
from model.distortions.encoders import Aac, Mp3, Opus, Vorbis
from model.distortions.noise import Babble, MusicBed, PinkNoise, WhiteNoise
from model.distortions.rates import Pitch, Resampling, Speed, Tempo
from model.distortions.registry import Material
from model.distortions.resynthesis import MelResynthesis, OwnCodec
from model.distortions.rooms import Echo, Reverb
from model.distortions.spectrum import Equalizer, HighPass, LowPass

Drawn = Callable[[np.random.Generator], Distortion]
ONE, TWO = 0.4, 0.15  # share of the windows that go through one distortion, and through two
RATES = (8_000, 11_025, 12_000, 22_050, 44_100)


def choices(material: Material) -> list[tuple[float, Drawn]]:
    """(share, what draws one of a kind) of every kind that `material` allows."""
    codec, speech, music = material.codec, material.speech, material.music
    kinds: list[tuple[float, Drawn]] = [
        (3.0, lambda rng: Mp3(rng.uniform(24, 128))),
        (1.0, lambda rng: Opus(rng.uniform(10, 64))),
        (2.0, lambda rng: Vorbis(rng.uniform(0.0, 0.7))),
        (1.0, lambda rng: MuLaw()),
        (1.0, lambda rng: Resampling(int(rng.choice(RATES)))),
        (0.5, lambda rng: Quantization(int(rng.integers(7, 12)))),
        (0.5, lambda rng: Polarity()),
        (0.5, lambda rng: Clipping(rng.uniform(0.002, 0.1))),
        (1.5, lambda rng: WhiteNoise(rng.uniform(8, 40))),
        (1.5, lambda rng: PinkNoise(rng.uniform(8, 40))),
        (2.0, lambda rng: Reverb(rng.uniform(0.1, 0.7), rng.uniform(-2, 8))),
        (0.5, lambda rng: Echo(rng.uniform(0.05, 0.3), rng.uniform(-15, -4))),
        (1.0, lambda rng: LowPass(rng.uniform(1_200, 7_000))),
        (1.0, lambda rng: HighPass(rng.uniform(100, 1_800))),
        (2.0, lambda rng: Equalizer(rng.uniform(3, 14))),
        (1.0, lambda rng: Compressor(rng.uniform(-35, -15), rng.uniform(2, 8))),
        (1.5, lambda rng: Speed(rng.uniform(0.88, 1.12))),
        (0.7, lambda rng: Tempo(rng.uniform(0.9, 1.1))),
        (0.7, lambda rng: Pitch(rng.uniform(-1.5, 1.5))),
        (0.1, lambda rng: MelResynthesis()),
    ]
    if Aac.available():
        kinds.append((0.1, lambda rng: Aac(rng.uniform(24, 128))))
    if speech:
        kinds.append((1.0, lambda rng: Babble(speech, rng.uniform(8, 30))))
    if music:
        kinds.append((1.0, lambda rng: MusicBed(music, rng.uniform(8, 30))))
    if codec is not None:
        kinds.append((0.3, lambda rng: OwnCodec(codec, int(rng.integers(4, codec.num_codebooks + 1)))))
    return kinds


class Augmentation:
    """Draws distortions from `material`."""

    LONGEST_FACTOR = 1.15  # how much more sound than it gives back a distortion may need

    def __init__(self, material: Material) -> None:
        shares, self._drawn = zip(*choices(material), strict=True)
        self._shares = np.array(shares) / sum(shares)

    def __call__(self, waveform: Waveform, length: int, rng: np.random.Generator) -> Waveform:
        """waveform [N] -> [length] from its middle, after none, one or two distortions."""
        chance = rng.random()
        for _ in range(int(chance < ONE + TWO) + int(chance < TWO)):
            distortion = self._drawn[int(rng.choice(len(self._drawn), p=self._shares))](rng)
            waveform = distortion(waveform, rng)
        return middle(waveform, length)


def middle(waveform: Waveform, length: int) -> Waveform:
    """The middle `length` samples of [N]; silence around what is shorter."""
    missing = max(0, length - len(waveform))
    padded = np.pad(waveform, (missing // 2, missing - missing // 2))
    start = (len(padded) - length) // 2
    return padded[start : start + length].astype(np.float32)
