"""What the tokenizer hears in training: crops of the corpora and clips with known phones and notes.

All of it is perturbed, and parts are hidden. Synthesized clips are made once and kept beside the decoded corpora.
Knows no network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.config import SAMPLE_RATE
from model.training import aligned
from model.training.aligned import AlignedClips
from model.training.data import AudioStore
from model.training.festival import ENGLISH, VOICES, installed_voices
from model.training.phones import PHONES

SECONDS = 4.0
CORPUS_ROWS, ALIGNED_SPEECH_ROWS, ALIGNED_PIANO_ROWS = 4, 6, 3  # per batch
ALIGNED_CLIPS = {"espeak": 1800, "flite": 800, "festival": 2000, "piano": 1200}
ENGLISH_SHARE = 3  # clips of a festival voice that speaks English, per clip of another
PROBE_CLIPS = {"flite": 80, "piano": 60}
SPAN = 10  # frames of 40 ms
HIDDEN_BANDS = 16  # at most, of each of the two that every clip of speech lacks
MASKED_SHARE, ALIGNED_MASKED_SHARE = 0.45, 0.1  # a hidden frame says little about its own phone
NO_PHONE = len(PHONES)  # what the phone of a piano's frame is called


def span_mask(rng: np.random.Generator, rows: int, frames: int, share: float = MASKED_SHARE) -> Tensor:
    """Bool [rows, frames]: spans of SPAN frames that start anywhere and together hide about `share`."""
    start = 1 - (1 - share) ** (1 / SPAN)
    starts = rng.random((rows, frames + SPAN - 1)) < start
    counts = np.cumsum(np.pad(starts, ((0, 0), (1, 0))), axis=1)
    return torch.from_numpy(counts[:, SPAN:] - counts[:, :-SPAN] > 0)


def perturb(mel: Tensor, rng: np.random.Generator, stretch: Tensor) -> Tensor:
    """Log-mel [B, T, n_mels] as from another voice (rows in `stretch` [B]), microphone and background.

    Voices lack some bands, too (SpecAugment, arXiv 1904.08779), so that no phone hangs on a single one.
    """
    rows, _, bands = mel.shape

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, shape).astype(np.float32)).to(mel.device)

    top = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    band = torch.arange(bands, dtype=torch.float32, device=mel.device)
    hertz = 700 * (10 ** ((band + 1) / (bands + 1) * top / 2595) - 1)
    factor = 2 ** (draw(-0.3, 0.3, rows) * stretch)
    source = 2595 * torch.log10(1 + hertz * factor[:, None] / 700) / top * (bands + 1) - 1
    source = source.clamp(0, bands - 1.001)[:, None, :].expand_as(mel)
    below = source.floor().long()
    mel = torch.lerp(mel.gather(2, below), mel.gather(2, below + 1), source - below)

    waves = torch.arange(1, 5, dtype=torch.float32, device=mel.device)
    curves = torch.cos(np.pi * waves[:, None] * (band + 0.5) / bands)  # (4, n_mels)
    mel = (
        mel + (draw(-0.9, 0.9, rows, 4) / waves**0.5 @ curves)[:, None] + draw(-0.7, 0.7, rows)[:, None, None]
    )
    noise = draw(-9, 2.5, rows)[:, None] + draw(-1.5, 1.5, rows)[:, None] * (band / bands - 0.5)
    mel = torch.logaddexp(mel, noise[:, None] + 0.3 * torch.randn_like(mel))
    low, width = draw(0, bands, rows, 2, 1), draw(0, HIDDEN_BANDS, rows, 2, 1) * stretch[:, None, None]
    hidden = ((band >= low) & (band < low + width)).any(1)[:, None]  # (B, 1, n_mels)
    return torch.where(hidden, mel.mean((1, 2), keepdim=True), mel)


def named_voices() -> dict[str, Sequence[str]]:
    """The voices of each engine; of festival's, those that are installed."""
    festival = [
        name for name in installed_voices() for _ in range(ENGLISH_SHARE if VOICES[name][1] is ENGLISH else 1)
    ]
    voices = {"espeak": aligned.ESPEAK_VOICES, "flite": aligned.FLITE_VOICES, "festival": festival}
    return {engine: names for engine, names in voices.items() if names}


