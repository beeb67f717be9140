"""A stage's weights from one tokenizer's tokens to another's, so that better tokens do not cost what was learnt.

What a stage knows of a token stands in the rows of its table: each row of a new token begins as the mean of the rows of
the old tokens that the same frames of recordings had, weighted by how often. Everything else stays as it is. Rows that
are no clusters ("none", codes, places within a frame) are carried over.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from model.errors import TrainingError
from model.stages import AutoregressiveStage, Stage
from model.tokenizer import SemanticTokenizer
from model.training.checkpoint import read_weights, take_weights
from model.training.crops import token_path
from model.training.data import AudioStore, TokenStore
from model.training.frozen import encoder_fingerprint, load_part
from model.training.options import TrainingOptions

COMPARED_RECORDINGS = 600  # of the training split, at random: an hour or two


def start_stage(stage: Stage, options: TrainingOptions) -> None:
    """Copy the weights of the stage in `options.start` into `stage`, in terms of the tokens of `options.out`.

    Raises TrainingError where there are none, or they fit no table of this preset.
    """
    assert options.start is not None
    path = options.start / stage.kind / "model.safetensors"
    weights = read_weights(path)
    counts = shared_frames(options) if stage.kind != "fine" else None
    if counts is not None:
        weights = translated(weights, stage, counts)
    weights.pop("struck", None)  # the tokenizer says
    if isinstance(stage, AutoregressiveStage) and stage.musical is not None and stage.musical.any():
        weights.pop("musical", None)  # the corpora say
    take_weights(stage, weights, path)


@torch.inference_mode()
def shared_frames(options: TrainingOptions) -> Tensor | None:
    """How many frames have each pair of tokens, [new clusters, old clusters]; None where both tokenizers are one.

    Raises TrainingError where their frames are not of the same length.
    """
    assert options.start is not None
    if not (options.start / "tokenizer" / "model.safetensors").is_file():
        return None  # a run of stages alone: its tokens are taken for the same
    if not (options.out / "tokenizer" / "model.safetensors").is_file():
        return None
    new, old = load_part(options.out, "tokenizer"), load_part(options.start, "tokenizer")
    assert isinstance(new, SemanticTokenizer) and isinstance(old, SemanticTokenizer)
    if encoder_fingerprint(new) == encoder_fingerprint(old):
        return None
    if new.hop_length != old.hop_length:
        raise TrainingError(
            f"{options.start} has {old.frame_rate:g} tokens a second, {options.out} {new.frame_rate:g}: its stages "
            "cannot be translated"
        )
    cache = options.out / "cache"
    store = AudioStore.build(options.data, cache, "train")
    tokens = TokenStore.open(token_path(cache, "train", "semantic"))
    counts = torch.zeros(new.num_clusters * old.num_clusters)
    order = np.random.default_rng(0).permutation(len(store.files))
    for index in order[:COMPARED_RECORDINGS]:
        ours = torch.from_numpy(tokens.tokens(store.files[index].key)[0])
        theirs = old.encode(torch.from_numpy(store.waveform(index))[None])[0]
        counts += torch.bincount(ours * old.num_clusters + theirs, minlength=len(counts))
    return counts.view(new.num_clusters, old.num_clusters)


def translated(weights: Mapping[str, Tensor], stage: Stage, counts: Tensor) -> dict[str, Tensor]:
    """`weights` of a stage on old tokens, counts [new, old] -> the same with the rows of new tokens in its table."""
    table = weights["table.weight"]
    new, old = counts.shape
    everywhere = counts.sum(0, keepdim=True)  # what a token that never occurs begins as
    shares = torch.where(counts.sum(1, keepdim=True) > 0, counts, everywhere)
    shares = shares / shares.sum(1, keepdim=True)
    if stage.kind == "semantic":
        rows = torch.cat([shares @ table[:old], table[old:]])
        rows = torch.cat([rows, stage.table.weight.detach()[len(rows) :]])  # of a pulse, if weights had none
    else:
        blocks, first = stage.config.lookahead + 1, stage.none_row + 1
        ahead = table[first : first + blocks * (old + 1)].view(
            blocks, old + 1, -1
        )  # the last of each is "none"
        ahead = torch.cat([shares @ ahead[:, :old], ahead[:, old:]], 1)
        assert ahead.shape[1] == new + 1
        rows = torch.cat([table[:first], ahead.flatten(0, 1), table[first + blocks * (old + 1) :]])
    moved = {**weights, "table.weight": rows}
    if "musical" in weights:
        moved["musical"] = torch.cat(
            [shares @ weights["musical"][:old].float() > 0.5, weights["musical"][old:]]
        )
    return moved
