"""The detector's network: shapes, what it must not hear, calibration, and its place in bundles and engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.audiolm import AudioLM
from model.bundle import CARD, load_bundle, read_manifest, save_bundle
from model.config import PRESETS, DetectorConfig, OperatingPoint
from model.detector import JUDGED_TOGETHER, Detector
from model.engine.loading import DETECT, load_engine
from model.errors import ConfigError
from tests.conftest import chord

POINT = OperatingPoint("3-5 s", 3.0, 0.9, 0.001, 0.003, 3000, 0.97)


@pytest.fixture
def detector() -> Detector:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Detector(PRESETS["tiny"].detector).eval()


def windows(count: int, samples: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    bursts = torch.rand(count, samples // 400 + 1, generator=generator).repeat_interleave(400, 1)[:, :samples]
    return 0.1 * bursts * torch.randn(count, samples, generator=generator)


def test_windows_of_any_length_get_one_logit_each(detector: Detector) -> None:
    for samples in (700, 16_000, 48_000):
        assert detector(windows(3, samples)).shape == (3,)


def test_a_windows_logit_does_not_depend_on_its_company(detector: Detector) -> None:
    batch = windows(5, 16_000)
    alone = torch.cat([detector(row[None]) for row in batch])
    torch.testing.assert_close(detector(batch), alone, atol=1e-4, rtol=1e-4)


def test_loudness_and_a_microphones_color_are_not_heard(detector: Detector) -> None:
    batch = windows(4, 48_000)
    torch.testing.assert_close(detector(0.01 * batch), detector(batch), atol=1e-3, rtol=1e-3)
    colored = detector.spectrogram(torch.from_numpy(np.asarray(chord(3.0)))[None])
    assert float(colored.mean(2).abs().max()) < 1e-4


def test_silence_is_no_evidence(detector: Detector) -> None:
    detector.calibrate(1.0, 5.0)
    assert detector.probabilities(torch.zeros(2, 48_000)).tolist() == [0.0, 0.0]
    assert float(detector.probabilities(windows(1, 48_000))) > 0.5


def test_probabilities_grow_with_logits(detector: Detector) -> None:
    detector.calibrate(0.5, -1.0)
    batch = windows(6, 16_000)
    logits, probabilities = detector(batch), detector.probabilities(batch)
    assert logits.argsort().tolist() == probabilities.argsort().tolist()
    torch.testing.assert_close(probabilities, torch.sigmoid(0.5 * logits - 1.0))


def test_the_engines_function_judges_windows_as_the_detector_does(detector: Detector) -> None:
    batch = windows(JUDGED_TOGETHER + 3, 4_000)
    expected = detector.probabilities(batch).tolist()
    assert detector.judge(list(batch.numpy())) == pytest.approx(expected, abs=1e-5)


def test_operating_points_go_by_length(detector: Detector) -> None:
    detector.measured((POINT, replace(POINT, bucket="5-10 s", least_seconds=5.0)))
    assert detector.operating_point(2.9) is None
    assert detector.operating_point(4.0) == POINT
    found = detector.operating_point(600.0)
    assert found is not None and found.bucket == "5-10 s"


def test_config_goes_through_json_and_refuses_what_it_does_not_know() -> None:
    config = replace(PRESETS["starter"].detector, operating_points=(POINT,))
    assert DetectorConfig.from_dict(config.to_dict()) == config
    values = config.to_dict()
    values["operating_points"][0]["mood"] = "good"
    with pytest.raises(ConfigError, match="mood"):
        DetectorConfig.from_dict(values)


def test_a_bundle_keeps_the_detector_its_calibration_and_its_points(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = load_bundle(tiny_bundle)
    detector = bundle.parts["detector"]
    assert isinstance(detector, Detector)
    detector.calibrate(0.75, -1.5)
    detector.measured((POINT,))
    save_bundle(tmp_path / "with", bundle.parts, bundle.info, (tiny_bundle / CARD).read_text())
    again = AudioLM.load(tmp_path / "with").detector
    assert again is not None and again.config.operating_points == (POINT,)
    assert again.calibration.tolist() == [0.75, -1.5]
    batch = windows(2, 48_000)
    torch.testing.assert_close(again(batch), detector(batch), atol=0.05, rtol=0.01)  # stored in 16 bits


def test_a_bundle_without_a_detector_loads_and_says_so(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = load_bundle(tiny_bundle)
    del bundle.parts["detector"]
    save_bundle(tmp_path / "without", bundle.parts, bundle.info, "# without\n")
    assert "detector" not in read_manifest(tmp_path / "without").parts
    engine = load_engine(tmp_path / "without", slots=1, max_seconds=0.5)
    assert engine.runner.model.detector is None  # type: ignore[attr-defined]
    assert DETECT not in engine.runner.stages


def test_the_engine_has_a_share_for_a_bundles_detector(tiny_bundle: Path) -> None:
    engine = load_engine(tiny_bundle, slots=1, max_seconds=0.5)
    assert engine.runner.stages[DETECT].share == 0.25
