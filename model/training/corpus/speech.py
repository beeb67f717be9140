"""Synthesized speech clips: some consecutive sentences in one voice, recorded somewhere.

Which voice and passage a clip uses follows from the seed, the split and the clip's number alone, so a corpus
can be extended without changing what is there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model.errors import TrainingError
from model.training.corpus.rendering import Clip, task_rng
from model.training.corpus.room import record
from model.training.corpus.sentences import draw_text
from model.training.corpus.voices import Voice, draw_voices
from model.training.corpus.waveform import SAMPLE_RATE, trim_silence

CHARACTERS = (80.0, 420.0)  # of a clip's text
MEAN_SECONDS = 12.5  # what clips last on average; turns hours into numbers of clips
MAX_SECONDS = 30.0
DRY_SHARE = 0.4  # of clips without any room
HELD_OUT_VOICES = 8  # in each of valid and test


@dataclass(frozen=True)
class SpokenClip:
    name: str
    voice: Voice
    passage: tuple[str, ...]

    def make(self, rng: np.random.Generator) -> list[Clip]:
        text = draw_text(self.passage, float(rng.uniform(*CHARACTERS)), rng)
        sound = trim_silence(self.voice.say(text, float(rng.uniform(0.94, 1.06))), margin=0.15)
        sound = sound[: round(MAX_SECONDS * SAMPLE_RATE)]
        if len(sound) < SAMPLE_RATE // 2:
            raise TrainingError(f"{self.voice.name} says nothing for {text[:60]!r}", code="silent")
        licence = f"Public Domain text; {self.voice.licence}"
        waveform = record(sound, rng, dry=DRY_SHARE)
        return [
            Clip(
                waveform,
                self.name,
                "speech",
                self.voice.name,
                self.voice.split,
                licence,
                f"tts {self.voice.engine}",
            )
        ]


def plan_speech(
    passages: dict[str, tuple[tuple[str, ...], ...]], hours: dict[str, float], *, num_voices: int, seed: int
) -> list[SpokenClip]:
    """Clips of about `hours` per split, `num_voices` voices in train. Raises TrainingError without text."""
    clips = []
    for split, wanted in hours.items():
        count = round(wanted * 3600.0 / MEAN_SECONDS)
        own = passages[split]
        if count and not own:
            raise TrainingError(
                f"too few sentences for the split {split!r}: give more, or --held-out-hours 0",
                code="no_sentences",
            )
        rng = task_rng(seed, f"voices {split}")
        voices = draw_voices(split, num_voices if split == "train" else HELD_OUT_VOICES, rng)
        for number in range(count):
            name = f"tts/{split}/{number:05d}"
            draw = task_rng(seed, f"passage {name}")
            voice = voices[_turn(number, len(voices), seed, split)]
            clips.append(SpokenClip(name, voice, own[int(draw.integers(len(own)))]))
    return clips


def _turn(number: int, count: int, seed: int, split: str) -> int:
    """Whose turn it is: a new order for every round."""
    order = task_rng(seed, f"turn {split} {number // count}").permutation(count)
    return int(order[number % count])
