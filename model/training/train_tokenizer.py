"""Train the semantic tokenizer: masked prediction, then clustering.

From top to bottom: hear crops of the corpus through random voices, rooms and noise; hide spans of them; predict, for
every hidden frame, what a random quantizer says of the clean sound (BEST-RQ, arXiv 2202.01855); keep the lower layers;
cluster their output; check that the clusters tell phones and notes and not speakers.

Decisions held here:
- Targets come from the clean clip without its mean spectrum, inputs from a perturbed one (frequency axis stretched as
  by another vocal tract, random equalizer, noise): what identifies a voice or a microphone does not help to predict.
  Piano keeps its pitch.
- A part of every batch is synthesized with known phones or notes (aligned.py), and a linear layer on the clustered
  layer is trained to name them: masked prediction alone finds phones only after far more steps than a small machine
  affords, and these labels cost nothing.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from model.config import PRESETS, SAMPLE_RATE, TokenizerConfig
from model.tokenizer import MELS_PER_TOKEN, ConformerTokenizer
from model.training import aligned
from model.training.aligned import AlignedClips
from model.training.clustering import cluster, fit_mel_statistics
from model.training.data import AudioStore
from model.training.loop import TrainingOptions, TrainingRun, adamw
from model.training.phones import PHONES
from model.training.report import Report
from model.training.tokenizer_checks import checks

EXTRA_LAYERS = 1  # above the clustered one, thrown away: the top specializes in the task
SECONDS = 4.0
CORPUS_ROWS, ALIGNED_SPEECH_ROWS, ALIGNED_PIANO_ROWS = 4, 3, 2  # per batch
ALIGNED_CLIPS = {"espeak": 900, "flite": 150, "piano": 450}
PROBE_CLIPS = {"flite": 80, "piano": 60}
NUM_TARGETS, TARGET_SIZE, TARGET_DIM = 4, 512, 16
SPAN = 10  # frames of 40 ms
MASKED_SHARE, ALIGNED_MASKED_SHARE = 0.45, 0.1  # a hidden frame says little about its own phone
LEARNING_RATE = 2e-3
CLUSTER_FRAMES = 120_000


class MaskedPrediction(nn.Module):
    """The tokenizer with its extra layers, the random quantizer, and the heads that only training needs."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.kept_layers = config.num_layers
        deep = dataclasses.replace(config, num_layers=config.num_layers + EXTRA_LAYERS)
        self.encoder = ConformerTokenizer(deep)
        self.projection: Tensor
        self.codebooks: Tensor
        stacked = MELS_PER_TOKEN * config.n_mels
        self.register_buffer("projection", torch.randn(NUM_TARGETS, stacked, TARGET_DIM) / stacked**0.5)
        codebooks = F.normalize(torch.randn(NUM_TARGETS, TARGET_SIZE, TARGET_DIM), dim=-1)
        self.register_buffer("codebooks", codebooks)
        self.target_head = nn.Linear(config.encoder_dim, NUM_TARGETS * TARGET_SIZE)
        self.phone_head = nn.Linear(config.encoder_dim, len(PHONES))
        self.note_head = nn.Linear(config.encoder_dim, aligned.NUM_KEYS)

    @torch.no_grad()
    def targets(self, mel: Tensor) -> Tensor:
        """Clean normalized mel [B, 4 * S, n_mels] -> codes [B, S, NUM_TARGETS]."""
        mel = mel - mel.mean(1, keepdim=True)
        stacked = mel.reshape(mel.shape[0], -1, MELS_PER_TOKEN * mel.shape[2])  # (B, S, 4 * n_mels)
        projected = F.normalize(torch.einsum("bsm,kmd->bskd", stacked, self.projection), dim=-1)
        return torch.einsum("bskd,kcd->bskc", projected, self.codebooks).argmax(-1)

    def forward(self, mel: Tensor, hidden_frames: Tensor) -> tuple[Tensor, Tensor]:
        """Perturbed normalized mel, mask [B, S] -> output of the clustered layer and of the top layer, [B, S, D]."""
        noise = 0.1 * torch.randn_like(mel)
        mel = torch.where(hidden_frames.repeat_interleave(MELS_PER_TOKEN, dim=1)[:, :, None], noise, mel)
        x = self.encoder.embed(mel)
        mask, valid = self.encoder.masks(x.shape[1], None, x.device)
        kept = x
        for number, layer in enumerate(self.encoder.layers, start=1):
            x = layer(x, mask, valid)
            if number == self.kept_layers:
                kept = x
        return kept, x

    def kept(self, config: TokenizerConfig) -> ConformerTokenizer:
        """The tokenizer of `config`: the lower layers with this one's weights."""
        tokenizer = ConformerTokenizer(config)
        wanted = tokenizer.state_dict()
        tokenizer.load_state_dict({k: v for k, v in self.encoder.state_dict().items() if k in wanted})
        return tokenizer.eval()


