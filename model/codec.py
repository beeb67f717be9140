"""Sound to codes and back, at frame rate.

The encoder looks at each 20 ms frame's spectrum and a few neighbours, a residual vector quantizer turns the result
into 12 codes, and the decoder turns codes into a spectrum again. Both sides keep a linear path beside their ConvNeXt
network, so that training starts from a working transform codec and the networks only add to it; nothing runs at
sample rate but the transform itself (as in Vocos, arXiv 2306.00814, which uses the inverse STFT).
Spectra are companded (sign x |x|^0.7): quiet partials count, as they do for the ear.
Knows nothing of training.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from model.config import SAMPLE_RATE, CodecConfig
from model.mdct import MDCT
from model.quantizer import ResidualVectorQuantizer

COMPANDING = 0.7


class Codec(nn.Module, ABC):
    """The contract of any codec: waveform [B, N] <-> codes [B, K, T]."""

    sample_rate: int
    hop_length: int
    num_codebooks: int
    codebook_size: int
    context_frames: int  # one decoded frame depends on this many frames each side

    @property
    def frame_rate(self) -> float:
        return self.sample_rate / self.hop_length

    @abstractmethod
    def encode(self, waveform: Tensor) -> Tensor:
        """waveform [B, N] -> codes int64 [B, K, T], T = ceil(N / hop_length)."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """codes [B, K', T] with 1 <= K' <= K -> waveform [B, T * hop_length]."""


def compand(spectrum: Tensor) -> Tensor:
    return spectrum.sign() * spectrum.abs().pow(COMPANDING)


def expand(companded: Tensor) -> Tensor:
    return companded * (companded.square() + 1e-7).pow((1 / COMPANDING - 1) / 2)


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
        self.hop_length = bins = config.hop_length
        self.num_codebooks = config.num_codebooks
        self.codebook_size = config.codebook_size
        self.context_frames = config.decoder_layers * (config.kernel_size // 2) + 1
        self.mdct = MDCT(bins)
        self.encoder_linear = nn.Linear(bins, config.latent_dim)
        self.encoder_in = nn.Linear(2 * bins, config.encoder_dim)
        self.encoder = _stack(config.encoder_dim, config.encoder_layers, config.kernel_size)
        self.encoder_out = nn.Linear(config.encoder_dim, config.latent_dim)
        self.quantizer = ResidualVectorQuantizer(
            config.num_codebooks, config.codebook_size, config.latent_dim
        )
        self.decoder_linear = nn.Linear(config.latent_dim, bins)
        self.decoder_in = nn.Linear(config.latent_dim, config.decoder_dim)
        self.decoder = _stack(config.decoder_dim, config.decoder_layers, config.kernel_size)
        self.decoder_out = nn.Linear(config.decoder_dim, bins)
        for layer in (self.encoder_out, self.decoder_out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def analyze(self, waveform: Tensor) -> Tensor:
        """waveform [B, N] -> latents [B, T, D] before quantization."""
        cosine, sine = self.mdct(waveform)
        companded = compand(cosine)
        magnitude = torch.log(cosine.square() + sine.square() + 1e-6)
        hidden = self.encoder_in(torch.cat([companded, magnitude], -1))
        latents: Tensor = self.encoder_linear(companded) + self.encoder_out(self.encoder(hidden))
        return latents

    def synthesize(self, latents: Tensor) -> Tensor:
        """latents [B, T, D] -> waveform [B, T * hop_length]."""
        hidden = self.decoder_out(self.decoder(self.decoder_in(latents)))
        companded = (self.decoder_linear(latents) + hidden).float()
        return self.mdct.inverse(expand(companded))

    def encode(self, waveform: Tensor) -> Tensor:
        return self.quantizer.encode(self.analyze(waveform))

    def decode(self, codes: Tensor) -> Tensor:
        return self.synthesize(self.quantizer.decode(codes))
