"""Refine the decoder: more faithful sound from the same codes.

The stages learn the codec's codes, so once they train, no code may change any more; the decoder still can. Encoder and
codebooks are the trained codec's and stand still, the codes come from the cache, and the same distances are lowered.
Exports a whole codec, which a bundle takes instead of the one it started from.
"""

from __future__ import annotations

import json

import numpy as np
import torch
from torch import Tensor

from model.codec import SpectralCodec
from model.config import PRESETS
from model.errors import TrainingError
from model.training.crops import token_path
from model.training.data import AudioStore, TokenStore
from model.training.frozen import load_part
from model.training.loop import TrainingOptions, TrainingRun, adamw
from model.training.report import Check, Report
from model.training.train_codec import MAX_DRAWS, SILENT, Distances, draw_depths, listen, measure

CROP_FRAMES = 72
EDGE_FRAMES = 8  # decoded for their context only, at each end
BATCH = 12
LEARNING_RATE = 5e-4
WEIGHTS = {"pesq": 2.0, "envelope": 6.0, "mel": 2.0, "complex": 20.0}


def train(options: TrainingOptions) -> Report:
    """Train into `options.out`/decoder, from `options.out`/codec and the codes under `options.out`/cache."""
    config = PRESETS[options.preset].codec
    codec = load_part(options.out, "codec")
    assert isinstance(codec, SpectralCodec)
    if codec.config != config:
        raise TrainingError(
            f"{options.out}/codec is {json.dumps(codec.config.to_dict())}, not {options.preset!r}"
        )
    store = AudioStore.build(options.data, options.out / "cache", "train")
    valid = AudioStore.build(options.data, options.out / "cache", "valid")
    codes = TokenStore.open(token_path(options.out / "cache", "train", "codes"))
    trained = [codec.decoder_linear, codec.decoder_in, codec.decoder, codec.decoder_out]
    for module in trained:
        module.requires_grad_(True)
    run = TrainingRun(
        options, "decoder", config, {"codec": codec},
        {"main": adamw(trained, LEARNING_RATE, weight_decay=0.01, betas=(0.8, 0.95))},
        averaged=["codec"], decay=0.998,
    )  # fmt: skip
    distances = Distances().to(run.device)
    before = measure(run, valid, distances)
    edge = EDGE_FRAMES * codec.hop_length
    for _ in run:
        drawn = [crop(store, codes, run.rng, codec.hop_length) for _ in range(BATCH)]
        waveform = torch.stack([sound for sound, _ in drawn]).to(run.device)
        depths = draw_depths(run.rng, BATCH, config.num_codebooks)
        latents = torch.cat(
            [
                codec.quantizer.decode(row[None, :depth].to(run.device))
                for (_, row), depth in zip(drawn, depths.tolist(), strict=True)
            ]
        )
        with run.autocast():
            output = codec.synthesize(latents)
        losses = distances(output[:, edge:-edge], waveform[:, edge:-edge], run.rng)
        run.update(torch.stack([WEIGHTS[name] * value for name, value in losses.items()]).sum())
        run.log(**losses)
        if run.due("valid", minutes=3.0):
            run.log(**{f"valid_{name}": value for name, value in measure(run, valid, distances).items()})
            run.save_weights("codec")
            listen(run, valid)
    run.save_weights("codec")
    after = measure(run, valid, distances)
    return run.finish([Check("PESQ distance (limit: before)", after["pesq"], before["pesq"])], **after)


def crop(store: AudioStore, codes: TokenStore, rng: np.random.Generator, hop: int) -> tuple[Tensor, Tensor]:
    """A random stretch that is not silence: waveform [CROP_FRAMES * hop] and its codes [K, CROP_FRAMES]."""
    for _ in range(MAX_DRAWS):
        index = int(store.draw(rng, 1)[0])
        waveform, tokens = store.waveform(index), codes.tokens(store.files[index].key)
        start = int(rng.integers(max(1, len(waveform) // hop - CROP_FRAMES + 1)))
        sound = waveform[start * hop : (start + CROP_FRAMES) * hop]
        if len(sound) == CROP_FRAMES * hop and np.sqrt(np.mean(sound**2)) > SILENT:
            return torch.from_numpy(sound), torch.from_numpy(tokens[:, start : start + CROP_FRAMES])
    raise TrainingError(f"found no {CROP_FRAMES * hop} samples above {SILENT} rms in {MAX_DRAWS} recordings")
