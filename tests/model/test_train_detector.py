"""The detector's training from end to end, with tiny random parts and made-up recordings."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file

from model.bundle import KINDS
from model.config import PRESETS
from model.detector import Detector
from model.errors import TrainingError
from model.training import train_detector
from model.training.data import MANIFEST_COLUMNS, AudioStore
from model.training.frozen import load_part
from model.training.loop import TrainingOptions
from model.training.take_maker import TakeMaker
from model.training.takes import Samples
from tests.conftest import chord

PRESET = PRESETS["tiny"]
SPLITS = ("train", "train", "train", "valid", "test")


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> TrainingOptions:
    """A run whose parts before the detector are there, and a corpus of five speakers."""
    root = tmp_path_factory.mktemp("detector")
    corpus = root / "corpus"
    corpus.mkdir()
    rows = []
    for number, split in enumerate(SPLITS):
        samples = chord(5.0, 12_000 + 900 * number)
        soundfile.write(corpus / f"{number}.wav", samples, 16_000)
        kind = "piano" if number == 2 else "speech"
        rows.append((f"{number}.wav", kind, f"s{number}", split, len(samples) / 16_000, "CC0-1.0", "test"))
    with open(corpus / "manifest.csv", "w", newline="") as file:
        csv.writer(file).writerows([MANIFEST_COLUMNS, *rows])
    run = root / "run"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for kind in KINDS:
            if kind.part == "detector":
                continue
            module = kind.build(getattr(PRESET, kind.part))
            (run / kind.part).mkdir(parents=True)
            (run / kind.part / "config.json").write_text(json.dumps(getattr(PRESET, kind.part).to_dict()))
            state = {name: value.contiguous() for name, value in module.state_dict().items()}
            save_file(state, run / kind.part / "model.safetensors")
    return TrainingOptions("tiny", (corpus,), run, minutes=0.02, device="cpu", batch=3, seed=1)


def test_from_trained_parts_to_a_calibrated_detector(
    options: TrainingOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    report = train_detector.train(options)
    assert report.steps >= 1 and "detector: " in capsys.readouterr().out
    assert (
        report.measures["windows continued"] >= 3
    )  # a batch of three takes of three windows, less the silent
    assert report.measures["accuracy against codec, low"] <= report.measures["accuracy against codec"]
    assert 0 <= report.measures["AUC after opus_24k"] <= 1
    detector = load_part(options.out, "detector")
    assert isinstance(detector, Detector)
    assert detector.calibration.tolist() != [1.0, 0.0]
    points = detector.config.operating_points
    assert [point.bucket for point in points][:2] == ["1-2 s", "2-3 s"]
    assert all(point.threshold >= 0.5 and point.clips > 0 for point in points)
    with pytest.raises(TrainingError, match="--resume"):
        train_detector.train(options)


def test_takes_are_made_once_from_recordings_of_their_own_split(options: TrainingOptions) -> None:
    maker = TakeMaker.load(options)
    audio = {
        split: AudioStore.build(options.data, options.out / "cache", split) for split in train_detector.SPLITS
    }
    stores = maker.stores(options.out / "cache", train_detector.SPLITS)
    maker.fill(stores, audio, seconds=0.0, minutes=0.0)
    for split, store in stores.items():
        speakers = {recording.speaker for recording in audio[split].files}
        assert {take.speaker for take in store.takes} <= speakers
        assert {take.origin for take in store.takes} >= {"continued", "codec"}
        assert all(take.num_samples == 48_000 for take in store.takes if take.origin != "codec")
        assert split == "train" or {take.temperature for take in store.takes} == {1.0}
    counts = {split: len(store.takes) for split, store in stores.items()}
    maker.fill(stores, audio, seconds=0.0, minutes=0.0)
    assert {split: len(store.takes) for split, store in stores.items()} == counts


def test_half_of_the_training_takes_are_marked_whatever_their_origin(options: TrainingOptions) -> None:
    def marker(waveform: Samples, rng: np.random.Generator) -> Samples:
        return np.full_like(waveform, 0.25)

    maker = TakeMaker.load(options, marker)
    audio = AudioStore.build(options.data, options.out / "cache", "train")
    for origin in ("continued", "fine", "codec"):
        made = maker.make(origin, audio, np.random.default_rng(0), training=True)
        assert [take.marked for take, _ in made] == [False, True, False]
        assert [bool((sound == 0.25).all()) for _, sound in made] == [False, True, False]
        measured = maker.make(origin, audio, np.random.default_rng(0), training=False)
        assert not any(take.marked for take, _ in measured)


def test_a_continuation_is_the_one_the_service_makes(options: TrainingOptions) -> None:
    """Row by row the same tokens and sound as `AudioLM.continue_clip` with the take's seed."""
    from model.audiolm import GenerationSettings

    maker = TakeMaker.load(options)
    audio = AudioStore.build(options.data, options.out / "cache", "train")
    keys = {recording.key: index for index, recording in enumerate(audio.files)}
    take, sound = maker.make("continued", audio, np.random.default_rng(2), training=False)[0]
    prompt = audio.waveform(keys[take.key])[take.start : take.start + take.prompt_samples]
    settings = GenerationSettings(seconds=3.0, seed=take.seed)
    (whole,) = maker.model.continue_clip(torch.from_numpy(prompt), settings)
    np.testing.assert_allclose(whole.waveform[take.prompt_samples :].numpy(), sound, atol=1e-4)


def test_a_speaker_in_two_splits_is_refused(options: TrainingOptions, tmp_path: Path) -> None:
    leaky = tmp_path / "leaky"
    leaky.mkdir()
    with open(options.data[0] / "manifest.csv", newline="") as file:
        rows = list(csv.reader(file))
    for row in rows[1:]:
        (leaky / row[0]).write_bytes((options.data[0] / row[0]).read_bytes())
    rows[-1][2] = rows[1][2]
    with open(leaky / "manifest.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    with pytest.raises(TrainingError, match="'s0' is in the splits 'train' and 'test'"):
        train_detector.train(replace(options, data=(leaky,), out=tmp_path / "run"))
