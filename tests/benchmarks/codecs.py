"""Codecs: how fast sound becomes codes and codes become sound, ours beside EnCodec and DAC of `transformers`.

Random weights by configuration, nothing is downloaded. Two EnCodecs: as released (24 kHz, 75 frames per second,
8 levels), and its network at our rates (16 kHz, 50 frames per second, 12 levels). DAC at our rates, which are those of
its 16 kHz release.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from model.codec import Codec
from tests.benchmarks.timing import Clock, take_turns

LEVELS, CODES = 12, 1024


@dataclass(frozen=True)
class Contender:
    """encode and decode make the same seconds of sound each time."""

    name: str
    parameters: int
    encode: Callable[[], Any]
    decode: Callable[[], Any]


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters()) + sum(b.numel() for b in module.buffers())


def ours(name: str, codec: Codec, seconds: float, rows: int, device: torch.device) -> Contender:
    sound = _noise(rows, round(seconds * codec.sample_rate), device)
    codes = codec.encode(sound)
    return Contender(name, count(codec), lambda: codec.encode(sound), lambda: codec.decode(codes))


def encodec(seconds: float, rows: int, device: torch.device, rate: int) -> Contender:
    from transformers import EncodecConfig, EncodecModel

    kbits = {24_000: 6.0, 16_000: LEVELS * 10 * 50 / 1000}[rate]
    config = EncodecConfig(sampling_rate=rate, target_bandwidths=[kbits], audio_channels=1)
    model = EncodecModel(config).to(device).eval()
    sound = _noise(rows, round(seconds * rate), device)[:, None]
    encoded = model.encode(sound, bandwidth=kbits)
    levels = encoded.audio_codes.shape[2]
    return Contender(
        f"EnCodec, {rate // 1000} kHz, {levels} levels",
        count(model),
        lambda: model.encode(sound, bandwidth=kbits),
        lambda: model.decode(encoded.audio_codes, encoded.audio_scales),
    )


def dac(seconds: float, rows: int, device: torch.device) -> Contender:
    from transformers import DacConfig, DacModel

    config = DacConfig(
        sampling_rate=16_000,
        downsampling_ratios=[2, 4, 5, 8],
        upsampling_ratios=[8, 5, 4, 2],
        n_codebooks=LEVELS,
        codebook_size=CODES,
    )
    model = DacModel(config).to(device).eval()
    sound = _noise(rows, round(seconds * 16_000), device)[:, None]
    codes = model.encode(sound).audio_codes
    return Contender(
        f"DAC, 16 kHz, {LEVELS} levels",
        count(model),
        lambda: model.encode(sound),
        lambda: model.decode(audio_codes=codes),
    )


@torch.inference_mode()
def measure(
    name: str,
    codec: Codec,
    device: torch.device,
    clock: Clock,
    *,
    with_peers: bool,
    seconds: float,
    rows: int,
    repeats: int,
    budget_seconds: float,
) -> list[dict[str, Any]]:
    """Real-time factors of `rows` sounds of `seconds` at once; our `codec` comes first."""
    contenders = [ours(name, codec, seconds, rows, device)]
    missing: list[dict[str, Any]] = []
    builders: dict[str, Callable[[], Contender]] = {
        "EnCodec, 24 kHz": lambda: encodec(seconds, rows, device, 24_000),
        "EnCodec, 16 kHz": lambda: encodec(seconds, rows, device, 16_000),
        "DAC, 16 kHz": lambda: dac(seconds, rows, device),
    }
    for peer, builder in builders.items() if with_peers else ():
        try:
            contenders.append(builder())
        except ImportError as error:
            missing.append({"codec": peer, "device": device.type, "missing": str(error).splitlines()[0]})
    works = {(c.name, part): getattr(c, part) for c in contenders for part in ("encode", "decode")}
    spreads = take_turns(works, repeats, clock, device, budget_seconds)
    found = [
        {
            "codec": c.name,
            "device": device.type,
            "rows": rows,
            "seconds": seconds,
            "parameters": c.parameters,
            "encode_real_time_factor": spreads[c.name, "encode"].median / seconds / rows,
            "decode_real_time_factor": spreads[c.name, "decode"].median / seconds / rows,
            "encode_seconds": asdict(spreads[c.name, "encode"]),
            "decode_seconds": asdict(spreads[c.name, "decode"]),
        }
        for c in contenders
    ]
    totals = [r["encode_real_time_factor"] + r["decode_real_time_factor"] for r in found]
    for row, total in zip(found, totals, strict=True):
        row["times_ours"] = total / totals[0]
    return found + missing


def _noise(rows: int, samples: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (0.1 * torch.randn(rows, samples, generator=generator)).to(device)
