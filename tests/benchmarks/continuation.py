"""How fast a clip is continued in one process, where the time goes, and what memory speed would allow.

    python -m tests.benchmarks.continuation [--bundle DIR] [--seconds 10] [--repeats 3]

A decode step reads every weight of its stage once, so weight bytes x steps / memory bandwidth bounds the two
autoregressive stages from below, for one continuation at a time.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import sys
import time
from pathlib import Path

import torch

from model.audiolm import AudioLM, GenerationSettings
from model.bundle import SHIPPED, load_bundle
from model.errors import AudioLMError
from model.linear import PackedLinear
from tests.conftest import chord


def memory_bandwidth() -> float:
    """Bytes per second that one sum over 256 MiB reads; the best of five."""
    block = torch.ones(64 << 20)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        block.sum()
        seconds.append(time.perf_counter() - started)
    return block.nbytes / min(seconds)


def weight_bytes(bundle: Path) -> dict[str, int]:
    """Bytes that one decode step of each autoregressive stage reads."""
    size = 2 if PackedLinear.supported() else 4
    return {
        name: size * sum(p.numel() for p in part.parameters() if p.ndim == 2)
        for name, part in load_bundle(bundle).parts.items()
        if name in ("semantic", "coarse")
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.continuation")
    parser.add_argument("--bundle", type=Path, default=SHIPPED)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()

    audiolm = AudioLM.load(args.bundle)
    clip = torch.from_numpy(chord(10.0))
    audiolm.continue_clip(clip, GenerationSettings(seconds=1.0))
    runs = [
        audiolm.continue_clip(clip, GenerationSettings(seconds=args.seconds, seed=seed))[0].stage_seconds
        for seed in range(args.repeats)
    ]
    typical = {stage: statistics.median(run[stage] for run in runs) for stage in runs[0]}
    total = sum(typical.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    print(f"{audiolm.info.name} {audiolm.info.model_version}, {args.seconds:g} s, median of {args.repeats}")
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    print(f"real-time factor {total / args.seconds:.3f}, peak memory {peak:.2f} GiB\n")
    print("| stage | seconds | share | bound by memory |\n|---|---|---|---|")
    bandwidth, step_bytes = memory_bandwidth(), weight_bytes(args.bundle)
    frames = {"semantic": audiolm.tokenizer.frame_rate, "coarse": audiolm.codec.frame_rate}
    for stage, seconds in typical.items():
        bound = ""
        if stage in step_bytes:
            bound = f"{step_bytes[stage] * frames[stage] * args.seconds / bandwidth:.2f} s"
        print(f"| {stage} | {seconds:.2f} | {seconds / total:.0%} | {bound} |")
    print(f"\nmemory reads {bandwidth / 1e9:.1f} GB/s; ", end="")
    print(", ".join(f"a {stage} step {size / 2**20:.1f} MiB" for stage, size in step_bytes.items()))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except AudioLMError as error:
        sys.exit(f"bench: {error}")
