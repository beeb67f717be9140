"""What provenance adds to an answer: `python -m tests.benchmarks.marking [--seconds 5] [--rounds 50]`.

Marks, signs and enters the same answer again and again, in a data folder of its own, and prints the median time of
each layer; then how long the first sound of a stream is held back. On a machine that others keep busy the processor's
time says more than the clock's.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from model.config import SAMPLE_RATE
from service.answers import LiveAnswer, whole_answer
from service.encoding import encode
from service.layers import build_provenance
from service.provenance import Origin, Provenance
from service.settings import Settings

CHUNK_SECONDS = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=50)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    prompt, made = (
        (0.1 * rng.standard_normal(round(seconds * SAMPLE_RATE))).astype(np.float32)
        for seconds in (3.0, args.seconds)
    )
    origin = Origin(prompt, "benchmark", "0", 0, {}, 3.0, args.seconds)
    clip = encode(prompt, "wav")
    taken: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        provenance = build_provenance(Settings(data_dir=Path(folder)))
        for _ in range(args.rounds):
            for name, seconds in one_answer(provenance, origin, prompt, made, clip).items():
                taken[name].append(seconds)
        provenance.close()
    print(f"an answer of 3 s of clip and {args.seconds:g} s made, WAV; medians of {args.rounds}")
    for name, values in taken.items():
        print(f"{name:40} {1000 * statistics.median(values):8.1f} ms")


def one_answer(
    provenance: Provenance, origin: Origin, prompt: np.ndarray, made: np.ndarray, clip: bytes
) -> dict[str, float]:
    """Seconds of each step."""
    taken = {}
    started, processor = time.perf_counter(), time.process_time()
    generation = provenance.begin(origin)
    parent = provenance.describe_parent(clip, "wav")
    taken["before: ledger asked, clip described"] = time.perf_counter() - started
    middle = time.perf_counter()
    whole_answer(generation, prompt, made, "wav", 16, parent)
    marked, used = time.perf_counter() - middle, time.process_time() - processor
    middle, processor = time.perf_counter(), time.process_time()
    encode(np.concatenate([prompt, made]), "wav")
    unmarked, encoding = time.perf_counter() - middle, time.process_time() - processor
    taken |= {f"after: {layer}": seconds for layer, seconds in generation.seconds.items()}
    taken["added to a whole answer in all"] = (
        marked - unmarked + taken["before: ledger asked, clip described"]
    )
    taken["the same, of the processor"] = used - encoding
    generation = provenance.begin(origin)
    middle, processor = time.perf_counter(), time.process_time()
    generation.open()
    live = LiveAnswer(generation, prompt[:0], len(made), "pcm", 16)
    size = round(CHUNK_SECONDS * SAMPLE_RATE)
    first = live.piece(made[:size])
    taken["added before a stream's first sound"] = time.perf_counter() - middle
    taken["the same, of the processor "] = time.process_time() - processor
    for start in range(size, len(made), size):
        live.piece(made[start : start + size])
    assert first
    return taken


if __name__ == "__main__":
    main()
