"""Train the codec: sound to 12 codes a frame and back.

Starts from a working transform codec (principal components of companded MDCT frames, k-means codebooks) and lets the
networks and codebooks improve it under four distances: a differentiable wideband PESQ, third-octave envelopes (STOI),
log-mel and complex spectra. Half of every batch uses all levels, half a random number of them. At the end the networks
stand still while the codebooks settle on their latents; `train_decoder.py` then goes on without changing a code.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from model.codec import SpectralCodec, compand
from model.config import PRESETS, SAMPLE_RATE
from model.errors import TrainingError
from model.training.codebooks import CodebookLearner
from model.training.data import AudioStore
from model.training.loop import TrainingOptions, TrainingRun, adamw
from model.training.losses import MEL_BANDS, EnvelopeLoss, SpectralLoss
from model.training.report import Check, Report

CROP_SECONDS = 1.28
BATCH = 8
LEARNING_RATE = 5e-4
WEIGHTS = {"pesq": 2.0, "envelope": 3.0, "mel": 2.0, "complex": 20.0, "commitment": 1.0}
START_FRAMES = 40_000  # latents that k-means starts from
SETTLING_STEPS = 300
SILENT = 0.003  # rms below which a crop teaches nothing
MAX_DRAWS = 1000  # draws for one crop before a corpus counts as silent


def train(options: TrainingOptions) -> Report:
    """Train `options.out`/codec until the budget is spent; see `TrainingRun` for what is kept."""
    config = PRESETS[options.preset].codec
    torch.manual_seed(options.seed)
    store = AudioStore.build(options.data, options.out / "cache", "train")
    valid = AudioStore.build(options.data, options.out / "cache", "valid")
    codec = SpectralCodec(config)
    learner = CodebookLearner(codec.quantizer)
    run = TrainingRun(
        options, "codec", config, {"codec": codec, "codebooks": learner},
        {"main": adamw(codec, LEARNING_RATE, weight_decay=0.01, betas=(0.8, 0.95))},
        averaged=["codec"], decay=0.998,
    )  # fmt: skip
    if run.step == 0:
        start_from_transform(codec, learner, store, np.random.default_rng(options.seed))
    distances = Distances().to(run.device)
    for _ in run:
        waveform = loud_crops(store, run.rng, BATCH).to(run.device)
        depths = draw_depths(run.rng, BATCH, config.num_codebooks).to(run.device)
        with run.autocast():
            latents = codec.analyze(waveform)
        learner.pace = max(run.lr(0.02), 0.001)  # codebooks settle as the encoder does
        quantized = learner(latents.float(), depths, run.rng)
        with run.autocast():
            output = codec.synthesize(quantized.latents)[:, : waveform.shape[1]]
        losses = distances(output, waveform, run.rng) | {"commitment": quantized.commitment}
        run.update(torch.stack([WEIGHTS[name] * value for name, value in losses.items()]).sum())
        run.log(**losses)
        if run.due("valid", minutes=3.0):
            run.log(**{f"valid_{name}": value for name, value in measure(run, valid, distances).items()})
            run.save_weights("codec")
            listen(run, valid)
    settle(run, learner, store)
    run.save_weights("codec")
    measured = measure(run, valid, distances)
    return run.finish(
        [
            Check("log-mel distance", measured["mel"], 0.35),
            Check("codebook use", measured["use"], 0.8, above=True),
        ],
        **measured,
    )


class Distances(nn.Module):
    """How far a decoded waveform is from its original, by name, for rows whose second half is at full depth."""

    def __init__(self) -> None:
        from torch_pesq import PesqLoss  # the extra [train] installs it

        super().__init__()
        self.spectral, self.envelope = SpectralLoss(), EnvelopeLoss()
        self.pesq = PesqLoss(1.0, sample_rate=SAMPLE_RATE)

    def forward(self, output: Tensor, waveform: Tensor, rng: np.random.Generator) -> dict[str, Tensor]:
        full = slice(len(output) // 2, None)
        complex_distance, mel_distance = self.spectral(output, waveform, int(rng.choice(list(MEL_BANDS))))
        return {
            "pesq": self.pesq(waveform[full].clone(), output[full].clone()).mean(),  # it works in place
            "envelope": self.envelope(output, waveform),
            "mel": mel_distance,
            "complex": complex_distance,
        }


@torch.no_grad()
def settle(run: TrainingRun, learner: CodebookLearner, store: AudioStore) -> None:
    """Let the averaged codec's codebooks become the means of what they code, its encoder standing still."""
    codec = run.averaged["codec"]
    assert isinstance(codec, SpectralCodec)
    still = CodebookLearner(codec.quantizer, pace=0.01).to(run.device)
    still.load_state_dict(learner.state_dict())
    rng = np.random.default_rng([run.options.seed, 1])
    depths = torch.full((4 * BATCH,), codec.num_codebooks, device=run.device)
    for _ in range(min(SETTLING_STEPS, run.step)):
        still(codec.analyze(loud_crops(store, rng, 4 * BATCH).to(run.device)), depths, rng)


@torch.no_grad()
def start_from_transform(
    codec: SpectralCodec, learner: CodebookLearner, store: AudioStore, rng: np.random.Generator
) -> None:
    """Set the linear path to principal components of companded frames, the codebooks by k-means on them."""
    device = codec.encoder_linear.weight.device
    frames_per_crop = CROP_SECONDS * codec.frame_rate
    crops = loud_crops(store, rng, round(START_FRAMES / frames_per_crop)).to(device)
    frames = torch.cat(
        [compand(codec.mdct(part)[0]).flatten(0, 1) for part in torch.split(crops, 64)]
    )  # (N, bins)
    _, vectors = torch.linalg.eigh(frames.T @ frames)
    components = vectors[:, -codec.config.latent_dim :].flip(1)  # (bins, D)
    codec.encoder_linear.weight.copy_(components.T)
    codec.decoder_linear.weight.copy_(components)
    torch.nn.init.zeros_(codec.encoder_linear.bias)
    torch.nn.init.zeros_(codec.decoder_linear.bias)
    learner.fit(frames @ components, rng)


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
def measure(run: TrainingRun, valid: AudioStore, distances: Distances) -> dict[str, float]:
    """Distances of the averaged weights on fixed validation crops, and the share of codes they use."""
    codec = run.averaged["codec"]
    assert isinstance(codec, SpectralCodec)
    waveform = loud_crops(valid, np.random.default_rng(0), 96).to(run.device)
    codes = codec.encode(waveform)
    output = codec.decode(codes)[:, : waveform.shape[1]]
    mel = [float(distances.spectral(output, waveform, size)[1]) for size in MEL_BANDS]
    fair = min(codec.codebook_size, codes.shape[0] * codes.shape[2])
    used = [len(level.unique()) / fair for level in codes.transpose(0, 1)]
    return {
        "pesq": float(distances.pesq(waveform.clone(), output.clone()).mean()),
        "envelope": float(distances.envelope(output, waveform)),
        "mel": float(np.mean(mel)),
        "use": min(used),
    }


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
