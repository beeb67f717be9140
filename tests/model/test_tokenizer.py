"""The semantic tokenizer: rates and lengths, independence of batch, padding, gain and windows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model import tokenizer as module
from model.config import PRESETS, TokenizerConfig
from model.tokenizer import ConformerTokenizer, onset_strength


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


def test_a_struck_note_shows_in_its_token_and_no_other() -> None:
    """Also where another note dies away meanwhile, so that the sound as a whole gets no louder."""
    tokenizer = ConformerTokenizer(PRESETS["tiny"].tokenizer)
    time = torch.arange(3 * 16_000) / 16_000
    waveform = 1e-3 * noise(1, len(time))
    struck = {0.5: 220.0, 1.3: 330.0, 1.94: 247.0}  # seconds, in the middle of a token: hertz
    for start, hertz in struck.items():
        since = time - start
        partials = sum(torch.sin(2 * torch.pi * hertz * k * since) / k for k in range(1, 12))
        waveform += 0.1 * partials * torch.exp(-3 * since.clamp(min=0)) * (since >= 0)
    strength = onset_strength(tokenizer.mel(waveform))[0, :, 0]
    found = (strength > 0.5).nonzero().flatten().tolist()
    assert found == [int(start / 0.04) for start in struck]


@pytest.mark.parametrize("learnt", [False, True])
def test_the_last_dimension_holds_how_struck_a_frame_is(learnt: bool) -> None:
    torch.manual_seed(0)
    tokenizer = ConformerTokenizer(replace(PRESETS["tiny"].tokenizer, hears_strokes=learnt)).eval()
    waveform = noise(1, 20_000)
    tokenizer.feature_mean[-1], tokenizer.feature_std[-1] = 0.25, 0.5
    heard = tokenizer.mel(waveform)
    struck = onset_strength(heard)
    if learnt:
        struck = tokenizer.stroke(tokenizer.hidden(tokenizer.normalize_mel(heard))).sigmoid()
    torch.testing.assert_close(tokenizer.features(waveform)[..., -1], (struck[..., 0] - 0.25) / 0.5)


def test_tokens_are_struck_whose_centroid_says_so(tokenizer: ConformerTokenizer) -> None:
    assert tokenizer.config.num_clusters == 16
    tokenizer.feature_mean[-1], tokenizer.feature_std[-1] = 0.3, 0.1
    tokenizer.centroids[:, -1] = torch.arange(16.0) - 8  # strengths of -0.5 to 1.0
    assert tokenizer.struck.nonzero().flatten().tolist() == [11, 12, 13, 14, 15]


def test_the_bottleneck_gives_every_frame_the_same_length(tokenizer: ConformerTokenizer) -> None:
    waveform = noise(1, 20_000)
    narrow = tokenizer.features(waveform)[..., :-1]
    assert narrow.shape[-1] == tokenizer.config.bottleneck_dim
    torch.testing.assert_close(narrow.square().mean(-1), torch.ones(narrow.shape[:-1]), atol=1e-3, rtol=1e-3)


def test_a_config_from_before_onsets_and_bottleneck_gives_what_it_gave(tokenizer: ConformerTokenizer) -> None:
    values = tokenizer.config.to_dict()
    del values["onset_weight"], values["bottleneck_dim"], values["hears_strokes"]
    old = ConformerTokenizer(TokenizerConfig.from_dict(values)).eval()
    state = tokenizer.state_dict()
    for name in old.state_dict():
        if name in ("feature_mean", "feature_std", "centroids"):
            state[name] = old.state_dict()[name]
    old.load_state_dict({name: state[name] for name in old.state_dict()})
    waveform = noise(1, 20_000)
    hidden = old.hidden(old.normalize_mel(old.mel(waveform)))
    assert torch.equal(old.features(waveform), hidden)
    torch.testing.assert_close(tokenizer.features(waveform)[..., :-1], tokenizer.narrow(hidden))


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
