"""Semantic tokens: what is said or played, at 25 per second, with as little as possible of who and how loud.

Decisions held here:
- log-mel (80 bands, 100 Hz) -> 4x strided convolution -> Conformer layers (arXiv 2005.08100) -> normalization of every
  dimension -> nearest of `num_clusters` centroids. Trained by masked prediction (train_tokenizer.py); only the layers
  up to the clustered one live here.
- What is clustered is narrower than the layers' output: what phones and notes are named from (`bottleneck_dim`).
- Beside it stands how likely something begins within the 40 ms of a token, a note or a vowel (`onset_weight`): clusters
  of the output alone say which notes sound but drop when they were struck, and so a prompt's tempo.
- A clip is scaled to unit power first, so gain never changes a token.
- Attention sees a bounded stretch of past and little future, and every layer normalizes within a frame (torchaudio's
  Conformer normalizes over batches and lets padding leak through its convolutions). So a row's tokens depend neither
  on the batch nor on its padding, a long clip can be cut into windows with the same result, and the last frames of a
  prompt get nearly the tokens that they would get inside a longer recording.

Knows nothing of training, codec or language models.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from model.config import SAMPLE_RATE, TokenizerConfig

MELS_PER_TOKEN = 4
N_FFT = 512
LOG_FLOOR = 1e-3  # about 50 dB under the mean mel power of a clip of unit power
MIN_RMS = 1e-5  # under this a clip counts as silent and is not scaled up further
ONSET_RISE = 0.9  # nats in 10 ms whose strength is one half: held notes rise by 0.25, struck ones by 1
WINDOW_FRAMES = 750  # 30 s: longer clips are encoded in windows, to bound memory


class SemanticTokenizer(nn.Module, ABC):
    """Waveform -> one token per `hop_length` samples."""

    sample_rate: int
    hop_length: int
    num_clusters: int

    @property
    def frame_rate(self) -> float:
        """Tokens per second."""
        return self.sample_rate / self.hop_length

    def num_frames(self, num_samples: int) -> int:
        """Tokens of `num_samples` samples: ceil(N / hop_length)."""
        return -(-num_samples // self.hop_length)

    @property
    def struck(self) -> Tensor:
        """Which tokens begin a note or a syllable, bool [num_clusters]; none where that is not known."""
        return torch.zeros(self.num_clusters, dtype=torch.bool)

    @abstractmethod
    def features(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """waveform [B, N], samples per row [B] (default: all) -> normalized features [B, S, D] before clustering."""

    @abstractmethod
    def encode(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """waveform [B, N], samples per row [B] (default: all) -> tokens int64 [B, S], S = ceil(N / hop_length).

        Tokens past ceil(length / hop_length) of a row mean nothing.
        """


class LogMel(nn.Module):
    """Waveform [B, N], N a multiple of `hop_length` -> natural log of mel power [B, N / hop_length, n_mels]."""

    def __init__(self, n_mels: int, hop_length: int) -> None:
        super().__init__()
        self.hop_length = hop_length
        self.window: Tensor
        self.filters: Tensor
        self.register_buffer("window", torch.hann_window(400), persistent=False)
        filters = melscale_fbanks(N_FFT // 2 + 1, 20.0, SAMPLE_RATE / 2, n_mels, SAMPLE_RATE)
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        side = (N_FFT - self.hop_length) // 2  # frame i is centered on samples i * hop .. (i + 1) * hop
        padded = F.pad(waveform, (side, side))
        spectrum = torch.stft(
            padded, N_FFT, self.hop_length, 400, self.window, center=False, return_complex=True
        )  # (B, F, T)
        power = spectrum.real.square() + spectrum.imag.square()
        return torch.log(power.transpose(1, 2) @ self.filters + LOG_FLOOR)  # (B, T, n_mels)


def onset_strength(mel: Tensor) -> Tensor:
    """Log-mel [B, 4 * S, n_mels] -> how sharply the sound rises within each token, [B, S, 1] from 0 to below 1.

    The largest rise over 10 ms, in which falling bands count nothing: a note struck while another dies away is heard.
    Bent, so that the flicker of held sounds lies near 0 and whatever is struck near 1: few clusters are spent on it.
    """
    rise = mel.diff(dim=1, prepend=mel[:, :1]).clamp(min=0).mean(2)  # (B, 4 * S)
    power = rise.view(mel.shape[0], -1, MELS_PER_TOKEN).amax(2, keepdim=True).square()
    return power / (power + ONSET_RISE**2)


class FeedForward(nn.Sequential):
    """Pre-normalized two-layer network on [B, T, C]."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__(nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.SiLU(), nn.Linear(hidden, dim))


