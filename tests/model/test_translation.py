"""Stages that go on with other tokens: what they knew of the old ones, they know of the new ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from model.config import PRESETS, TokenizerConfig
from model.errors import TrainingError
from model.stages import CoarseStage, SemanticStage
from model.tokenizer import ConformerTokenizer
from model.training.data import AudioStore, TokenStore
from model.training.frozen import encoder_fingerprint
from model.training.loop import TrainingOptions
from model.training.translation import shared_frames, start_stage, translated

TINY = PRESETS["tiny"]
CLUSTERS = TINY.tokenizer.num_clusters
ORDER = (torch.arange(CLUSTERS) * 7 + 3) % CLUSTERS  # the new token of each old one
RENAMED = torch.eye(CLUSTERS)[torch.argsort(ORDER)] * 5  # counts [new, old]


def test_renamed_tokens_change_no_prediction_of_the_semantic_stage() -> None:
    torch.manual_seed(0)
    old, new = SemanticStage(TINY.semantic).eval(), SemanticStage(TINY.semantic).eval()
    new.load_state_dict(translated(old.state_dict(), new, RENAMED))
    tokens = torch.randint(0, CLUSTERS, (2, 1, 30))
    tokens[0, 0, 9] = old.none_id
    renamed = torch.where(tokens == old.none_id, tokens, ORDER[tokens.clamp(max=CLUSTERS - 1)])
    with torch.no_grad():
        expected, found = old(tokens), new(renamed)
    torch.testing.assert_close(found[..., ORDER], expected)


def test_renamed_tokens_change_no_prediction_of_the_coarse_stage() -> None:
    torch.manual_seed(0)
    old, new = CoarseStage(TINY.coarse).eval(), CoarseStage(TINY.coarse).eval()
    new.load_state_dict(translated(old.state_dict(), new, RENAMED))
    grid = torch.randint(0, TINY.coarse.vocab_size, (2, 4, 40))
    tokens = torch.randint(0, CLUSTERS, (2, 20))
    with torch.no_grad():
        torch.testing.assert_close(new(grid, ORDER[tokens]), old(grid, tokens))


def test_a_token_begins_as_the_mean_of_those_whose_frames_it_has() -> None:
    torch.manual_seed(0)
    old = SemanticStage(TINY.semantic)
    counts = torch.zeros(2 * CLUSTERS, CLUSTERS)  # more tokens than before
    counts[0, 3], counts[0, 5] = 3, 1
    counts[1] = 1
    table = old.table.weight.detach()
    new = SemanticStage(replace(TINY.semantic, vocab_size=2 * CLUSTERS))
    rows = translated(old.state_dict(), new, counts)["table.weight"]
    assert rows.shape == new.table.weight.shape
    torch.testing.assert_close(rows[0], 0.75 * table[3] + 0.25 * table[5])
    never = (counts.sum(0)[:, None] * table[:CLUSTERS]).sum(0) / counts.sum()
    torch.testing.assert_close(rows[7], never)
    assert torch.equal(rows[-1], table[-1])  # "none"


def test_a_token_is_musical_when_most_of_its_frames_were() -> None:
    old, new = SemanticStage(TINY.semantic), SemanticStage(TINY.semantic)
    old.musical[3] = True  # type: ignore[index]
    counts = torch.eye(CLUSTERS)
    counts[5, 3], counts[6, 3] = 2, 0.5
    musical = translated(old.state_dict(), new, counts)["musical"]
    assert musical.nonzero().flatten().tolist() == [3, 5] and len(musical) == CLUSTERS + 1


def test_the_tokens_of_two_runs_are_counted_on_the_same_frames(tmp_path: Path) -> None:
    torch.manual_seed(0)
    samples = np.random.default_rng(0).normal(0, 3000, 64_000).astype(np.int16)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    cache = tmp_path / "new" / "cache"
    cache.mkdir(parents=True)
    new, old = (_write_tokenizer(tmp_path / name, TINY.tokenizer) for name in ("new", "old"))
    _write_corpus(corpus, samples)
    options = TrainingOptions("tiny", (corpus,), tmp_path / "new", 1.0, start=tmp_path / "old")
    store = AudioStore.build([corpus], cache, "train")
    waveform = torch.from_numpy(store.waveform(0))[None]
    ours, theirs = new.encode(waveform)[0], old.encode(waveform)[0]
    TokenStore.build(
        cache / "train.semantic.json", store, encoder_fingerprint(new), lambda _: ours[None].numpy()
    )
    counts = shared_frames(options)
    assert counts is not None and int(counts.sum()) == len(ours)
    assert all(counts[a, b] > 0 for a, b in zip(ours, theirs, strict=True))
    assert shared_frames(replace(options, start=options.out)) is None

    source, stage = SemanticStage(TINY.semantic), SemanticStage(TINY.semantic)
    (tmp_path / "old" / "semantic").mkdir()
    save_file(source.state_dict(), tmp_path / "old" / "semantic" / "model.safetensors")
    start_stage(stage, options)
    torch.testing.assert_close(
        stage.table.weight, translated(source.state_dict(), stage, counts)["table.weight"]
    )


def test_stages_are_not_translated_to_tokens_of_another_rate(tmp_path: Path) -> None:
    for name, hop_length in (("new", 320), ("old", 640)):
        _write_tokenizer(tmp_path / name, replace(TINY.tokenizer, hop_length=hop_length))
    options = TrainingOptions("tiny", (), tmp_path / "new", 1.0, start=tmp_path / "old")
    with pytest.raises(TrainingError, match=r"old has 25 tokens a second, .*new 50"):
        shared_frames(options)


def _write_tokenizer(run: Path, config: TokenizerConfig) -> ConformerTokenizer:
    tokenizer = ConformerTokenizer(config).eval()
    (run / "tokenizer").mkdir(parents=True)
    (run / "tokenizer" / "config.json").write_text(json.dumps(config.to_dict()))
    save_file(tokenizer.state_dict(), run / "tokenizer" / "model.safetensors")
    return tokenizer


def _write_corpus(folder: Path, samples: np.ndarray) -> None:
    import soundfile

    soundfile.write(folder / "one.wav", samples, 16_000)
    columns = "path,kind,speaker,split,seconds,licence,source"
    (folder / "manifest.csv").write_text(f"{columns}\none.wav,speech,nobody,train,4.0,CC0,test\n")
