"""Trained parts as the next parts see them: loaded from a run, and their tokens of every recording, made once.

The stages train on what the frozen tokenizer and codec make of the corpora. Encoders are fingerprinted by their
weights: other weights, other tokens; a grown corpus costs only what is new.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from model.bundle import KINDS, Kind
from model.codec import SpectralCodec
from model.config import OperatingPoint
from model.errors import TrainingError
from model.linear import replace_linears
from model.training.crops import token_path
from model.training.data import AudioStore, TokenStore
from model.training.loop import TrainingOptions, training_device

ENCODERS = {"tokenizer": "semantic", "codec": "codes"}  # part -> what its tokens are called in the cache
SPLITS = ("train", "valid")
POINTS = "operating_points.json"  # of a detector: measured when it is trained, so not in its config.json


def load_part(run_dir: Path, part: str) -> nn.Module:
    """The part's exported weights in eval mode. Raises TrainingError when it has none, or others than its config."""
    kind: Kind = next(kind for kind in KINDS if kind.part == part)
    folder = run_dir / part
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise TrainingError(f"{folder} holds no {name}: train the {part} first")
    values = json.loads((folder / "config.json").read_text())
    if (folder / POINTS).is_file():
        values["operating_points"] = json.loads((folder / POINTS).read_text())
    module = kind.build(kind.config.from_dict(values))
    try:
        module.load_state_dict(load_file(folder / "model.safetensors"))
    except RuntimeError as error:
        raise TrainingError(f"{folder / 'model.safetensors'}: {error}") from error
    return module.eval().requires_grad_(False)


def save_operating_points(run_dir: Path, points: Sequence[OperatingPoint]) -> None:
    """Keep what was measured of the run's detector, for `load_part`."""
    values = [point.to_dict() for point in points]
    (run_dir / "detector" / POINTS).write_text(json.dumps(values, indent=1) + "\n")


def load_codebooks(run_dir: Path) -> Tensor:
    """The trained codec's codebooks [K, V, D]. Raises TrainingError when there is none."""
    codec = load_part(run_dir, "codec")
    assert isinstance(codec, SpectralCodec)
    return codec.quantizer.codebooks


def encoder_fingerprint(module: nn.Module) -> str:
    """Digest of the weights that tokens depend on: a decoder that goes on training changes no token."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if not name.startswith("decoder"):
            digest.update(name.encode())
            digest.update(value.cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def encode_corpora(options: TrainingOptions, part: str) -> None:
    """Fill `options.out / "cache"` with what the trained `part`, tokenizer or codec, makes of every recording.

    Costs nothing when it is all there. Raises TrainingError when the part is not trained.
    """
    module = load_part(options.out, part).to(device := training_device(options))
    fingerprint = encoder_fingerprint(module)
    replace_linears(module)  # as in use
    cache = options.out / "cache"

    @torch.inference_mode()
    def encode(waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        tokens = module.encode(torch.from_numpy(waveform).to(device)[None])  # type: ignore[operator]
        rows = tokens[0] if part == "codec" else tokens  # (K, T) or (1, S)
        return np.asarray(rows.cpu().numpy(), np.int64)

    for split in SPLITS:
        store = AudioStore.build(options.data, cache, split)
        TokenStore.build(token_path(cache, split, ENCODERS[part]), store, fingerprint, encode)
