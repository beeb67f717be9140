"""Voices of the installed speech engines, multiplied by pitch, speed and size of the speaker.

A voice is one speaker of a corpus. What makes it (an espeak-ng variant, a flite voice) belongs to one split, so
a held-out voice is not a trained one at another speed.
"""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.errors import TrainingError
from model.training.corpus.waveform import SAMPLE_RATE, Waveform, read_waveform, resample

ACCENTS = (
    *(
        "en-gb",
        "en-us",
        "en-gb-scotland",
        "en-gb-x-rp",
        "en-gb-x-gbclan",
        "en-gb-x-gbcwmd",
        "en-029",
        "en-us-nyc",
    ),
)
# Names that every espeak-ng since 1.50 ships. Whispers, robots and demons are left out.
VARIANTS = {
    "train": (
        *("Alex", "Alicia", "Andy", "Diogo", "Gene", "Hugo", "Jacky", "Lee", "Marco", "Michael", "Mike"),
        *("adam", "anika", "antonio", "aunty", "belinda", "benjamin", "boris", "david", "edward", "f1", "f2"),
        *("f4", "f5", "grandma", "gustave", "iven", "john", "kaukovalta", "klatt", "klatt3", "linda", "m1"),
        *("m2", "m4", "m5", "m7", "marcelo", "max", "michel", "miguel", "pablo", "paul", "quincy", "rob"),
        *("sandro", "steph", "steph3", "travis", "zac"),
    ),
    "valid": ("Andrea", "Denis", "caleb", "m3", "steph2", "victor"),
    "test": ("Annie", "Henrique", "ed", "f3", "m6", "norbert", "robert", "shelby"),
}
FLITE_VOICES = {"train": ("slt", "rms", "kal16"), "valid": (), "test": ("awb",)}
FLITE_PITCHES = {"slt": (150.0, 205.0), "kal16": (85.0, 130.0)}  # Hz; the others keep their own
FLITE_SIZES = (1.0, 0.88, 1.12, 0.94, 1.06, 0.84, 1.18, 0.91, 1.09)
FLITE_SHARE = 0.4  # of voices: they sound more natural than espeak-ng's formants, but are few


@dataclass(frozen=True)
class Voice:
    engine: str  # "espeak-ng" or "flite"
    base: str  # the engine's name for it
    split: str
    pitch: float  # espeak-ng: 0..99; flite: mean fundamental in Hz, 0 for its own
    speed: float  # relative to the engine's normal speed
    size: float  # of the speaker: above 1, resonances and pitch are lower

    @property
    def name(self) -> str:
        return f"{self.engine}:{self.base}:{self.pitch:.0f}:{self.speed:.2f}:{self.size:.2f}"

    @property
    def licence(self) -> str:
        return "eSpeak NG output" if self.engine == "espeak-ng" else "Flite voice (CMU, BSD-like)"

    def say(self, text: str, speed: float = 1.0) -> Waveform:
        """waveform [N] at 16 kHz; `speed` on top of the voice's own. Raises TrainingError if the engine fails."""
        speed *= self.speed * self.size  # the resampling below slows down what is made larger
        with tempfile.TemporaryDirectory(prefix="audiolm-corpus-") as folder:
            words, sound = Path(folder, "text.txt"), Path(folder, "speech.wav")
            words.write_text(text, encoding="ascii")
            command = self._command(words, sound, speed)
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
            if done.returncode or not sound.is_file():
                raise TrainingError(
                    f"{self.engine} failed on voice {self.base!r}: {done.stderr.strip()[:200]}"
                )
            waveform = read_waveform(sound, SAMPLE_RATE)
        return resample(waveform, SAMPLE_RATE / self.size, SAMPLE_RATE)

    def _command(self, words: Path, sound: Path, speed: float) -> list[str]:
        if self.engine == "espeak-ng":
            rate = str(round(165 * speed))
            voice = ["-v", self.base, "-s", rate, "-p", f"{self.pitch:.0f}"]
            return ["espeak-ng", *voice, "-w", str(sound), "-f", str(words)]
        settings = ["--setf", f"duration_stretch={1.0 / speed:.3f}"]
        if self.pitch:
            settings += ["--setf", f"int_f0_target_mean={self.pitch:.0f}"]
        return ["flite", "-voice", self.base, *settings, "-f", str(words), "-o", str(sound)]


def draw_voices(split: str, count: int, rng: np.random.Generator) -> list[Voice]:
    """`count` different voices of a split; variants and sizes are used up before one comes back."""
    variants = [str(name) for name in rng.permutation(VARIANTS[split])]
    flite = FLITE_VOICES[split]
    num_flite = min(round(count * FLITE_SHARE), len(flite) * len(FLITE_SIZES))
    voices = []
    for number in range(num_flite):
        base, size = flite[number % len(flite)], FLITE_SIZES[number // len(flite)]
        pitch = round(float(rng.uniform(*FLITE_PITCHES.get(base, (0.0, 0.0)))))
        voices.append(Voice("flite", base, split, pitch, _round(rng.uniform(0.9, 1.15)), size))
    for number in range(count - num_flite):
        accent = ACCENTS[int(rng.integers(len(ACCENTS)))]
        base = f"{accent}+{variants[number % len(variants)]}"
        pitch = round(float(np.clip(rng.normal(48.0, 14.0), 15.0, 90.0)))
        voices.append(
            Voice(
                "espeak-ng",
                base,
                split,
                pitch,
                _round(rng.uniform(0.8, 1.2)),
                _round(rng.uniform(0.94, 1.06)),
            )
        )
    return voices


def _round(value: float) -> float:
    return round(float(value), 2)
