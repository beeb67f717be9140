"""Sentences for text to speech, split by neighbourhood so that no passage is in two splits."""

from __future__ import annotations

import hashlib
import unicodedata
from pathlib import Path

import numpy as np

from model.errors import TrainingError

PASSAGE = 40  # neighbouring sentences that stay together
HELD_OUT_SHARE = 0.06  # of passages, for each of valid and test


def read_passages(path: Path) -> dict[str, tuple[tuple[str, ...], ...]]:
    """Passages (sentences in the order of the file, one per line) per split. Raises TrainingError."""
    try:
        lines = [_speakable(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path} cannot be read as sentences: {error}", code="no_sentences") from error
    lines = [line for line in lines if any(letter.isalpha() for letter in line)]
    passages: dict[str, list[tuple[str, ...]]] = {"train": [], "valid": [], "test": []}
    for start in range(0, len(lines), PASSAGE):
        passage = tuple(lines[start : start + PASSAGE])
        passages[_split_of(passage)].append(passage)
    if not lines:
        raise TrainingError(f"{path} holds no sentences", code="no_sentences")
    return {split: tuple(found) for split, found in passages.items()}


def write_train_text(passages: dict[str, tuple[tuple[str, ...], ...]], folder: Path) -> None:
    """Leave the training sentences in `folder`/sentences.txt, where the tokenizer's aligned voices find them."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [sentence for passage in passages["train"] for sentence in passage]
    part = folder / "sentences.txt.part"
    part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    part.replace(folder / "sentences.txt")


def draw_text(passage: tuple[str, ...], characters: float, rng: np.random.Generator) -> str:
    """Consecutive sentences of a passage of about that many characters, at least one sentence."""
    start = int(rng.integers(len(passage)))
    text = passage[start]
    for sentence in passage[start + 1 :]:
        if len(text) + len(sentence) > characters:
            break
        text += f" {sentence}"
    return text


def _speakable(line: str) -> str:
    """ASCII without markup: what every engine reads the same way."""
    plain = unicodedata.normalize("NFKD", line.translate(QUOTES)).encode("ascii", "ignore").decode()
    return " ".join(plain.replace("<", " ").replace(">", " ").split())


def _split_of(passage: tuple[str, ...]) -> str:
    digest = hashlib.sha256("\n".join(passage).encode()).digest()
    draw = int.from_bytes(digest[:8], "big") / 2.0**64
    if draw < HELD_OUT_SHARE:
        return "test"
    return "valid" if draw < 2 * HELD_OUT_SHARE else "train"


QUOTES = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": ", "}
)
