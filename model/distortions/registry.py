"""Every distortion by name: what the attack battery goes through and what the detector's training draws from.

    battery = distortions(Material(codec=codec, speech=[...], music=[...]))
    attacked = battery["mp3_64k"](waveform, np.random.default_rng(0))

A distortion that needs what is not there (the codec, recordings, ffmpeg) is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from model.codec import Codec
from model.distortions.amplitude import Clipping, Compressor, Gain, MuLaw, Polarity, Quantization
from model.distortions.distortion import Chain, Distortion, Waveform
from model.distortions.encoders import Aac, Mp3, Opus, Vorbis
from model.distortions.noise import Babble, MusicBed, PinkNoise, WhiteNoise
from model.distortions.rates import Pitch, Resampling, Speed, Tempo
from model.distortions.resynthesis import MelResynthesis, OwnCodec
from model.distortions.rooms import Echo, Reverb
from model.distortions.spectrum import Equalizer, HighPass, LowPass
from model.distortions.splicing import Concatenation, Crop, Splice

# Pairs of the battery: what happens to a clip that is shared, recorded off a loudspeaker, telephoned.
PAIRS = (
    ("resampling_8000", "mp3_64k"),
    ("speed_1.05", "mp3_64k"),
    ("white_noise_20dB", "opus_24k"),
    ("reverb_0.3s", "mp3_64k"),
    ("equalizer_6dB", "aac_64k"),
    ("music_bed_10dB", "opus_24k"),
    ("compressor", "mp3_32k"),
    ("mu_law", "opus_16k"),
)


@dataclass(frozen=True)
class Material:
    """What some distortions need: our codec, and recordings [N] that are not ours."""

    codec: Codec | None = None
    speech: Sequence[Waveform] = ()
    music: Sequence[Waveform] = ()


def distortions(material: Material) -> dict[str, Distortion]:
    """Name -> distortion, simple ones first, then PAIRS as "first+second"."""
    named: dict[str, Distortion] = {}
    for rate in (32, 64, 128):
        named[f"mp3_{rate}k"] = Mp3(rate)
    if Aac.available():
        for rate in (32, 64, 128):
            named[f"aac_{rate}k"] = Aac(rate)
    for rate in (12, 16, 24, 32, 64):
        named[f"opus_{rate}k"] = Opus(rate)
    for quality in (0.1, 0.4):
        named[f"vorbis_{quality}"] = Vorbis(quality)
    named["mu_law"] = MuLaw()
    for rate in (8_000, 11_025, 22_050, 44_100):
        named[f"resampling_{rate}"] = Resampling(rate)
    named["8_bit"] = Quantization(8)
    for decibels in (-20, -6, 6):
        named[f"gain_{decibels}dB"] = Gain(decibels)
    named["polarity"] = Polarity()
    for share in (0.01, 0.1):
        named[f"clipping_{share:.0%}"] = Clipping(share)
    for decibels in (30, 20, 10):
        named[f"white_noise_{decibels}dB"] = WhiteNoise(decibels)
        named[f"pink_noise_{decibels}dB"] = PinkNoise(decibels)
        if material.speech:
            named[f"babble_{decibels}dB"] = Babble(material.speech, decibels)
    if material.music:
        for decibels in (20, 10):
            named[f"music_bed_{decibels}dB"] = MusicBed(material.music, decibels)
    for seconds in (0.3, 0.6):
        named[f"reverb_{seconds}s"] = Reverb(seconds)
    named["echo"] = Echo(0.15)
    for hertz in (1_500, 3_400):
        named[f"low_pass_{hertz}"] = LowPass(hertz)
    for hertz in (500, 1_500):
        named[f"high_pass_{hertz}"] = HighPass(hertz)
    for decibels in (6, 12):
        named[f"equalizer_{decibels}dB"] = Equalizer(decibels)
    named["compressor"] = Compressor()
    for factor in (0.9, 0.95, 1.05, 1.1):
        named[f"speed_{factor}"] = Speed(factor)
    for factor in (0.95, 1.05):
        named[f"tempo_{factor}"] = Tempo(factor)
    for semitones in (-1, 1):
        named[f"pitch_{semitones:+d}"] = Pitch(semitones)
    named["mel_resynthesis"] = MelResynthesis()
    if material.codec is not None:
        for depth in range(1, material.codec.num_codebooks + 1):
            named[f"own_codec_{depth}"] = OwnCodec(material.codec, depth)
    named["crop_60%"] = Crop(0.6)
    if material.speech:
        named["splice_1s_in_10s"] = Splice(material.speech, 1.0, 10.0)
        named["concatenation"] = Concatenation(material.speech)
    for first, second in PAIRS:
        if first in named and second in named:
            named[f"{first}+{second}"] = Chain((named[first], named[second]))
    return named
