"""The semantic tokenizer: rates and lengths, independence of batch, padding, gain and windows."""

from __future__ import annotations

import pytest
import torch

from model import tokenizer as module
from model.config import PRESETS, TokenizerConfig
from model.tokenizer import ConformerTokenizer


@pytest.fixture
def tokenizer() -> ConformerTokenizer:
    torch.manual_seed(0)
    return ConformerTokenizer(PRESETS["tiny"].tokenizer).eval()


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    """Noise whose loudness wanders, so that frames differ."""
    generator = torch.Generator().manual_seed(seed)
    wave = torch.randn(*shape, generator=generator)
    return 0.1 * wave * (1 + torch.sin(torch.arange(shape[-1]) / 900.0))


@pytest.mark.parametrize("num_samples", [1, 639, 640, 641, 16_000, 16_001, 24_321])
def test_one_token_per_started_hop(tokenizer: ConformerTokenizer, num_samples: int) -> None:
    tokens = tokenizer.encode(noise(2, num_samples))
    assert tokenizer.frame_rate == 25.0
    assert tokens.shape == (2, -(-num_samples // 640))
    assert tokens.dtype == torch.int64
    assert int(tokens.min()) >= 0 and int(tokens.max()) < tokenizer.num_clusters


def test_gain_changes_no_token(tokenizer: ConformerTokenizer) -> None:
    waveform = noise(1, 20_000)
    quiet, loud = tokenizer.features(0.01 * waveform), tokenizer.features(3.0 * waveform)
    torch.testing.assert_close(quiet, loud, atol=2e-3, rtol=0)
    assert len(tokenizer.encode(waveform).unique()) > 1  # else the test could not fail


def test_silence_is_encoded_without_nan(tokenizer: ConformerTokenizer) -> None:
    assert torch.isfinite(tokenizer.features(torch.zeros(1, 5_000))).all()


def test_a_row_does_not_depend_on_its_batch_or_padding(tokenizer: ConformerTokenizer) -> None:
    lengths = torch.tensor([20_000, 7_777, 640])
    batch = noise(3, 20_000)  # what lies beyond a row's length is noise, not zeros
    features = tokenizer.features(batch, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = tokenizer.features(batch[row : row + 1, :length])
        torch.testing.assert_close(features[row : row + 1, : alone.shape[1]], alone, atol=1e-4, rtol=1e-4)


def test_windows_give_the_same_as_one_pass(
    tokenizer: ConformerTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    waveform, lengths = noise(2, 16_000 * 8), torch.tensor([16_000 * 8, 16_000 * 5 + 3])
    whole = tokenizer.features(waveform, lengths)
    monkeypatch.setattr(module, "WINDOW_FRAMES", 40)
    cut = tokenizer.features(waveform, lengths)
    torch.testing.assert_close(cut[0], whole[0], atol=1e-4, rtol=1e-4)
    inside = -(-int(lengths[1]) // 640)
    torch.testing.assert_close(cut[1, :inside], whole[1, :inside], atol=1e-4, rtol=1e-4)


def test_context_bounds_what_a_frame_depends_on(tokenizer: ConformerTokenizer) -> None:
    mel = torch.randn(1, 4 * 120, 80)
    before = tokenizer.hidden(mel)
    changed = mel.clone()
    changed[:, 4 * 60 : 4 * 61] += 1.0
    moved = (tokenizer.hidden(changed) - before).abs().amax(-1)[0] > 1e-6
    left, right = tokenizer.context
    assert moved[60]
    assert not moved[: 60 - right].any() and not moved[60 + left + 1 :].any()


def test_the_same_input_gives_the_same_tokens_under_autocast(tokenizer: ConformerTokenizer) -> None:
    waveform = noise(1, 30_000)
    with torch.autocast("cpu", torch.bfloat16):
        inside = tokenizer.encode(waveform)
    assert torch.equal(inside, tokenizer.encode(waveform))


def test_state_is_complete_and_strict(tokenizer: ConformerTokenizer) -> None:
    torch.manual_seed(1)
    other = ConformerTokenizer(tokenizer.config).eval()
    waveform = noise(1, 30_000)
    assert not torch.equal(other.encode(waveform), tokenizer.encode(waveform))
    other.load_state_dict(tokenizer.state_dict(), strict=True)
    assert torch.equal(other.encode(waveform), tokenizer.encode(waveform))
    missing = tokenizer.state_dict()
    del missing["centroids"]
    with pytest.raises(RuntimeError, match="centroids"):
        other.load_state_dict(missing, strict=True)


def test_nearest_centroid_wins(tokenizer: ConformerTokenizer) -> None:
    tokens = torch.tensor([[3, 0, 15]])
    assert torch.equal(tokenizer.assign(tokenizer.centroids[tokens] + 0.01), tokens)


def test_config_survives_json() -> None:
    config = PRESETS["starter"].tokenizer
    assert TokenizerConfig.from_dict(config.to_dict()) == config