class BandedAttention(nn.Module):
    """Self-attention on [B, T, C] under a mask that broadcasts to [B, 1, T, T]."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        batch, length, dim = x.shape
        qkv = self.qkv(self.norm(x)).view(batch, length, 3, self.num_heads, dim // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, H, T, C / H)
        # Written out: on CPU the backward pass of the fused kernel takes three times as long at these lengths.
        score = (q * (dim // self.num_heads) ** -0.5) @ k.transpose(-1, -2)  # (B, H, T, T)
        y = score.masked_fill(~mask, -1e4).softmax(-1).to(v.dtype) @ v
        return self.out(y.transpose(1, 2).reshape(batch, length, dim))  # type: ignore[no-any-return]


class ConvolutionModule(nn.Module):
    """Gated depthwise convolution over time on [B, T, C]; `valid` [B, T, 1] keeps padding out of it."""

    def __init__(self, dim: int, kernel_size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.gate = nn.Linear(dim, 2 * dim)
        self.depthwise = nn.Conv1d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.norm_out = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        y = F.glu(self.gate(self.norm(x)), dim=-1)
        if valid is not None:
            y = y * valid
        y = self.depthwise(y.transpose(1, 2)).transpose(1, 2)
        return self.out(F.silu(self.norm_out(y)))  # type: ignore[no-any-return]


class ConformerLayer(nn.Module):
    """Half feed-forward, attention, convolution, half feed-forward, norm (arXiv 2005.08100, figure 1)."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.feed_in = FeedForward(config.encoder_dim, config.ffn_dim)
        self.attention = BandedAttention(config.encoder_dim, config.num_heads)
        self.convolution = ConvolutionModule(config.encoder_dim, config.conv_kernel)
        self.feed_out = FeedForward(config.encoder_dim, config.ffn_dim)
        self.norm = nn.LayerNorm(config.encoder_dim)

    def forward(self, x: Tensor, mask: Tensor, valid: Tensor | None) -> Tensor:
        x = x + 0.5 * self.feed_in(x)
        x = x + self.attention(x, mask)
        x = x + self.convolution(x, valid)
        x = x + 0.5 * self.feed_out(x)
        return self.norm(x)  # type: ignore[no-any-return]


