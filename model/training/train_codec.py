"""Train the codec: sound to 12 codes a frame and back.

Two parts. First what fixes the codes, in minutes: principal components of companded magnitudes and residual k-means on
them. Then, for the rest of the budget, the network that restores magnitudes from codes; it changes no code, so a longer
run with `--resume` keeps what the stages have learnt. Half of every batch uses all levels, half a random number of
them; every row's squared error counts relative to itself, so that deep and shallow rows weigh the same.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from model.codec import SpectralCodec
from model.config import PRESETS, SAMPLE_RATE
from model.errors import TrainingError
from model.evaluation.spectral import log_mel_distance
from model.training.codebooks import fit_codebooks
from model.training.data import AudioStore
from model.training.loop import TrainingOptions, TrainingRun, adamw
from model.training.report import Check, Report

CROP_SECONDS = 1.28
BATCH = 24
LEARNING_RATE = 1e-3
FRAMES_PER_CODE = 200  # frames that components and codebooks are fitted on, per code of a codebook
VALIDATION_CROPS = 96
USE_CROPS = 512  # that codebook use is counted over: 32 frames for each code of the starter
SILENT = 0.003  # rms below which a crop teaches nothing
MAX_DRAWS = 1000  # draws for one crop before a corpus counts as silent


def train(options: TrainingOptions) -> Report:
    """Train `options.out`/codec until the budget is spent; see `TrainingRun` for what is kept."""
    config = PRESETS[options.preset].codec
    torch.manual_seed(options.seed)
    store = AudioStore.build(options.data, options.out / "cache", "train", options.often)
    valid = AudioStore.build(options.data, options.out / "cache", "valid")
    codec = SpectralCodec(config)
    learnt = [codec.decoder_in, codec.decoder, codec.decoder_out]
    run = TrainingRun(
        options, "codec", config, {"codec": codec},
        {"main": adamw(learnt, LEARNING_RATE, weight_decay=0.01)}, averaged=["codec"], decay=0.998,
    )  # fmt: skip
    if run.step == 0:
        fit_codes(codec, store, np.random.default_rng(options.seed))
        run.averaged["codec"].load_state_dict(codec.state_dict())
        run.checkpoint()
        run.save_weights("codec")
    for _ in run:
        waveform = loud_crops(store, run.rng, BATCH).to(run.device)
        with torch.no_grad():
            target = codec.spectrogram(waveform)
            codes = codec.quantizer.encode(codec.encoder_linear(target))
            latents = decode_to_depths(codec, codes, draw_depths(run.rng, BATCH, config.num_codebooks))
        with run.autocast():
            restored = codec.restore(latents)
        loss = (restored.float() - target).square().mean((1, 2)).log().mean()
        norm = run.update(loss)
        run.log(loss=loss, gradient_norm=norm)
        if run.due("valid", minutes=3.0):
            run.log(**{f"valid_{name}": value for name, value in measure(run, valid).items()})
            run.save_weights("codec")
            listen(run, valid)
    run.save_weights("codec")
    measured = measure(run, valid) | {"use": codebook_use(codec, valid)}
    return run.finish(
        [
            Check("log-mel distance", measured["mel"], 0.35),
            Check("codebook use", measured["use"], 0.8, above=True),
            Check("error left by the network, of the linear path's", measured["left"], 0.95),
        ],
        **measured,
    )


@torch.no_grad()
def fit_codes(codec: SpectralCodec, store: AudioStore, rng: np.random.Generator) -> None:
    """Set the linear paths to principal components of companded magnitudes, the codebooks by k-means on them."""
    device = codec.encoder_linear.weight.device
    count = FRAMES_PER_CODE * codec.codebook_size / (CROP_SECONDS * codec.frame_rate)
    crops = loud_crops(store, rng, round(count))
    frames = torch.cat([codec.spectrogram(part.to(device)).flatten(0, 1) for part in torch.split(crops, 64)])
    principal_components(codec, frames)
    latents = torch.cat([codec.encoder_linear(part) for part in torch.split(frames, 8192)])
    fit_codebooks(codec.quantizer, latents, rng)


@torch.no_grad()
def principal_components(codec: SpectralCodec, frames: Tensor) -> None:
    """Set the linear paths to the strongest components of frames [N, width], and back."""
    mean = frames.mean(0)
    centred = frames - mean
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    components = vectors[:, -codec.config.latent_dim :].flip(1)  # (width, D)
    codec.encoder_linear.weight.copy_(components.T)
    codec.encoder_linear.bias.copy_(-mean @ components)
    codec.decoder_linear.weight.copy_(components)
    codec.decoder_linear.bias.copy_(mean)


def decode_to_depths(codec: SpectralCodec, codes: Tensor, depths: Tensor) -> Tensor:
    """codes [B, K, T] -> latents [B, T, D]; row b keeps its first `depths[b]` levels (quantizer dropout)."""
    rows = [
        codec.quantizer.decode(row[None, :depth]) for row, depth in zip(codes, depths.tolist(), strict=True)
    ]
    return torch.cat(rows)


def loud_crops(store: AudioStore, rng: np.random.Generator, count: int) -> Tensor:
    """Crops that are not silence, [count, N], at levels from -8 to +6 dB of the recording's own."""
    kept: list[Tensor] = []
    for _ in range(MAX_DRAWS):
        crops = store.crops(rng, count, CROP_SECONDS)
        kept.append(crops[crops.square().mean(1).sqrt() > SILENT])
        if sum(map(len, kept)) >= count:
            break
    else:
        raise TrainingError(
            f"the corpora are silent: {MAX_DRAWS} draws found no {count} crops above {SILENT} rms"
        )
    waveform = torch.cat(kept)[:count]
    gain = torch.from_numpy(10 ** (rng.uniform(-8, 6, (count, 1)) / 20)).float()
    return waveform * gain.minimum(0.99 / waveform.abs().amax(1, keepdim=True))


