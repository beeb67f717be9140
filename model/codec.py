"""Sound to codes and back, at frame rate.

The codes of a frame describe the magnitudes of its spectrum and leave its phases open: how a period lies within a frame
tells nothing about the sound, and a stage that predicts codes cannot know it. The analysis is linear, principal
components of companded magnitudes, quantized by 12 residual codebooks; the synthesis keeps the linear way back beside a
ConvNeXt network (as in Vocos, arXiv 2306.00814), which restores from a frame's neighbours what quantization lost, and
`model.phase` then finds phases that go on from the sound before. No part runs at sample rate but the transforms.
Knows nothing of training.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from model.config import SAMPLE_RATE, CodecConfig
from model.phase import reconstruct
from model.quantizer import ResidualVectorQuantizer
from model.spectrogram import HOPS, Spectrogram

LOOK_AHEAD = 2  # frames after a stretch whose windows reach into it
FADE_SAMPLES = 128  # 8 ms over which new sound is fitted to the sound before


class Codec(nn.Module, ABC):
    """The contract of any codec: waveform [B, N] <-> codes [B, K, T]."""

    sample_rate: int
    hop_length: int
    num_codebooks: int
    codebook_size: int
    context_frames: int  # one decoded frame depends on the codes of this many frames each side
    past_samples: int  # and on this many samples decoded before it

    @property
    def frame_rate(self) -> float:
        return self.sample_rate / self.hop_length

    @abstractmethod
    def encode(self, waveform: Tensor) -> Tensor:
        """waveform [B, N] -> codes int64 [B, K, T], T = ceil(N / hop_length)."""

    @abstractmethod
    def decode(
        self, codes: Tensor, start: int = 0, stop: int | None = None, past: Tensor | None = None
    ) -> Tensor:
        """Sound [B, (stop - start) * hop_length] of frames start..stop of codes [B, K', T], 1 <= K' <= K.

        The other frames are context. past [B, P]: the samples right before frame `start`, from which the sound goes on;
        None where there are none.
        """


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over frames, then a pointwise network with residual (arXiv 2201.03545). [B, T, C]."""

    def __init__(self, dim: int, kernel_size: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, 3 * dim)
        self.contract = nn.Linear(3 * dim, dim)
        self.scale = nn.Parameter(torch.full((dim,), 0.3))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        hidden = self.contract(nn.functional.gelu(self.expand(self.norm(hidden))))
        output: Tensor = x + self.scale * hidden
        return output


def _stack(dim: int, layers: int, kernel_size: int) -> nn.Sequential:
    return nn.Sequential(*[ConvNeXtBlock(dim, kernel_size) for _ in range(layers)], nn.LayerNorm(dim))


class SpectralCodec(Codec):
    """The codec this project trains."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.sample_rate = SAMPLE_RATE
        self.hop_length = config.hop_length
        self.num_codebooks = config.num_codebooks
        self.codebook_size = config.codebook_size
        self.spectrogram = Spectrogram(config.hop_length)
        self.context_frames = config.decoder_layers * (config.kernel_size // 2) + LOOK_AHEAD
        self.past_samples = self.hop_length + self.spectrogram.lead
        width = HOPS * self.spectrogram.bins
        self.encoder_linear = nn.Linear(width, config.latent_dim)
        self.quantizer = ResidualVectorQuantizer(
            config.num_codebooks, config.codebook_size, config.latent_dim
        )
        self.decoder_linear = nn.Linear(config.latent_dim, width)
        self.decoder_in = nn.Linear(config.latent_dim, config.decoder_dim)
        self.decoder = _stack(config.decoder_dim, config.decoder_layers, config.kernel_size)
        self.decoder_out = nn.Linear(config.decoder_dim, width)
        nn.init.zeros_(self.decoder_out.weight)
        nn.init.zeros_(self.decoder_out.bias)

    def analyze(self, waveform: Tensor) -> Tensor:
        """waveform [B, N] -> latents [B, T, D] before quantization."""
        latents: Tensor = self.encoder_linear(self.spectrogram(waveform))
        return latents

    def restore(self, latents: Tensor) -> Tensor:
        """latents [B, T, D] -> companded magnitudes [B, T, HOPS * bins]."""
        hidden = self.decoder_out(self.decoder(self.decoder_in(latents)))
        companded: Tensor = self.decoder_linear(latents) + hidden
        return companded

    def encode(self, waveform: Tensor) -> Tensor:
        return self.quantizer.encode(self.analyze(waveform))

    def decode(
        self, codes: Tensor, start: int = 0, stop: int | None = None, past: Tensor | None = None
    ) -> Tensor:
        stop = codes.shape[2] if stop is None else stop
        first, last = max(0, start - 1), min(codes.shape[2], stop + LOOK_AHEAD)
        companded = self.restore(self.quantizer.decode(codes))[:, first:last]
        before = (
            start - first
        ) * self.hop_length + self.spectrogram.lead  # samples of the windows before `start`
        known = (
            codes.new_zeros((len(codes), 0), dtype=torch.float32) if past is None else _end_of(past, before)
        )
        sound = reconstruct(
            self.spectrogram.magnitudes(companded),
            self.spectrogram.window,
            self.spectrogram.hop,
            known,
            self.config.phase_iterations,
        )
        new = sound[:, before : before + (stop - start) * self.hop_length]
        return new if past is None else _go_on(known, sound[:, :before], new)


def _end_of(past: Tensor, count: int) -> Tensor:
    """The last `count` samples of past [B, P], after silence where there are fewer."""
    return nn.functional.pad(past.float(), (max(0, count - past.shape[1]), 0))[:, -count:]


def _go_on(past: Tensor, matched: Tensor, new: Tensor) -> Tensor:
    """`new` [B, M] without a jump after `past` [B, P], which the codec made as `matched` [B, P].

    The codec's error at the end of the past, mirrored, fades out over the first FADE_SAMPLES of the new: the waveform
    goes on from the past as the codec's own goes on.
    """
    length = min(FADE_SAMPLES, new.shape[1])
    steps = torch.arange(length, device=new.device) / length
    fade = 0.5 + 0.5 * torch.cos(torch.pi * steps)  # from 1 towards 0
    error = (past - matched)[:, -length:].flip(1)
    return torch.cat([new[:, :length] + error * fade, new[:, length:]], 1)