class ConformerTokenizer(SemanticTokenizer):
    """See the module's docstring."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        assert config.hop_length % MELS_PER_TOKEN == 0 and config.conv_kernel % 2 == 1
        self.config = config
        self.sample_rate = SAMPLE_RATE
        self.hop_length = config.hop_length
        self.num_clusters = config.num_clusters
        dim = config.encoder_dim
        self.log_mel = LogMel(config.n_mels, config.hop_length // MELS_PER_TOKEN)
        halvings = (nn.Conv1d(width, dim, 4, stride=2, padding=1) for width in (config.n_mels, dim))
        self.subsample = nn.ModuleList(halvings)
        self.subsample_norm = nn.LayerNorm(dim)
        self.layers = nn.ModuleList([ConformerLayer(config) for _ in range(config.num_layers)])
        if config.hears_strokes:
            self.stroke = nn.Linear(dim, 1)
        if config.bottleneck_dim:
            self.bottleneck = nn.Linear(dim, config.bottleneck_dim)
        self.mel_mean: Tensor
        self.mel_std: Tensor
        self.feature_mean: Tensor
        self.feature_std: Tensor
        self.centroids: Tensor
        self.register_buffer("mel_mean", torch.zeros(config.n_mels))
        self.register_buffer("mel_std", torch.ones(config.n_mels))
        clustered = (config.bottleneck_dim or dim) + (config.onset_weight > 0)  # the last: how struck
        self.register_buffer("feature_mean", torch.zeros(clustered))
        self.register_buffer("feature_std", torch.ones(clustered))
        self.register_buffer("centroids", torch.randn(config.num_clusters, clustered))

    @property
    def context(self) -> tuple[int, int]:
        """Frames before and after a frame on which its features can depend."""
        kernel, layers = self.config.conv_kernel // 2, self.config.num_layers
        left, right = (side + kernel for side in (self.config.left_context, self.config.right_context))
        return layers * left + 2, layers * right + 2

    @property
    def struck(self) -> Tensor:
        if self.config.onset_weight == 0:
            return super().struck
        return self.centroids[:, -1] * self.feature_std[-1] + self.feature_mean[-1] > 0.5

    # -- the parts of `features`, which training composes in its own way ---------------------------------------

    def mel(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """waveform [B, N] -> log-mel [B, 4 * S, n_mels] of the clip at unit power, before `normalize_mel`."""
        num_samples = waveform.shape[1]
        if lengths is None:
            power = waveform.square().mean(1)
        else:
            inside = torch.arange(num_samples, device=waveform.device) < lengths[:, None]
            waveform = torch.where(inside, waveform, 0.0)
            power = waveform.square().sum(1) / lengths.clamp(min=1)
        waveform = waveform / power.sqrt().clamp(min=MIN_RMS)[:, None]
        waveform = F.pad(waveform, (0, self.num_frames(num_samples) * self.hop_length - num_samples))
        return self.log_mel(waveform)  # type: ignore[no-any-return]

    def normalize_mel(self, mel: Tensor) -> Tensor:
        """Every band to mean 0 and deviation 1 over the training corpus."""
        return (mel - self.mel_mean) / self.mel_std

    def embed(self, mel: Tensor, frames: Tensor | None = None) -> Tensor:
        """Normalized mel [B, 4 * S, n_mels], frames per row [B] -> [B, S, D]."""
        x = mel.transpose(1, 2)  # (B, n_mels, 4 * S)
        for stride, convolution in zip((4, 2), self.subsample, strict=True):
            if frames is not None:
                steps = torch.arange(x.shape[2], device=x.device)
                x = x * (steps < stride * frames[:, None])[:, None]
            x = F.gelu(convolution(x))
        return self.subsample_norm(x.transpose(1, 2))  # type: ignore[no-any-return]

    def masks(self, length: int, frames: Tensor | None, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Attention mask [1 or B, 1, S, S] and valid frames [B, S, 1] (None: all) of rows of `frames` frames."""
        position = torch.arange(length, device=device)
        distance = position[None, :] - position[:, None]  # key minus query
        band = (distance >= -self.config.left_context) & (distance <= self.config.right_context)
        if frames is None:
            return band[None, None], None
        valid = position < frames[:, None]  # (B, S)
        mask = band & valid[:, None, :] | torch.eye(length, dtype=torch.bool, device=device)
        return mask[:, None], valid[:, :, None]

    def hidden(self, mel: Tensor, frames: Tensor | None = None) -> Tensor:
        """Normalized mel [B, 4 * S, n_mels] -> output of the last layer [B, S, D]."""
        x = self.embed(mel, frames)
        mask, valid = self.masks(x.shape[1], frames, x.device)
        for layer in self.layers:
            x = layer(x, mask, valid)
        return x

    def narrow(self, hidden: Tensor) -> Tensor:
        """Output of the last layer [.., D] -> what is clustered, [.., bottleneck_dim or D]."""
        if not self.config.bottleneck_dim:
            return hidden
        return F.layer_norm(self.bottleneck(hidden), (self.config.bottleneck_dim,))

    # -- use ---------------------------------------------------------------------------------------------------

    def features(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        # tokens must not depend on the caller's precision
        with torch.autocast(waveform.device.type, enabled=False):
            heard = self.mel(waveform.float(), lengths)
            mel = self.normalize_mel(heard)
            frames = None if lengths is None else -(-lengths // self.hop_length)
            total = mel.shape[1] // MELS_PER_TOKEN
            left, right = self.context
            pieces = []
            for start in range(0, max(total, 1), WINDOW_FRAMES):
                stop = min(start + WINDOW_FRAMES, total)
                first, last = max(0, start - left), min(total, stop + right)
                inside = None if frames is None else (frames - first).clamp(0, last - first)
                x = self.hidden(mel[:, MELS_PER_TOKEN * first : MELS_PER_TOKEN * last], inside)
                pieces.append(x[:, start - first : stop - first])
            hidden = torch.cat(pieces, 1)
            features = self.narrow(hidden)
            if self.config.onset_weight > 0:
                learnt = self.config.hears_strokes
                struck = self.stroke(hidden).sigmoid() if learnt else onset_strength(heard)
                features = torch.cat([features, struck], -1)
            return (features - self.feature_mean) / self.feature_std

    @torch.no_grad()
    def encode(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.assign(self.features(waveform, lengths))

    def assign(self, features: Tensor) -> Tensor:
        """features [B, S, D] -> index of the nearest centroid [B, S]."""
        with torch.autocast(features.device.type, enabled=False):
            return (features @ self.centroids.T - 0.5 * self.centroids.square().sum(1)).argmax(-1)
