"""Codec quality: each depth of the codec against Opus, on the same clips, in the same run.

`evaluate_codec` measures one codec, `opus_rows` the yardstick. Knows waveforms and codes, not bundles or files.
Speech is judged by PESQ-WB, STOI and log-mel distance, piano by log-mel distance and chroma similarity (PESQ
and STOI are models of speech).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from model.codec import Codec
from model.evaluation import opus
from model.evaluation.spectral import (
    Waveform,
    chroma_similarity,
    intelligibility,
    log_mel_distance,
    pesq_wideband,
    si_sdr,
)

OPUS_RATES = (6.0, 9.0, 12.0)  # kbit/s; 6 is the codec's own rate at full depth

Metric = Callable[[Waveform, Waveform], float]
SPEECH_METRICS: dict[str, Metric] = {
    "pesq": pesq_wideband,
    "stoi": intelligibility,
    "log_mel": log_mel_distance,
    "si_sdr": si_sdr,
}
PIANO_METRICS: dict[str, Metric] = {
    "log_mel": log_mel_distance,
    "chroma": chroma_similarity,
    "si_sdr": si_sdr,
}


def metrics_for(kind: str) -> dict[str, Metric]:
    """The measures that mean something for `kind` ("speech", else music)."""
    return SPEECH_METRICS if kind == "speech" else PIANO_METRICS


def evaluate_codec(
    codec: Codec,
    clips: Sequence[Waveform],
    depths: Sequence[int] = (1, 2, 4, 8, 12),
    *,
    kind: str = "speech",
    name: str = "codec",
) -> dict[str, Any]:
    """Measure `codec` on `clips` (each [N] at 16 kHz), keeping the first K levels for every K in `depths`.

    Returns {"rows": [{"name", "depth", "kbps", "pesq", "stoi", "log_mel", "si_sdr"}, ...],
    "codebook_use": [share of codes seen, per level], "perplexity": [codes in effective use, per level],
    "frames": number of frames that use was counted over}. Means leave out clips a metric cannot judge.
    """
    codes = [encode_clip(codec, clip) for clip in clips]
    rows = []
    pairs = list(zip(codes, clips, strict=True))
    for depth in sorted({min(depth, codec.num_codebooks) for depth in depths}):
        decoded = [decode_clip(codec, code[:depth], len(clip)) for code, clip in pairs]
        kbps = depth * np.log2(codec.codebook_size) * codec.frame_rate / 1000
        rows.append({"name": name, "depth": depth, "kbps": float(kbps), **mean_metrics(clips, decoded, kind)})
    return {"rows": rows, **codebook_use(codes, codec.codebook_size)}


def codebook_use(codes: Sequence[torch.Tensor], codebook_size: int) -> dict[str, Any]:
    """Share of codes seen and codes in effective use, per level, in a list of codes [K, T]."""
    counts = count_codes(codes, codebook_size)
    return {
        "codebook_use": [float(share) for share in (counts > 0).mean(axis=1)],
        "perplexity": [float(value) for value in code_perplexity(counts)],
        "frames": int(counts[0].sum()),
    }


def opus_rows(
    clips: Sequence[Waveform], rates: Sequence[float] = OPUS_RATES, *, kind: str = "speech"
) -> tuple[list[dict[str, Any]], str | None]:
    """The same measures for Opus at `rates` kbit/s; ([], reason) where opus-tools is missing.

    `kbps` is the payload rate measured, not the one asked for.
    """
    reason = opus.missing_reason()
    if reason is not None:
        return [], reason
    rows = []
    for rate in rates:
        results = [opus.through_opus(clip, rate) for clip in clips]
        kbps = float(np.mean([result.kilobits_per_second for result in results]))
        measures = mean_metrics(clips, [result.waveform for result in results], kind)
        rows.append({"name": f"Opus {rate:g} kbit/s", "depth": None, "kbps": kbps, **measures})
    return rows, None


def mean_metrics(references: Sequence[Waveform], degraded: Sequence[Waveform], kind: str) -> dict[str, float]:
    """Mean of every metric of `kind` over pairs of clips; nan where no clip could be judged."""
    means = {}
    for name, metric in metrics_for(kind).items():
        scores = np.array([metric(clip, other) for clip, other in zip(references, degraded, strict=True)])
        judged = scores[~np.isnan(scores)]
        means[name] = float(judged.mean()) if judged.size else float("nan")
    return means


def encode_clip(codec: Codec, clip: Waveform) -> torch.Tensor:
    """Codes [K, T] of one clip [N]."""
    with torch.inference_mode():
        return codec.encode(torch.from_numpy(clip)[None])[0]


def decode_clip(codec: Codec, codes: torch.Tensor, length: int) -> Waveform:
    """Waveform [length] of codes [K', T]."""
    with torch.inference_mode():
        return codec.decode(codes[None])[0, :length].cpu().numpy()


def count_codes(codes: Sequence[torch.Tensor], codebook_size: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """How often each code occurs [K, codebook_size] in a list of codes [K, T]."""
    joined = torch.cat(list(codes), dim=1).cpu().numpy()  # (K, frames)
    return np.stack([np.bincount(level, minlength=codebook_size) for level in joined])


def code_perplexity(
    counts: np.ndarray[Any, np.dtype[np.int64]],
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """exp(entropy) of each row of `counts` [K, V]: how many codes an evenly used book of that entropy has."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    logs = np.log(shares, where=shares > 0, out=np.zeros_like(shares))
    return np.asarray(np.exp(-(shares * logs).sum(axis=1)))
