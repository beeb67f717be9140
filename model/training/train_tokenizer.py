"""Train the semantic tokenizer: masked prediction and naming phones and notes, then clustering.

From top to bottom: hear crops of the corpus through random voices, rooms and noise; hide spans of them; predict, for
every hidden frame, what a random quantizer says of the clean sound (BEST-RQ, arXiv 2202.01855), and name the phone and
the notes of every frame through a narrow, noisy bottleneck; keep the lower layers and the bottleneck; cluster what it
gives; check that the clusters tell phones and notes and not speakers.

Decisions held here:
- Targets come from the clean clip without its mean spectrum, inputs from a perturbed one (frequency axis stretched as
  by another vocal tract, random equalizer, noise): what identifies a voice or a microphone does not help to predict.
  Piano keeps its pitch.
- A part of every batch is synthesized with known phones or notes (aligned.py), and linear layers on the bottleneck are
  trained to name them: masked prediction alone finds phones only after far more steps than a small machine affords,
  and these labels cost nothing.
- What is clustered has a few dimensions of common length with noise added in training: whatever names no phone and no
  note, voice and room foremost, would only take room from what does, so clusters are not spent on it.
- Recordings are named by the averaged weights, which hear them clean, as long as these are sure: real voices and
  pianos are learnt from, too (mean teacher: arXiv 1703.01780; only where sure: arXiv 2001.07685).
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from model.config import PRESETS, TokenizerConfig
from model.tokenizer import MELS_PER_TOKEN, ConformerTokenizer
from model.training import aligned
from model.training.checkpoint import read_weights, take_weights
from model.training.clustering import cluster, fit_mel_statistics
from model.training.data import AudioStore
from model.training.loop import TrainingOptions, TrainingRun, muon
from model.training.phones import PHONES
from model.training.report import Report
from model.training.tokenizer_batches import (
    ALIGNED_MASKED_SHARE,
    CORPUS_ROWS,
    NO_PHONE,
    Batch,
    Batches,
    aligned_clips,
    perturb,
    span_mask,
)
from model.training.tokenizer_checks import checks

EXTRA_LAYERS = 1  # above the clustered one, thrown away: the top specializes in the task
NUM_TARGETS, TARGET_SIZE, TARGET_DIM = 4, 512, 16
BOTTLENECK_NOISE = 0.7  # deviation, of dimensions of deviation 1; reached after half of the budget
TEACHER_FROM = 0.25  # of the budget: before, the averaged weights know too little
SURE = 0.7  # the least probability of a phone with which it is taught on
LEARNING_RATE = 4e-3  # of the layers' matrices; half of it for everything else
CLUSTER_FRAMES = 120_000
CLUSTERED = ("feature_mean", "feature_std", "centroids")  # made after training, whatever it began with


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
        self.phone_head = nn.Linear(config.bottleneck_dim, len(PHONES) + 1)  # the last is NO_PHONE
        self.note_head = nn.Linear(config.bottleneck_dim, 2 * aligned.NUM_KEYS)  # sounding, struck

    @torch.no_grad()
    def targets(self, mel: Tensor) -> Tensor:
        """Clean normalized mel [B, 4 * S, n_mels] -> codes [B, S, NUM_TARGETS]."""
        mel = mel - mel.mean(1, keepdim=True)
        stacked = mel.reshape(mel.shape[0], -1, MELS_PER_TOKEN * mel.shape[2])  # (B, S, 4 * n_mels)
        projected = F.normalize(torch.einsum("bsm,kmd->bskd", stacked, self.projection), dim=-1)
        return torch.einsum("bskd,kcd->bskc", projected, self.codebooks).argmax(-1)

    def forward(self, mel: Tensor, hidden_frames: Tensor) -> tuple[Tensor, Tensor]:
        """Perturbed normalized mel, mask [B, S] -> output of the last kept layer and of the top layer, [B, S, D]."""
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

    def named(self, kept: Tensor, noise: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
        """Kept layer [B, S, D] -> logits of phones [B, S, PHONES + 1], notes [B, S, 2 * 88] and strokes [B, S]."""
        bottleneck = self.encoder.narrow(kept)
        bottleneck = bottleneck + noise * torch.randn_like(bottleneck)
        strokes = self.encoder.stroke(kept)[..., 0]
        return self.phone_head(bottleneck).float(), self.note_head(bottleneck).float(), strokes.float()

    def kept(self, config: TokenizerConfig) -> ConformerTokenizer:
        """The tokenizer of `config`: the lower layers with this one's weights."""
        tokenizer = ConformerTokenizer(config)
        wanted = tokenizer.state_dict()
        tokenizer.load_state_dict({k: v for k, v in self.encoder.state_dict().items() if k in wanted})
        return tokenizer.eval()

    @torch.no_grad()
    def teach(self, mel: Tensor, speech: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Clean normalized mel, which rows are speech [B] -> what these weights call them: a batch's labels."""
        nothing_hidden = torch.zeros(mel.shape[0], mel.shape[1] // MELS_PER_TOKEN, dtype=torch.bool)
        phone_logits, note_logits, strokes = self.named(self(mel, nothing_hidden.to(mel.device))[0])
        probability, phones = phone_logits[..., :NO_PHONE].softmax(-1).max(-1)
        phones = torch.where(probability > SURE, phones, -1).masked_fill(~speech[:, None], NO_PHONE)
        notes = note_logits.sigmoid().masked_fill(speech[:, None, None], -1.0)
        return phones, notes, strokes.sigmoid()


# -- one step -------------------------------------------------------------------------------------------------------


def losses(
    model: MaskedPrediction,
    rng: np.random.Generator,
    batch: Batch,
    teacher: MaskedPrediction | None = None,
    noise: float = BOTTLENECK_NOISE,
) -> dict[str, Tensor]:
    """masked: nats per hidden frame and target; phone, note, stroke: nats per labelled frame.

    With a `teacher`, its names are the labels of the corpus rows.
    """
    encoder = model.encoder
    with torch.no_grad(), torch.autocast(batch.waveform.device.type, enabled=False):
        clean = encoder.mel(batch.waveform)
        targets = model.targets(encoder.normalize_mel(clean))
        heard = encoder.normalize_mel(perturb(clean, rng, batch.speech))
    if teacher is not None:
        taught = teacher.teach(encoder.normalize_mel(clean[:CORPUS_ROWS]), batch.speech[:CORPUS_ROWS])
        for labels, found in zip((batch.phones, batch.notes, batch.strokes), taught, strict=True):
            labels[:CORPUS_ROWS] = found
    frames = targets.shape[1]
    hidden_frames = torch.cat(
        [
            span_mask(rng, CORPUS_ROWS, frames),
            span_mask(rng, len(clean) - CORPUS_ROWS, frames, ALIGNED_MASKED_SHARE),
        ]
    ).to(clean.device)
    kept, top = model(heard, hidden_frames)
    logits = model.target_head(top[hidden_frames]).view(-1, TARGET_SIZE)  # (M * NUM_TARGETS, TARGET_SIZE)
    phone_logits, note_logits, stroke_logits = model.named(kept, noise)
    played, known = batch.notes[:, 0, 0] >= 0, batch.strokes >= 0
    note = F.binary_cross_entropy_with_logits(note_logits[played], batch.notes[played], reduction="none")
    return {
        "masked": F.cross_entropy(logits.float(), targets[hidden_frames].flatten()),
        "phone": F.cross_entropy(phone_logits.flatten(0, 1), batch.phones.flatten(), ignore_index=-1),
        "note": note.sum(-1).mean(),
        "stroke": F.binary_cross_entropy_with_logits(stroke_logits[known], batch.strokes[known]),
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
    if options.start is not None:
        path = options.start / "tokenizer" / "model.safetensors"
        network = {name: w for name, w in read_weights(path).items() if name not in CLUSTERED}
        take_weights(model.encoder, network, path)
    deep = {id(p) for p in model.encoder.layers.parameters()}
    rest = [p for p in model.parameters() if id(p) not in deep]
    optimizers = muon(model.encoder.layers, rest, LEARNING_RATE)
    run = TrainingRun(
        dataclasses.replace(options, start=None),
        "tokenizer",
        config,
        {"model": model},
        optimizers,
        averaged=["model"],
        decay=0.997,
    )
    averaged = run.averaged["model"]
    assert isinstance(averaged, MaskedPrediction)
    batches = Batches(store, clips)
    for _ in run:
        batch = batches.draw(run.rng).to(run.device)
        with run.autocast():
            teacher = averaged if run.fraction > TEACHER_FROM else None
            noise = BOTTLENECK_NOISE * min(1.0, 2 * run.fraction)
            parts = losses(model, run.rng, batch, teacher, noise)
        run.update(parts["masked"] + parts["phone"] + 0.2 * parts["note"] + parts["stroke"])
        run.log(**parts)

    tokenizer = averaged.kept(config).to(run.device)
    cluster(tokenizer, store, np.random.default_rng([options.seed, 3]), round(share * CLUSTER_FRAMES))
    save(tokenizer, run.out / "model.safetensors")
    return run.finish(checks(tokenizer, store, valid, probe))
