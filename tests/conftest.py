"""What many tests need: made-up clips, and a tiny bundle with seeded random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import torch

from model.bundle import KINDS, BundleInfo, save_bundle
from model.config import PRESETS

Samples = npt.NDArray[np.float32]
WriteClip = Callable[..., Path]


def pytest_configure() -> None:
    """Tests run one process per core; the benchmarks, which import this file too, use all of them."""
    torch.set_num_threads(1)


def chord(seconds: float, rate: int = 16_000, *, level: float = 0.3) -> Samples:
    """A decaying, slowly beating chord with a little noise: something a prompt could be. [N]"""
    time = np.arange(round(seconds * rate)) / rate
    rng = np.random.default_rng(0)
    tones = sum(np.sin(2 * np.pi * f * time) / (i + 1) for i, f in enumerate((220.0, 277.2, 331.0)))
    pulse = 0.4 + 0.6 * np.exp(-4 * (time % 0.5))
    noise = 0.01 * rng.standard_normal(len(time))
    return (level * (pulse * tones / 1.8 + noise)).astype(np.float32)


@pytest.fixture
def write_clip(tmp_path: Path) -> WriteClip:
    """write_clip(name, samples, rate, subtype) -> path of a sound file in the format of the name's suffix."""

    def write(name: str, samples: Samples, rate: int = 16_000, subtype: str | None = None) -> Path:
        path = tmp_path / name
        with soundfile.SoundFile(path, "w", rate, samples[0].size, subtype) as sound:
            sound.write(samples)
        return path

    return write


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the preset `tiny` whose weights are random but always the same. Read it; do not change it."""
    preset = PRESETS["tiny"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = {kind.part: kind.build(getattr(preset, kind.part)) for kind in KINDS}
    path = tmp_path_factory.mktemp("bundles") / "tiny"
    info = BundleInfo("tiny", "0", preset.max_prompt_seconds, preset.temperatures, {"data": "none"})
    save_bundle(path, parts, info, card="# tiny\n\nRandom weights, for tests.\n")
    return path
