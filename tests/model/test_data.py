"""What training reads: the right samples, shares that follow weights, tokens found by file and not by order."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from model.errors import TrainingError
from model.training.data import MANIFEST_COLUMNS, AudioStore, TokenStore


def corpus(folder: Path, levels: dict[str, float], *, rate: int = 16_000, split: str = "train") -> Path:
    """A corpus of constant files: their level tells which one a sample came from."""
    folder.mkdir()
    with open(folder / "manifest.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(MANIFEST_COLUMNS)
        for name, level in levels.items():
            soundfile.write(folder / name, np.full(rate, level), rate)
            writer.writerow([name, "speech", "someone", split, "1.0", "CC0", "test"])
    return folder


def test_crops_come_from_the_corpora_by_weight(tmp_path: Path) -> None:
    folders = [corpus(tmp_path / "a", {"x.wav": 0.1}), corpus(tmp_path / "b", {"y.wav": 0.5})]
    store = AudioStore.build(folders, tmp_path / "cache", "train")
    crops = store.crops(np.random.default_rng(0), 400, 0.5, {"a": 3.0, "b": 1.0})
    share = float((crops[:, 0] < 0.3).float().mean())
    assert crops.shape == (400, 8000)
    assert abs(share - 0.75) < 0.08
    assert not (store.crops(np.random.default_rng(0), 50, 0.5, {"a": 1.0})[:, 0] > 0.3).any()


def test_a_corpus_is_drawn_as_many_times_as_often_as_asked(tmp_path: Path) -> None:
    folders = [corpus(tmp_path / "a", {"x.wav": 0.1}), corpus(tmp_path / "b", {"y.wav": 0.5})]
    store = AudioStore.build(folders, tmp_path / "cache", "train", {"a": 3.0})
    crops = store.crops(np.random.default_rng(0), 400, 0.5)
    assert abs(float((crops[:, 0] < 0.3).float().mean()) - 0.75) < 0.08


def test_short_recordings_are_padded_and_never_run_into_the_next(tmp_path: Path) -> None:
    store = AudioStore.build(
        [corpus(tmp_path / "a", {"x.wav": 0.1, "y.wav": 0.5})], tmp_path / "cache", "train"
    )
    for crop in store.crops(np.random.default_rng(0), 20, 1.5):
        assert len(np.unique(crop[:16_000].round(decimals=2))) == 1
        assert float(crop[16_000:].abs().max()) == 0


def test_other_rates_are_resampled_and_splits_kept_apart(tmp_path: Path) -> None:
    corpus(tmp_path / "a", {"x.wav": 0.1}, rate=8000, split="test")
    store = AudioStore.build([tmp_path / "a"], tmp_path / "cache", "test")
    assert store.files[0].num_samples == 16_000
    with pytest.raises(TrainingError, match="split 'train'"):
        AudioStore.build([tmp_path / "a"], tmp_path / "cache", "train")


def test_a_changed_corpus_is_decoded_again(tmp_path: Path) -> None:
    corpus(tmp_path / "a", {"x.wav": 0.1})
    AudioStore.build([tmp_path / "a"], tmp_path / "cache", "train")
    corpus(tmp_path / "b", {"y.wav": 0.5})
    store = AudioStore.build([tmp_path / "a", tmp_path / "b"], tmp_path / "cache", "train")
    assert [f.key for f in store.files] == ["a/x.wav", "b/y.wav"]
    assert store.waveform(1)[0] == pytest.approx(0.5, abs=1e-3)


def test_tokens_are_found_by_file_and_only_new_ones_are_made(tmp_path: Path) -> None:
    corpus(tmp_path / "a", {"x.wav": 0.1})
    calls: list[float] = []

    def encode(waveform: np.ndarray) -> np.ndarray:
        calls.append(float(waveform[0]))
        return np.full((2, 3), round(100 * waveform[0]))

    first = AudioStore.build([tmp_path / "a"], tmp_path / "cache", "train")
    TokenStore.build(tmp_path / "tokens.json", first, "v1", encode)
    corpus(tmp_path / "b", {"y.wav": 0.5})
    grown = AudioStore.build([tmp_path / "b", tmp_path / "a"], tmp_path / "cache", "train")
    tokens = TokenStore.build(tmp_path / "tokens.json", grown, "v1", encode)
    assert len(calls) == 2
    assert tokens.tokens("a/x.wav").tolist() == [[10] * 3] * 2
    assert tokens.tokens("b/y.wav").tolist() == [[50] * 3] * 2
    TokenStore.build(tmp_path / "tokens.json", grown, "v2", encode)
    assert len(calls) == 4  # other weights: all again


def test_missing_manifests_and_tokens_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="audiolm corpus"):
        AudioStore.build([tmp_path], tmp_path / "cache", "train")
    with pytest.raises(TrainingError, match="cache"):
        TokenStore.open(tmp_path / "tokens.json")
