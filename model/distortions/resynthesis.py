"""Sound made again from what a model keeps of it: our own codec at any depth, and a mel spectrogram.

Decisions held here: the codec hears float32 and answers as it does in service (`Codec.decode`); the mel spectrogram
has 80 bands and finds its phase by Griffin and Lim's iteration (IEEE TASSP 32(2), 1984) from a random one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torchaudio.functional import griffinlim, melscale_fbanks

from model.codec import Codec
from model.distortions.distortion import SAMPLE_RATE, Distortion, Waveform

N_FFT, HOP, MELS, ITERATIONS = 1024, 256, 80, 24


@dataclass(frozen=True)
class OwnCodec(Distortion):
    """Our codec with its first `depth` codebooks."""

    codec: Codec
    depth: int

    @torch.inference_mode()
    def apply(self, waveform: Waveform, rng: np.random.Generator) -> Waveform:
        device = next(self.codec.parameters()).device
        codes = self.codec.encode(torch.from_numpy(waveform).to(device)[None])
        return np.asarray(self.codec.decode(codes[:, : self.depth])[0].float().cpu().numpy())


@dataclass(frozen=True)
class MelResynthesis(Distortion):
    """What a vocoder would be given: magnitudes in 80 mel bands, no phase."""

    @torch.inference_mode()
    def apply(self, waveform: Waveform, rng: np.random.Generator) -> Waveform:
        window = torch.hann_window(N_FFT)
        padded = torch.from_numpy(np.pad(waveform, (0, max(0, N_FFT - len(waveform)))))
        magnitude = torch.stft(padded, N_FFT, HOP, window=window, return_complex=True).abs()
        bands = melscale_fbanks(N_FFT // 2 + 1, 0.0, SAMPLE_RATE / 2, MELS, SAMPLE_RATE)
        restored = (torch.linalg.pinv(bands.T) @ (bands.T @ magnitude)).clamp_min(0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**62)))
            sound = griffinlim(
                restored[None], window, N_FFT, HOP, N_FFT, power=1.0, n_iter=ITERATIONS, momentum=0.9,
                length=len(padded), rand_init=True,
            )  # fmt: skip
        return np.asarray(sound[0].numpy())
