"""Pairs of a real and a made-up word in the same voice: does the language model find the real one likelier?

The task of sWUGGY (arXiv 2011.11588) on synthesized words. A made-up word differs from its real one in one letter of
the same class (vowel, consonant), all its three-letter pieces occur in real words, and it is spoken by the same voice
at the same rate and pitch in about the same time, so that neither spelling, length nor voice gives it away. Knows no
model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.config import SAMPLE_RATE
from model.errors import TrainingError
from model.training.phones import Espeak, speak_flite

VOWELS, CONSONANTS = "aeiou", "bcdfghklmnprstvwz"
SHORTEST, LONGEST = 5, 10  # letters: short words have real neighbors in every direction
MAX_STRETCH = 1.2  # the longer clip over the shorter
# Half of either row is flite's. In the corpora, the former belong to the test split and the latter to training; the
# tokenizer has heard the latter, too (model.training.aligned).
TEST_VOICES = ("awb", "en-us+f3", "awb", "en-us+m6")
HEARD_VOICES = ("rms", "en-us+m1", "slt", "en-us+f1")
MARGIN_SECONDS = 0.06  # of quiet kept around a word

Waveform = npt.NDArray[np.float32]


@dataclass(frozen=True)
class WordPair:
    """`clips`: the real word and the made-up one, each [N] at 16 kHz."""

    real: str
    made_up: str
    voice: str
    clips: tuple[Waveform, Waveform]


def words_of(sentences: Iterable[str]) -> Counter[str]:
    """How often each lower-case word occurs; names (capitals inside a sentence) are left out."""
    counts: Counter[str] = Counter()
    for sentence in sentences:
        tokens = [token.strip(".,;:!?\"'()[]-") for token in sentence.split()]
        counts.update(token for token in tokens if token.isascii() and token.isalpha() and token.islower())
    return counts


def make_up(word: str, known: Iterable[str], rng: np.random.Generator) -> str | None:
    """`word` with one letter exchanged, in no way a word of `known`; None when there is no such thing."""
    known = set(known)
    pieces = {f" {other} "[i : i + 3] for other in known for i in range(len(other))}
    return _make_up(word, known, pieces, rng)


def _make_up(word: str, known: set[str], pieces: set[str], rng: np.random.Generator) -> str | None:
    candidates = []
    for place in range(len(word)):
        for letters in (VOWELS, CONSONANTS):
            if word[place] in letters:
                candidates += [
                    word[:place] + new + word[place + 1 :] for new in letters if new != word[place]
                ]
    candidates = [
        c for c in candidates if c not in known and all(f" {c} "[i : i + 3] in pieces for i in range(len(c)))
    ]
    return str(rng.choice(candidates)) if candidates else None


def trim(waveform: Waveform) -> Waveform:
    """Without the quiet before and after."""
    loud = np.flatnonzero(np.abs(waveform) > 0.02 * np.abs(waveform).max())
    if not len(loud):
        return waveform
    margin = round(MARGIN_SECONDS * SAMPLE_RATE)
    return waveform[max(0, loud[0] - margin) : loud[-1] + margin]


def word_pairs(
    sentences: Sequence[str],
    count: int,
    seed: int,
    voices: Sequence[str] = TEST_VOICES,
    min_occurrences: int = 8,
) -> list[WordPair]:
    """`count` pairs from words that `sentences` use at least `min_occurrences` times; voices take turns.

    Voices with a "+" are espeak-ng's, others flite's. Raises TrainingError when there are too few such words.
    """
    rng = np.random.default_rng(seed)
    counts = words_of(sentences)
    known = set(counts)
    pieces = {f" {word} "[i : i + 3] for word, n in counts.items() if n > 1 for i in range(len(word))}
    usable = sorted(w for w, n in counts.items() if n >= min_occurrences and SHORTEST <= len(w) <= LONGEST)
    espeak = Espeak() if any("+" in voice for voice in voices) else None
    pairs: list[WordPair] = []
    for index in rng.permutation(len(usable)):
        if len(pairs) == count:
            break
        real = usable[index]
        made_up = _make_up(real, known, pieces, rng)
        if made_up is None:
            continue
        voice, manner = voices[len(pairs) % len(voices)], int(rng.integers(2**31))
        clips = []
        for word in (real, made_up):
            same_manner = np.random.default_rng(manner)
            if espeak and "+" in voice:
                clips.append(trim(espeak.speak(word, voice, same_manner)[0]))
            else:
                clips.append(trim(speak_flite(word, voice, same_manner)[0]))
        shorter, longer = sorted(len(clip) for clip in clips)
        if longer <= MAX_STRETCH * shorter:
            pairs.append(WordPair(real, made_up, voice, (clips[0], clips[1])))
    if len(pairs) < count:
        raise TrainingError(f"only {len(pairs)} of {count} word pairs from {len(usable)} usable words")
    return pairs