def aligned_clips(
    cache: Path, seed: int, text: Sequence[str], share: float
) -> tuple[AlignedClips, AlignedClips]:
    """Clips with known phones and notes to train on, and others (voices, notes) to probe with; made once."""
    train_path, probe_path = cache / "named_train.npz", cache / "named_probe.npz"
    if not probe_path.exists():
        size = {kind: max(3, round(share * count)) for kind, count in ALIGNED_CLIPS.items()}
        spoken = [
            aligned.render_speech(seed + number, size[kind], SECONDS, voices, text, varied=True)
            for number, (kind, voices) in enumerate(named_voices().items())
        ]
        aligned.join([*spoken, aligned.render_piano(seed, size["piano"], SECONDS, varied=True)]).save(
            train_path
        )
        size = {kind: max(4, round(share * count)) for kind, count in PROBE_CLIPS.items()}
        aligned.join(
            [
                aligned.render_speech(seed + 3, size["flite"], SECONDS, aligned.PROBE_VOICES, text),
                aligned.render_piano(seed + 1, size["piano"], SECONDS, programs=(0,)),
            ]
        ).save(probe_path)
    return AlignedClips.load(train_path), AlignedClips.load(probe_path)


@dataclass
class Batch:
    """waveform [B, N]; which rows are speech [B]; labels of frames, -1 where unknown: phones [B, S], notes [B, S, 176]
    (the first 88: which sound, the others: which begin), strokes [B, S]."""

    waveform: Tensor
    speech: Tensor
    phones: Tensor
    notes: Tensor
    strokes: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(*(getattr(self, f.name).to(device) for f in fields(self)))


class Batches:
    """Mixed batches: every corpus in equal parts, then clips with known phones and notes."""

    def __init__(self, store: AudioStore, clips: AlignedClips) -> None:
        self.store, self.clips = store, clips
        self.corpora = sorted(store.hours())
        self.speech_clips = np.flatnonzero(~clips.has_notes)
        self.piano_clips = np.flatnonzero(clips.has_notes)
        self.strokes = clips.strokes

    def draw(self, rng: np.random.Generator) -> Batch:
        corpora = [str(name) for name in np.resize(rng.permutation(self.corpora), CORPUS_ROWS)]
        spoken = rng.choice(self.speech_clips, ALIGNED_SPEECH_ROWS)
        played = rng.choice(self.piano_clips, ALIGNED_PIANO_ROWS)
        crops = [self.store.crops(rng, 1, SECONDS, {name: 1.0}) for name in corpora]
        waveform = torch.cat([*crops, self.clips.rows(spoken), self.clips.rows(played)])
        of_corpora = [self.store.kind(name) == "speech" for name in corpora]
        speech = torch.tensor([*of_corpora, *[True] * ALIGNED_SPEECH_ROWS, *[False] * ALIGNED_PIANO_ROWS])
        rows, frames = len(speech), self.clips.phones.shape[1]
        phones = torch.full((rows, frames), -1)
        notes = torch.full((rows, frames, 2 * aligned.NUM_KEYS), -1.0)
        phones[CORPUS_ROWS:-ALIGNED_PIANO_ROWS] = torch.from_numpy(self.clips.phones[spoken])
        phones[-ALIGNED_PIANO_ROWS:] = NO_PHONE
        both = np.concatenate([self.clips.notes[played], self.clips.strikes[played]], -1)
        notes[-ALIGNED_PIANO_ROWS:] = torch.from_numpy(both).float()
        strokes = torch.full((rows, frames), -1.0)
        strokes[CORPUS_ROWS:] = torch.from_numpy(self.strokes[np.concatenate([spoken, played])])
        return Batch(waveform, speech, phones, notes, strokes)
