"""How fast sound is marked, searched for marks and judged by the detector, and what POST /detect takes for a minute.

The detector is the bundle's; where a bundle has none, one of the same size with random weights, which is as fast.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import httpx
import numpy as np
import soundfile
import torch

from model.audiolm import AudioLM
from model.config import PRESETS, SAMPLE_RATE
from model.detector import Detector
from model.watermark import WatermarkKey, embed, find
from tests.benchmarks.timing import Clock, Spread, take_turns
from tests.conftest import Samples, chord

START_SECONDS = 120.0
KEY = WatermarkKey(bytes(range(32)))
PAYLOAD = 4711


@torch.inference_mode()
def measure(
    model: AudioLM,
    system: str,
    device: torch.device,
    clock: Clock,
    *,
    seconds: float,
    repeats: int,
    budget_seconds: float,
) -> list[dict[str, Any]]:
    """One row per kind of work, over a clip of `seconds`."""
    clip = chord(seconds)
    marked = embed(clip, KEY, PAYLOAD)
    detector = getattr(model, "detector", None)
    if not isinstance(detector, Detector):
        detector = Detector(PRESETS.get(system, PRESETS["starter"]).detector).to(device).eval()
    windows, _ = detector.windows_of(clip)
    rows = 1 if device.type == "cpu" else 8  # as the engine runs them

    def judge() -> None:
        for first in range(0, len(windows), rows):
            detector.judge(windows[first : first + rows])

    works: dict[str, Callable[[], object]] = {
        f"detector, {len(windows)} windows, {rows} at a time": judge,
        "watermark, embed": lambda: embed(clip, KEY, PAYLOAD),
        "watermark, find in marked sound": lambda: find(marked, [KEY]),
        "watermark, find in unmarked sound": lambda: find(clip, [KEY]),
    }
    spreads = take_turns(works, repeats, clock, device, budget_seconds)
    return [
        {
            "system": system,
            "device": device.type if name.startswith("detector") else "cpu",
            "work": name,
            "seconds": seconds,
            "run_seconds": asdict(spread),
            "spread": spread.width,
            "times_real_time": seconds / spread.median,
        }
        for name, spread in spreads.items()
    ]


def measure_route(seconds: float, repeats: int) -> dict[str, Any]:
    """Wall-clock time of POST /detect for a WAV of `seconds`, from `audiolm serve` with the shipped bundle."""
    row: dict[str, Any] = {"system": "shipped", "work": "POST /detect, every layer", "seconds": seconds}
    body = _wav(chord(seconds))
    try:
        with _service() as http:
            taken = []
            for _ in range(repeats + 1):
                started = time.perf_counter()
                answer = http.post("/detect", content=body, headers={"Content-Type": "audio/wav"})
                taken.append(time.perf_counter() - started)
                answer.raise_for_status()
    except (httpx.HTTPError, RuntimeError) as error:
        return row | {"failed": f"{type(error).__name__}: {error}".splitlines()[0]}
    spread = Spread.of(taken[1:])
    return row | {
        "device": "as served",
        "run_seconds": asdict(spread),
        "spread": spread.width,
        "times_real_time": seconds / spread.median,
    }


@contextmanager
def _service() -> Iterator[httpx.Client]:
    """A ready `audiolm serve` of its own, in an empty folder, and a client for it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "service.cli", "serve", "--port", "0"]
        environment = os.environ | {"PYTHONPATH": os.getcwd(), "AUDIOLM_DATA_DIR": folder}
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            assert process.stdout is not None
            said: list[str] = []
            address = None
            for line in process.stdout:
                said.append(line)
                if found := re.search(r"http://localhost:\d+", line):
                    address = found[0]
                    break
            if address is None:
                raise RuntimeError(f"the service did not start: {''.join(said[-1:]).strip()}")
            with httpx.Client(base_url=address, timeout=120) as http:
                end = time.monotonic() + START_SECONDS
                while http.get("/readyz").status_code != 200:
                    if time.monotonic() > end or process.poll() is not None:
                        raise RuntimeError("the service did not become ready")
                    time.sleep(0.2)
                yield http
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wav(samples: Samples) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.asarray(samples), SAMPLE_RATE, format="WAV")
    return file.getvalue()