def draw_depths(rng: np.random.Generator, count: int, num_codebooks: int) -> Tensor:
    """Levels to keep per row: the first half random, the second half all."""
    depths = torch.full((count,), num_codebooks)
    depths[: count // 2] = torch.from_numpy(rng.integers(1, num_codebooks, count // 2))
    return depths


@torch.no_grad()
def measure(run: TrainingRun, valid: AudioStore) -> dict[str, float]:
    """Of the averaged weights on fixed validation crops: log-mel distance, and how much of the linear path's squared
    error the network leaves."""
    codec = run.averaged["codec"]
    assert isinstance(codec, SpectralCodec)
    waveform = loud_crops(valid, np.random.default_rng(0), VALIDATION_CROPS).to(run.device)
    codes = codec.encode(waveform)
    target, latents = codec.spectrogram(waveform), codec.quantizer.decode(codes)
    linear = (codec.decoder_linear(latents) - target).square().mean()
    left = (codec.restore(latents) - target).square().mean() / linear
    output = codec.decode(codes)[:, : waveform.shape[1]]
    distances = [
        log_mel_distance(*pair) for pair in zip(waveform.cpu().numpy(), output.cpu().numpy(), strict=True)
    ]
    return {"mel": float(np.mean(distances)), "left": float(left)}


@torch.no_grad()
def codebook_use(codec: SpectralCodec, valid: AudioStore) -> float:
    """Share of its codes that the least used level uses on fixed validation crops."""
    device = codec.encoder_linear.weight.device
    crops = loud_crops(valid, np.random.default_rng(0), USE_CROPS)
    codes = torch.cat([codec.encode(part.to(device)) for part in torch.split(crops, 64)])
    return min(len(level.unique()) / codec.codebook_size for level in codes.transpose(0, 1))


@torch.no_grad()
def listen(run: TrainingRun, valid: AudioStore) -> None:
    """Sound and spectrogram of one validation clip, before and after, to TensorBoard."""
    if run.board is None:
        return
    codec = run.averaged["codec"]
    assert isinstance(codec, SpectralCodec)
    clip = torch.from_numpy(valid.waveform(0)[None, : 5 * SAMPLE_RATE]).to(run.device)
    window = torch.hann_window(512, device=run.device)
    for name, sound in {"original": clip, "coded": codec.decode(codec.encode(clip))}.items():
        run.board.add_audio(name, sound[0].clamp(-1, 1), run.step, SAMPLE_RATE)
        magnitude = torch.stft(sound, 512, 128, window=window, return_complex=True)[0].abs()
        run.board.add_image(
            name, (torch.log10(magnitude + 1e-4) / 6 + 0.7).clamp(0, 1).flip(0)[None], run.step
        )