# -- what the model hears -----------------------------------------------------------------------------------------


def span_mask(rng: np.random.Generator, rows: int, frames: int, share: float = MASKED_SHARE) -> Tensor:
    """Bool [rows, frames]: spans of SPAN frames that start anywhere and together hide about `share`."""
    start = 1 - (1 - share) ** (1 / SPAN)
    starts = rng.random((rows, frames + SPAN - 1)) < start
    counts = np.cumsum(np.pad(starts, ((0, 0), (1, 0))), axis=1)
    return torch.from_numpy(counts[:, SPAN:] - counts[:, :-SPAN] > 0)


def perturb(mel: Tensor, rng: np.random.Generator, stretch: npt.NDArray[np.bool_]) -> Tensor:
    """Log-mel [B, T, n_mels] as from another voice (rows in `stretch` [B]), microphone and background."""
    rows, _, bands = mel.shape

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, shape).astype(np.float32)).to(mel.device)

    top = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    band = torch.arange(bands, dtype=torch.float32, device=mel.device)
    hertz = 700 * (10 ** ((band + 1) / (bands + 1) * top / 2595) - 1)
    factor = 2 ** (draw(-0.3, 0.3, rows) * torch.from_numpy(stretch).to(mel.device))
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
    return torch.logaddexp(mel, noise[:, None] + 0.3 * torch.randn_like(mel))


def aligned_clips(
    cache: Path, seed: int, text: Sequence[str], share: float
) -> tuple[AlignedClips, AlignedClips]:
    """Clips with known phones and notes to train on, and others (voices, notes) to probe with; made once."""
    train_path, probe_path = cache / "aligned_train.npz", cache / "aligned_probe.npz"
    if not probe_path.exists():
        size = {kind: max(3, round(share * count)) for kind, count in ALIGNED_CLIPS.items()}
        aligned.join(
            [
                aligned.render_speech(seed, size["espeak"], SECONDS, aligned.ESPEAK_VOICES, text),
                aligned.render_speech(seed + 1, size["flite"], SECONDS, aligned.FLITE_VOICES, text),
                aligned.render_piano(seed, size["piano"], SECONDS),
            ]
        ).save(train_path)
        size = {kind: max(4, round(share * count)) for kind, count in PROBE_CLIPS.items()}
        aligned.join(
            [
                aligned.render_speech(seed + 2, size["flite"], SECONDS, aligned.PROBE_VOICES, text),
                aligned.render_piano(seed + 1, size["piano"], SECONDS, programs=(0,)),
            ]
        ).save(probe_path)
    return AlignedClips.load(train_path), AlignedClips.load(probe_path)


class Batches:
    """Mixed batches: every corpus in equal parts, then clips with known phones and notes."""

    def __init__(self, store: AudioStore, clips: AlignedClips) -> None:
        self.store, self.clips = store, clips
        self.corpora = sorted(store.hours())
        self.speech_clips = np.flatnonzero(~clips.has_notes)
        self.piano_clips = np.flatnonzero(clips.has_notes)

    def draw(self, rng: np.random.Generator) -> tuple[Tensor, npt.NDArray[np.bool_], Tensor, Tensor]:
        """Waveforms [B, N], which rows are speech [B], phones [B, S] (-1 unknown), notes [B, S, 88] (-1 unknown)."""
        corpora = [str(name) for name in np.resize(rng.permutation(self.corpora), CORPUS_ROWS)]
        spoken = rng.choice(self.speech_clips, ALIGNED_SPEECH_ROWS)
        played = rng.choice(self.piano_clips, ALIGNED_PIANO_ROWS)
        crops = [self.store.crops(rng, 1, SECONDS, {name: 1.0}) for name in corpora]
        waveform = torch.cat([*crops, self.clips.rows(spoken), self.clips.rows(played)])
        of_corpora = [self.store.kind(name) == "speech" for name in corpora]
        speech = np.array([*of_corpora, *[True] * ALIGNED_SPEECH_ROWS, *[False] * ALIGNED_PIANO_ROWS])
        rows, frames = len(speech), self.clips.phones.shape[1]
        phones = torch.full((rows, frames), -1)
        notes = torch.full((rows, frames, aligned.NUM_KEYS), -1.0)
        phones[CORPUS_ROWS:-ALIGNED_PIANO_ROWS] = torch.from_numpy(self.clips.phones[spoken])
        notes[-ALIGNED_PIANO_ROWS:] = torch.from_numpy(self.clips.notes[played]).float()
        return waveform, speech, phones, notes


