"""Settings of rows that share a batch do not touch each other."""

from __future__ import annotations

import torch

from model.engine.lanes import Settings
from model.engine.plan import Plan
from model.engine.sequence import Prompt, Sequence
from model.sampling import Sampling, sample, sample_with
from tests.conftest import chord
from tests.model.engine.fakes import RecordingSink


def make_sequence(slot: int, **options: object) -> Sequence:
    plan: Plan = None  # type: ignore[assignment]
    return Sequence(
        id="", sink=RecordingSink(), prompt=Prompt(chord(0.1)), plan=plan, seed=slot, slot=slot, **options
    )  # type: ignore[arg-type]


def test_a_row_draws_the_same_beside_rows_that_narrow() -> None:
    settings = Settings(3, 1, (0.8,), torch.device("cpu"))
    for slot, options in enumerate(({}, {"top_k": 3}, {"top_p": 0.5})):
        settings.open(make_sequence(slot, **options))
    rng = torch.Generator().manual_seed(0)
    slots = torch.arange(3)
    for step in range(200):
        logits = torch.randn(3, 4, 64, generator=rng) * 3
        steps = torch.full((3,), step)
        together = sample(logits, settings.of(slots, narrowed_k=True, narrowed_p=True), steps)
        alone = settings.of(slots[:1], narrowed_k=False, narrowed_p=False)
        assert torch.equal(together[:1], sample(logits[:1], alone, steps[:1]))


def test_an_open_row_keeps_its_rarest_ids() -> None:
    weights = torch.full((1, 1, 4096), 3e-8)
    weights[..., 0] = 1.0
    one = torch.ones(1)
    keys = torch.zeros(1, dtype=torch.int64)
    noise = torch.tensor([[1 - 1e-9]], dtype=torch.float64)
    drawn = sample_with(weights.log(), noise, Sampling(one[:, None], keys))
    assert int(drawn) > 4000
    assert torch.equal(drawn, sample_with(weights.log(), noise, Sampling(one[:, None], keys, top_p=one)))
