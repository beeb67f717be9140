"""Trained parts as the next parts see them: loaded from a run, and their tokens of every recording, made once.

The stages train on what the frozen tokenizer and codec make of the corpora. Both encoders are fingerprinted by their
weights: other weights, other tokens; a grown corpus costs only what is new.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import nn

from model.bundle import KINDS, Kind
from model.errors import TrainingError
from model.training.crops import token_path
from model.training.data import AudioStore, TokenStore
from model.training.loop import TrainingOptions, training_device

ENCODERS = {"tokenizer": "semantic", "codec": "codes"}  # part -> what its tokens are called in the cache
SPLITS = ("train", "valid")


def load_part(run_dir: Path, part: str) -> nn.Module:
    """The part's exported weights in eval mode. Raises TrainingError when it has none, or others than its config."""
    kind: Kind = next(kind for kind in KINDS if kind.part == part)
    folder = run_dir / part
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise TrainingError(f"{folder} holds no {name}: train the {part} first")
    module = kind.build(kind.config.from_dict(json.loads((folder / "config.json").read_text())))
    try:
        module.load_state_dict(load_file(folder / "model.safetensors"))
    except RuntimeError as error:
        raise TrainingError(f"{folder / 'model.safetensors'}: {error}") from error
    return module.eval().requires_grad_(False)


def load_codec(run_dir: Path) -> nn.Module:
    """The codec with its refined decoder, if one was trained. Raises TrainingError when that decodes other codes."""
    codec = load_part(run_dir, "codec")
    refined = run_dir / "decoder" / "model.safetensors"
    if not refined.is_file():
        return codec
    weights = load_file(refined)
    for name, value in codec.state_dict().items():
        if name.startswith(("encoder", "quantizer")) and not torch.equal(value, weights[name]):
            raise TrainingError(
                f"{refined} was refined from another codec: train the decoder again, or remove it"
            )
    codec.load_state_dict(weights)
    return codec


def encode_corpora(options: TrainingOptions, part: str) -> None:
    """Fill `options.out / "cache"` with what the trained `part`, tokenizer or codec, makes of every recording.

    Costs nothing when it is all there. Raises TrainingError when the part is not trained.
    """
    module = load_part(options.out, part).to(device := training_device(options))
    fingerprint = hashlib.sha256((options.out / part / "model.safetensors").read_bytes()).hexdigest()
    cache = options.out / "cache"

    @torch.inference_mode()
    def encode(waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        tokens = module.encode(torch.from_numpy(waveform).to(device)[None])  # type: ignore[operator]
        rows = tokens[0] if part == "codec" else tokens  # (K, T) or (1, S)
        return np.asarray(rows.cpu().numpy(), np.int64)

    for split in SPLITS:
        store = AudioStore.build(options.data, cache, split)
        TokenStore.build(token_path(cache, split, ENCODERS[part]), store, fingerprint, encode)