# -- one step -------------------------------------------------------------------------------------------------------


def losses(
    model: MaskedPrediction,
    rng: np.random.Generator,
    batch: tuple[Tensor, npt.NDArray[np.bool_], Tensor, Tensor],
) -> dict[str, Tensor]:
    """masked: nats per hidden frame and target; phone: nats per labelled frame; note: nats per labelled frame."""
    waveform, speech, phones, notes = batch
    encoder = model.encoder
    with torch.no_grad(), torch.autocast(waveform.device.type, enabled=False):
        clean = encoder.mel(waveform)
        targets = model.targets(encoder.normalize_mel(clean))
        heard = encoder.normalize_mel(perturb(clean, rng, speech))
    frames = targets.shape[1]
    hidden_frames = torch.cat(
        [
            span_mask(rng, CORPUS_ROWS, frames),
            span_mask(rng, len(speech) - CORPUS_ROWS, frames, ALIGNED_MASKED_SHARE),
        ]
    ).to(waveform.device)
    kept, top = model(heard, hidden_frames)
    logits = model.target_head(top[hidden_frames]).view(-1, TARGET_SIZE)  # (M * NUM_TARGETS, TARGET_SIZE)
    labelled = notes[:, 0, 0] >= 0
    note_logits = model.note_head(kept[labelled]).float()
    note = F.binary_cross_entropy_with_logits(note_logits, notes[labelled], reduction="none")
    phone_logits = model.phone_head(kept).float().flatten(0, 1)
    return {
        "masked": F.cross_entropy(logits.float(), targets[hidden_frames].flatten()),
        "phone": F.cross_entropy(phone_logits, phones.flatten(), ignore_index=-1),
        "note": note.sum(-1).mean(),
    }


# -- the run ---------------------------------------------------------------------------------------------------------


def save(tokenizer: ConformerTokenizer, path: Path) -> None:
    """Write the weights as safetensors, atomically."""
    weights = {name: value.detach().cpu().contiguous() for name, value in tokenizer.state_dict().items()}
    save_file(weights, path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)


def train(options: TrainingOptions) -> Report:
    """Train, cluster, check and export. A file `sentences.txt` in a corpus folder is what the aligned voices read."""
    config = PRESETS[options.preset].tokenizer
    cache = options.out / "cache"
    store = AudioStore.build(options.data, cache, "train")
    valid = AudioStore.build(options.data, cache, "valid")
    texts = [folder / "sentences.txt" for folder in options.data]
    text = [line for path in texts if path.exists() for line in path.read_text().splitlines()]
    share = 1.0 if options.preset != "tiny" else 0.02
    clips, probe = aligned_clips(cache, options.seed, text, share)

    torch.manual_seed(options.seed)
    model = MaskedPrediction(config)
    fit_mel_statistics(model.encoder, store, np.random.default_rng(options.seed))
    optimizer = adamw(model, LEARNING_RATE, betas=(0.9, 0.98))
    run = TrainingRun(
        options, "tokenizer", config, {"model": model}, {"main": optimizer}, averaged=["model"], decay=0.997
    )
    batches = Batches(store, clips)
    for _ in run:
        waveform, speech, phones, notes = batches.draw(run.rng)
        batch = (waveform.to(run.device), speech, phones.to(run.device), notes.to(run.device))
        with run.autocast():
            parts = losses(model, run.rng, batch)
        run.update(parts["masked"] + parts["phone"] + 0.2 * parts["note"])
        run.log(**parts)

    averaged = run.averaged["model"]
    assert isinstance(averaged, MaskedPrediction)
    tokenizer = averaged.kept(config).to(run.device)
    cluster(tokenizer, store, np.random.default_rng([options.seed, 3]), round(share * CLUSTER_FRAMES))
    save(tokenizer, run.out / "model.safetensors")
    return run.finish(checks(tokenizer, store, valid, probe))
