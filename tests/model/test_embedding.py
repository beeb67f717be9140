"""A stage's table of codes starts from the codec's vectors."""

from __future__ import annotations

import torch

from model.config import PRESETS
from model.stages import CoarseStage
from model.training.embedding import SPREAD, start_from_codebooks


def test_codes_that_sound_alike_start_alike_and_every_level_is_heard() -> None:
    torch.manual_seed(0)
    stage = CoarseStage(PRESETS["tiny"].coarse)
    size = stage.vocab_size
    codebooks = torch.randn(12, size, 16) * (0.7 ** torch.arange(12))[:, None, None]
    codebooks[0, 1] = codebooks[0, 0] + 0.01
    others = stage.table.weight[stage.none_row :].clone()
    start_from_codebooks(stage, codebooks)
    rows = stage.table.weight[: stage.none_row].unflatten(0, (4, size)).detach()
    like, unlike = torch.cosine_similarity(rows[0, :1], rows[0, 1:3]).tolist()
    assert like > 0.8 > 0.5 > abs(unlike)
    spreads = rows.square().mean((1, 2)).sqrt()
    assert abs(float(spreads[0]) / SPREAD - 1) < 0.1
    assert (spreads > 0.5 * SPREAD).all()
    assert torch.equal(stage.table.weight[stage.none_row :], others)
