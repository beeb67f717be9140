"""Text, voices and what they say."""

from __future__ import annotations

import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from model.errors import TrainingError
from model.training.corpus.rendering import task_rng
from model.training.corpus.sentences import draw_text, read_passages, write_train_text
from model.training.corpus.speech import SpokenClip, plan_speech
from model.training.corpus.voices import VARIANTS, Voice, draw_voices
from model.training.corpus.waveform import frame_levels

SPLITS = ("train", "valid", "test")


@pytest.fixture
def passages(tmp_path: Path) -> dict[str, tuple[tuple[str, ...], ...]]:
    path = tmp_path / "sentences.txt"
    path.write_text("\n".join(f"This is the sentence with the number {n}, no more." for n in range(4000)))
    return read_passages(path)


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def test_no_sentence_is_in_two_splits(passages: dict[str, tuple[tuple[str, ...], ...]]) -> None:
    said = {split: {sentence for passage in passages[split] for sentence in passage} for split in SPLITS}
    assert sum(len(sentences) for sentences in said.values()) == 4000
    assert all(said.values())
    for one, other in combinations(SPLITS, 2):
        assert not said[one] & said[other]


def test_only_training_sentences_are_left_for_the_tokenizer(
    passages: dict[str, tuple[tuple[str, ...], ...]], tmp_path: Path
) -> None:
    write_train_text(passages, tmp_path / "corpus")
    left = set((tmp_path / "corpus" / "sentences.txt").read_text().splitlines())
    assert left == {sentence for passage in passages["train"] for sentence in passage}
    assert left.isdisjoint(sentence for passage in passages["test"] for sentence in passage)


def test_text_is_plain_and_markup_does_not_reach_an_engine(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("\u201cCaf\u00e9\u201d <break time='9s'/> it\u2019s\n\n   \n12 34\n", encoding="utf-8")
    (sentences,) = [passage for found in read_passages(path).values() for passage in found]
    assert sentences == ("\"Cafe\" break time='9s'/ it's",)


def test_text_is_consecutive_sentences_of_about_the_length() -> None:
    passage = tuple(f"Sentence {number:02d} has the same length." for number in range(40))
    rng = np.random.default_rng(0)
    for _ in range(20):
        text = draw_text(passage, 200.0, rng)
        assert text in " ".join(passage)
        assert len(text) <= 200


def test_a_file_without_sentences_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(TrainingError, match=r"empty\.txt"):
        read_passages(tmp_path / "empty.txt")


def test_voices_are_many_different_and_held_out_by_what_makes_them() -> None:
    voices = {
        split: draw_voices(split, 60 if split == "train" else 8, task_rng(1, split)) for split in SPLITS
    }
    assert len({voice.name for voice in voices["train"]}) == 60
    bases = {
        split: {voice.base.split("+")[-1] for voice in voices[split]} for split in SPLITS
    }  # the variant without its accent, or the flite voice
    for one, other in combinations(SPLITS, 2):
        assert not bases[one] & bases[other]
        assert not set(VARIANTS[one]) & set(VARIANTS[other])
    assert {voice.engine for voice in voices["train"]} == {"espeak-ng", "flite"}


def test_a_longer_plan_begins_with_the_shorter_one(passages: dict[str, tuple[tuple[str, ...], ...]]) -> None:
    short, long = (plan_speech(passages, {"train": hours}, num_voices=10, seed=3) for hours in (0.1, 0.3))
    assert long[: len(short)] == short
    assert len(long) > 2 * len(short)
    assert len({clip.voice.name for clip in short}) == 10


@needs("espeak-ng")
@pytest.mark.parametrize("variant", [VARIANTS["train"][0], VARIANTS["valid"][0], VARIANTS["test"][0]])
def test_a_spoken_clip_is_trimmed_loud_and_not_clipped(variant: str) -> None:
    voice = Voice("espeak-ng", f"en-gb+{variant}", "train", 50.0, 1.0, 1.0)
    task = SpokenClip(
        "tts/train/00000", voice, ("This is a sentence.", "Here is another one, a little longer.")
    )
    (clip,) = task.make(np.random.default_rng(5))
    (again,) = task.make(np.random.default_rng(5))
    assert np.array_equal(clip.waveform, again.waveform)
    assert 1.0 < len(clip.waveform) / 16_000 < 10.0
    assert np.abs(clip.waveform).max() <= 0.97001
    levels = frame_levels(clip.waveform)
    assert -32.0 < 10 * np.log10(np.mean(clip.waveform.astype(np.float64) ** 2)) < -17.0
    assert levels[:40].max() > levels.max() - 30.0  # speech begins within 0.4 s


@needs("flite")
def test_a_larger_speaker_is_lower_and_no_slower() -> None:
    text = "Printing, in the only sense with which we are at present concerned."
    small, large = (Voice("flite", "rms", "train", 0.0, 1.0, size).say(text) for size in (0.88, 1.18))
    assert len(large) == pytest.approx(len(small), rel=0.05)
    assert _fundamental(large) == pytest.approx(_fundamental(small) * 0.88 / 1.18, rel=0.08)


@needs("espeak-ng")
def test_an_unknown_voice_is_named() -> None:
    with pytest.raises(TrainingError, match="xx-nowhere"):
        Voice("espeak-ng", "xx-nowhere", "train", 50.0, 1.0, 1.0).say("Hello.")


def _fundamental(waveform: np.ndarray) -> float:
    """Median fundamental in Hz, by autocorrelation."""
    found = []
    for start in range(0, len(waveform) - 1024, 400):
        frame = waveform[start : start + 1024]
        correlation = np.fft.irfft(np.abs(np.fft.rfft(frame - frame.mean(), 4096)) ** 2)[:400]
        lag = int(correlation[60:270].argmax()) + 60
        if frame.std() > 0.01 and correlation[lag] > 0.4 * correlation[0]:
            found.append(16_000 / lag)
    return float(np.median(found))
