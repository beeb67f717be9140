"""Training of the tokenizer: masks, perturbation, targets, a few steps that learn, clustering."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from model.config import PRESETS
from model.tokenizer import ConformerTokenizer
from model.training import aligned, tokenizer_batches
from model.training.aligned import AlignedClips
from model.training.clustering import SpectrogramTokenizer, cluster, cluster_use, fit_mel_statistics
from model.training.data import AudioStore, Recording
from model.training.loop import adamw
from model.training.tokenizer_batches import (
    CORPUS_ROWS,
    HIDDEN_BANDS,
    MASKED_SHARE,
    NO_PHONE,
    SPAN,
    Batches,
    perturb,
    span_mask,
)
from model.training.tokenizer_checks import probe_scores, speaker_score
from model.training.train_tokenizer import MaskedPrediction, losses

TINY = PRESETS["tiny"].tokenizer
CROP_SECONDS = 1.6  # shorter than in use, for speed


def tones(rng: np.random.Generator, count: int, num_samples: int) -> npt.NDArray[np.int16]:
    """[count, N] int16: every half second another of four tones."""
    choice = rng.integers(4, size=(count, -(-num_samples // 8000))).repeat(8000, axis=1)[:, :num_samples]
    hertz = np.array([220.0, 440.0, 1000.0, 3000.0])[choice]
    phase = 2 * np.pi * np.cumsum(hertz, axis=1) / 16_000
    return (8000 * np.sin(phase) + 100 * rng.standard_normal(phase.shape)).astype(np.int16)


@pytest.fixture
def store() -> AudioStore:
    samples = tones(np.random.default_rng(0), 4, 16_000 * 6)
    files = [
        Recording(f"{kind}/{i}", "", kind, str(i), i * samples.shape[1], samples.shape[1])
        for i, kind in enumerate(("speech", "piano", "speech", "piano"))
    ]
    return AudioStore(files, samples.ravel())


@pytest.fixture
def clips() -> AlignedClips:
    """Tones as "phones" and as "keys": what sounds decides the label."""
    frames = round(CROP_SECONDS * aligned.FRAME_RATE)
    waveform = tones(np.random.default_rng(1), 16, round(CROP_SECONDS * 16_000))
    centers = ((np.arange(frames) + 0.5) * 640).astype(int)
    flips = np.abs(np.diff(np.sign(waveform.astype(int)), axis=1))
    crossings = np.stack([flips[:, c - 300 : c + 300].sum(1) for c in centers], 1)
    label = np.searchsorted([25, 55, 150], crossings // 2)  # [n, S]
    phones = np.where(np.arange(16)[:, None] < 8, label, -1)
    notes = np.zeros((16, frames, aligned.NUM_KEYS), bool)
    for row in range(8, 16):
        notes[row, np.arange(frames), 40 + label[row]] = True
    strikes = notes.copy()
    strikes[:, 1:] &= ~notes[:, :-1]
    return AlignedClips(waveform, phones, notes, strikes, np.arange(16))


def test_masks_are_spans_that_hide_the_stated_share() -> None:
    mask = span_mask(np.random.default_rng(0), 200, 100).numpy()
    assert abs(mask.mean() - MASKED_SHARE) < 0.02
    padded = np.pad(mask.astype(int), ((0, 0), (1, 1)))
    for row in np.diff(padded, axis=1):
        begin, end = np.flatnonzero(row == 1), np.flatnonzero(row == -1)
        inner = (begin > 0) & (end < 100)
        assert ((end - begin)[inner] >= SPAN).all()


def test_perturbation_shifts_voices_but_not_piano() -> None:
    rng = np.random.default_rng(0)
    mel = torch.full((40, 8, 80), -6.0)
    mel[:, :, 30] = 9.0
    speech = torch.arange(40) < 20
    heard = perturb(mel, rng, speech).mean(1)  # (40, 80)
    peak = heard.argmax(-1)
    assert (peak[20:] == 30).all()
    voices = peak[:20][heard[:20].amax(-1) > 4]  # of the others the peak itself is among the hidden bands
    assert len(voices) > 8 and len(voices.unique()) > 3 and int((voices - 30).abs().max()) < 12


def test_perturbation_hides_bands_of_voices_but_not_of_piano() -> None:
    mel = 4 + 4 * torch.sin(torch.arange(8.0))[None, :, None].expand(40, 8, 80)
    speech = torch.arange(40) < 20
    moving = perturb(mel, np.random.default_rng(0), speech).std(1) > 0.5  # (40, 80)
    assert moving[20:].all()
    hidden = (~moving[:20]).sum(-1)
    assert hidden.max() <= 2 * HIDDEN_BANDS and hidden.float().mean() > HIDDEN_BANDS / 2


def test_targets_ignore_a_fixed_equalizer() -> None:
    torch.manual_seed(0)
    model = MaskedPrediction(TINY)
    mel = torch.randn(2, 40, 80)
    targets = model.targets(mel)
    assert targets.shape == (2, 10, 4)
    assert torch.equal(targets, model.targets(mel + torch.randn(80)))
    assert len(targets.unique()) > 20


def test_batches_say_which_rows_are_what(
    store: AudioStore, clips: AlignedClips, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer_batches, "SECONDS", CROP_SECONDS)
    batch = Batches(store, clips).draw(np.random.default_rng(0))
    speech, phones, notes = batch.speech, batch.phones, batch.notes
    assert len(batch.waveform) == len(speech) == len(phones) == len(notes) == len(batch.strokes) == 13
    assert sorted(speech[:4].tolist()) == [False, False, True, True]  # two corpora, in turn
    assert speech[4:].tolist() == [True] * 6 + [False] * 3
    assert (phones[:4] == -1).all() and (phones[4:10] >= 0).all() and (phones[10:] == NO_PHONE).all()
    assert (notes[:10] == -1).all() and (notes[10:, :, :88].sum(-1) == 1).all()
    assert (notes[10:, :, 88:].sum(-1) <= 1).all() and (notes[10:, 0, 88:].sum(-1) == 1).all()
    assert (batch.strokes[:4] == -1).all()
    assert torch.equal(batch.strokes[10:], notes[10:, :, 88:].amax(-1))


def test_the_teacher_names_recordings_where_it_is_sure_and_nothing_where_it_is_not() -> None:
    torch.manual_seed(0)
    model = MaskedPrediction(TINY)
    mel, speech = torch.randn(2, 40, 80), torch.tensor([True, False])
    phones, notes, strokes = model.teach(mel, speech)
    assert bool(((strokes >= 0) & (strokes <= 1)).all())
    assert (phones[0] == -1).all()  # untrained weights are sure of nothing
    assert (phones[1] == NO_PHONE).all()
    assert (notes[0] == -1).all() and bool(((notes[1] >= 0) & (notes[1] <= 1)).all())
    with torch.no_grad():
        model.phone_head.bias[7] += 20
    assert (model.teach(mel, speech)[0][0] == 7).all()


def test_a_teacher_s_names_are_learnt_on_recordings(
    store: AudioStore, clips: AlignedClips, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer_batches, "SECONDS", CROP_SECONDS)
    torch.manual_seed(0)
    model, teacher = MaskedPrediction(TINY), MaskedPrediction(TINY)
    batch = Batches(store, clips).draw(np.random.default_rng(0))
    losses(model, np.random.default_rng(0), batch)
    assert (batch.phones[:CORPUS_ROWS] == -1).all()
    with torch.no_grad():
        teacher.phone_head.bias[7] += 20
    losses(model, np.random.default_rng(0), batch, teacher)
    assert sorted(batch.phones[:CORPUS_ROWS, 0].tolist()) == [7, 7, NO_PHONE, NO_PHONE]


def test_a_few_steps_learn_and_the_kept_layers_cluster(
    store: AudioStore, clips: AlignedClips, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer_batches, "SECONDS", CROP_SECONDS)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model = MaskedPrediction(TINY)
    fit_mel_statistics(model.encoder, store, rng)
    optimizer = adamw(model, 6e-3)
    batches = Batches(store, clips)
    history = []
    for _ in range(40):
        parts = losses(model, rng, batches.draw(rng))
        optimizer.zero_grad()
        (parts["masked"] + parts["phone"] + 0.2 * parts["note"] + parts["stroke"]).backward()
        optimizer.step()
        history.append({name: float(value.detach()) for name, value in parts.items()})
    for name, share in (("masked", 0.97), ("phone", 0.8), ("note", 0.8), ("stroke", 0.9)):
        first, last = (np.mean([h[name] for h in part]) for part in (history[:4], history[-4:]))
        assert last < share * first, (name, first, last)

    tokenizer = model.kept(TINY)
    waveform = store.crops(rng, 1, 2.0)
    mask, _ = model.encoder.masks(50, None, torch.device("cpu"))
    x = model.encoder.embed(model.encoder.normalize_mel(model.encoder.mel(waveform)))
    expected = model.encoder.layers[0](x, mask, None)  # tiny keeps one layer
    expected = model.encoder.narrow(expected)
    torch.testing.assert_close(tokenizer.features(waveform)[..., :-1], expected, atol=1e-4, rtol=1e-4)

    cluster(tokenizer, store, rng, 600)
    features = tokenizer.features(store.crops(rng, 8, 3.0)).flatten(0, 1)[:, :-1]
    assert features.mean(0).abs().max() < 1.0 and 0.5 < float(features.detach().std()) < 1.5
    assert cluster_use(tokenizer, store, rng, 16) >= 0.5
    phone, note = probe_scores(tokenizer, clips)
    assert phone > 0.4 and note > 0.3  # four tones: chance 0.25
    plain = SpectrogramTokenizer(tokenizer)
    cluster(plain, store, rng, 600)
    assert probe_scores(plain, clips)[0] > 0.4


def test_clustering_twice_keeps_features_normalized(store: AudioStore) -> None:
    torch.manual_seed(0)
    tokenizer = ConformerTokenizer(TINY).eval()
    for seed in (0, 1):
        cluster(tokenizer, store, np.random.default_rng(seed), 600)
        features = tokenizer.features(store.crops(np.random.default_rng(2), 8, 3.0)).flatten(0, 1).detach()
        assert 0.7 < float(features[:, :-1].std()) < 1.3
        assert 0.7 < float(features[:, -1].std()) / TINY.onset_weight < 1.3


def test_speaker_score_is_high_for_voices_that_differ_in_everything() -> None:
    torch.manual_seed(0)
    time = np.arange(5 * 16_000) / 16_000
    samples = np.stack(
        [8000 * np.sin(2 * np.pi * hertz * time) for hertz in (200, 500, 1200, 3000) for _ in range(4)]
    )
    files = [
        Recording(f"c/{i}", "", "speech", f"speaker {i // 4}", i * samples.shape[1], samples.shape[1])
        for i in range(len(samples))
    ]
    store = AudioStore(files, samples.astype(np.int16).ravel())
    tokenizer = ConformerTokenizer(TINY).eval()
    cluster(tokenizer, store, np.random.default_rng(1), 600)
    assert speaker_score(tokenizer, store) > 0.9
