"""The three stages' trainings, on token sequences whose rule they must find."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file

from model.codec import SpectralCodec
from model.config import PRESETS
from model.errors import TrainingError
from model.stages import FineStage, SemanticStage
from model.tokenizer import ConformerTokenizer
from model.training import train_coarse, train_fine, train_semantic
from model.training.crops import TokenCrops, musical_tokens, token_path
from model.training.data import MANIFEST_COLUMNS, AudioStore, Recording, TokenStore
from model.training.frozen import load_part
from model.training.loop import TrainingOptions
from model.training.prediction import PROMPT_SECONDS, hide_padding, prompt_lengths, with_noise

CLUSTERS, CODES = PRESETS["tiny"].tokenizer.num_clusters, PRESETS["tiny"].codec.codebook_size


def semantic_of(waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """A walk that depends on two tokens back, which no previous-token baseline can follow: [1, S]."""
    tokens = [len(waveform) % CLUSTERS, 3]
    while len(tokens) < -(-len(waveform) // 640):
        tokens.append((tokens[-2] + 5) % CLUSTERS)
    return np.array(tokens)[None]


def codes_of(waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Codes that follow from the semantic token and the level below: [12, T]."""
    frames = -(-len(waveform) // 320)
    rows = [np.repeat(semantic_of(waveform)[0], 2)[:frames]]
    for level in range(1, 12):
        rows.append((rows[-1] * 3 + level) % CODES)
    return np.stack(rows)


def leave(part: SpectralCodec | ConformerTokenizer, folder: Path) -> None:
    """As its training would."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(part.config.to_dict()))
    save_file(part.state_dict(), folder / "model.safetensors")


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> TrainingOptions:
    root = tmp_path_factory.mktemp("training")
    rng = np.random.default_rng(0)
    corpus = root / "corpus"
    corpus.mkdir()
    lines = [",".join(MANIFEST_COLUMNS)]
    for split, count in (("train", 24), ("valid", 4)):
        for i in range(count):
            samples = int(rng.integers(30_000, 90_000))
            soundfile.write(corpus / f"{split}{i}.wav", np.zeros(samples, np.float32), 16_000)
            lines.append(
                f"{split}{i}.wav,{'piano' if i % 2 else 'speech'},nobody,{split},{samples / 16_000},CC0,test"
            )
    (corpus / "manifest.csv").write_text("\n".join(lines) + "\n")
    chosen = TrainingOptions(
        preset="tiny",
        data=(corpus,),
        out=root / "run",
        minutes=1.0,
        device="cpu",
        max_steps=60,
        seed=1,
        batch=6,
    )
    codec = SpectralCodec(PRESETS["tiny"].codec)  # its codebooks are where the tables start
    leave(codec, chosen.out / "codec")
    tokenizer = ConformerTokenizer(PRESETS["tiny"].tokenizer)  # it says which tokens are strokes
    tokenizer.feature_mean[-1] = 0.5
    leave(tokenizer, chosen.out / "tokenizer")
    cache = chosen.out / "cache"
    for split in ("train", "valid"):
        store = AudioStore.build([corpus], cache, split)
        TokenStore.build(token_path(cache, split, "semantic"), store, "test", semantic_of)
        TokenStore.build(token_path(cache, split, "codes"), store, "test", codes_of)
    return chosen


def test_crops_are_aligned_and_end_where_the_recording_ends(options: TrainingOptions) -> None:
    crops = TokenCrops.open(options.data, options.out / "cache", "valid", with_codes=True)
    drawn = crops.draw(np.random.default_rng(0), 16, 110)
    assert drawn.semantic.shape == (16, 110) and drawn.codes.shape == (16, 12, 220)
    assert int(drawn.lengths.min()) < 110
    for row, length in enumerate(drawn.lengths.tolist()):
        np.testing.assert_array_equal(
            drawn.codes[row, 0, : 2 * length].numpy(), np.repeat(drawn.semantic[row, :length].numpy(), 2)
        )
        assert int(drawn.codes[row, :, 2 * length :].abs().sum()) == 0


def test_speech_goes_on_with_its_speaker_and_music_ends(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    who = [("speech", "a"), ("speech", "b"), ("speech", "a"), ("piano", "a"), ("piano", "a"), ("speech", "c")]
    frames = [40, 50, 30, 45, 35, 20]
    files = [
        Recording(f"corpus/{i}", "", kind, speaker, 0, 640 * frames[i])
        for i, (kind, speaker) in enumerate(who)
    ]
    audio = AudioStore(files, np.zeros(max(frames) * 640, np.int16))
    each = iter(frames)  # every token and code says which recording it is of
    said = iter(range(len(frames)))
    semantic = TokenStore.build(
        tmp_path / "semantic.json", audio, "test", lambda _: np.full((1, next(each)), next(said))
    )
    each, said = iter(frames), iter(range(len(frames)))
    codes = TokenStore.build(
        tmp_path / "codes.json", audio, "test", lambda _: np.full((12, 2 * next(each)), next(said))
    )
    drawn = TokenCrops(audio, semantic, None).draw(rng, 200, 64)
    seen = set()
    for row, length in enumerate(drawn.lengths.tolist()):
        parts = tuple(dict.fromkeys(drawn.semantic[row, :length].tolist()))
        seen.add(parts)
        assert length == min(64, sum(frames[part] for part in parts))
    assert seen == {(0, 2), (2, 0), (1,), (3,), (4,), (5,)}
    drawn = TokenCrops(audio, semantic, codes).draw(rng, 200, 64)  # codes would tell of another room
    for row, length in enumerate(drawn.lengths.tolist()):
        part = int(drawn.semantic[row, 0])
        assert length == frames[part]
        assert set(drawn.codes[row, :, : 2 * length].flatten().tolist()) == {part}


def test_tokens_are_musical_that_have_a_greater_share_of_music(
    options: TrainingOptions, tmp_path: Path
) -> None:
    crops = TokenCrops.open(options.data, options.out / "cache", "train", with_codes=False)
    kinds = iter([recording.kind for recording in crops.audio.files])
    tokens = {"speech": [4] * 8 + [1] * 2, "piano": [9] * 3 + [1] * 7}  # half as many recordings of each

    def encode(waveform: np.ndarray) -> np.ndarray:
        return np.array([tokens[next(kinds)]])

    store = TokenStore.build(tmp_path / "tokens.json", crops.audio, "test", encode)
    musical = musical_tokens(TokenCrops(crops.audio, store, None), CLUSTERS)
    assert musical is not None and musical.nonzero().flatten().tolist() == [1, 9]
    spoken = AudioStore([r for r in crops.audio.files if r.kind == "speech"], np.zeros(0, np.int16))
    assert musical_tokens(TokenCrops(spoken, store, None), CLUSTERS) is None


def test_tokens_that_were_never_made_are_named(options: TrainingOptions, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="semantic"):
        TokenCrops.open(options.data, tmp_path, "valid", with_codes=False)


def test_the_semantic_stage_beats_the_baselines(options: TrainingOptions) -> None:
    report = train_semantic.train(options)
    assert report.passed, report.checks
    assert report.measures["perplexity"] < 12
    stage = SemanticStage(PRESETS["tiny"].semantic)
    stage.load_state_dict(load_file(options.out / "semantic" / "model.safetensors"))
    tokenizer = load_part(options.out, "tokenizer")
    assert isinstance(tokenizer, ConformerTokenizer) and stage.struck is not None
    assert 0 < int(tokenizer.struck.sum()) < CLUSTERS
    assert torch.equal(stage.struck, torch.nn.functional.pad(tokenizer.struck, (0, 1)))


def test_a_run_on_speech_alone_keeps_what_it_was_told_of_music(
    options: TrainingOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = replace(options, out=tmp_path / "first", max_steps=1)
    second = replace(first, out=tmp_path / "second", start=first.out)
    for run in (first, second):
        run.out.mkdir()
        for shared in ("cache", "tokenizer"):
            (run.out / shared).symlink_to(options.out / shared)
    told = torch.arange(CLUSTERS) % 3 == 0
    for run, heard in ((first, told), (second, None)):
        monkeypatch.setattr(train_semantic, "musical_tokens", lambda *_, heard=heard: heard)
        train_semantic.train(run)
        kept = load_file(run.out / "semantic" / "model.safetensors")["musical"]
        assert torch.equal(kept[:-1], told)


def test_the_coarse_stage_beats_the_baselines(options: TrainingOptions) -> None:
    report = train_coarse.train(options)
    assert report.passed, report.checks
    assert [check.name for check in report.checks] == [f"codebook {k} perplexity" for k in (1, 2, 3, 4)]


def test_the_fine_stage_learns_every_level(options: TrainingOptions) -> None:
    report = train_fine.train(options)
    assert len(report.checks) == 8
    assert report.measures["perplexity"] < 0.5 * CODES


def test_padding_is_neither_noisy_nor_a_target() -> None:
    torch.manual_seed(0)
    codes = hide_padding(torch.zeros(2, 3, 50, dtype=torch.int64), torch.tensor([20, 50]), CODES)
    noisy = with_noise(codes, CODES, 0.5)
    assert bool((noisy[0, :, 20:] == CODES).all())
    assert int((noisy[1] > 0).sum()) > 40
    assert int(noisy[1].max()) < CODES


def test_the_fine_loss_counts_only_frames_after_the_prompt() -> None:
    torch.manual_seed(0)
    stage = FineStage(PRESETS["tiny"].fine).eval()
    codes = torch.randint(0, CODES, (1, 12, 40))
    lengths = torch.tensor([20])
    crops = train_fine.Crops(torch.zeros(1, 20, dtype=torch.int64), codes, lengths)
    loss = train_fine.loss_of(stage, stage, crops, torch.tensor([30]), 6, noise=False)
    logits = stage(codes, torch.tensor([30]), 6)
    expected = torch.nn.functional.cross_entropy(logits[0, 30:], codes[0, 6, 30:])
    torch.testing.assert_close(loss, expected)


def test_styles_come_from_prompts_as_long_as_in_use() -> None:
    torch.manual_seed(0)
    config = PRESETS["starter"].coarse
    crops = torch.full((600,), 250)
    frames = prompt_lengths(crops, config, 2, styled=True)
    least, most = (round(config.frame_rate * seconds) for seconds in PROMPT_SECONDS)
    styled = frames[frames > 0]
    assert 0.7 < len(styled) / len(frames) < 0.95
    assert least <= int(styled.min()) < 1.5 * least and 0.9 * most < int(styled.max()) <= most
    assert int(prompt_lengths(torch.full((600,), 20), config, 2, styled=True).max()) == 40
    assert not prompt_lengths(crops, config, 2, styled=False).any()


def test_a_run_goes_on_from_the_weights_of_another(options: TrainingOptions, tmp_path: Path) -> None:
    first = replace(options, out=tmp_path / "first", max_steps=2, seed=7)  # so that both would begin apart
    second = replace(options, out=tmp_path / "second", max_steps=1, start=first.out)
    third = replace(second, out=tmp_path / "third")
    for run in (first, second, third):
        run.out.mkdir()
        for shared in ("cache", "tokenizer"):
            (run.out / shared).symlink_to(options.out / shared)
    with pytest.raises(TrainingError, match="nothing to start from"):
        train_semantic.train(second)
    train_semantic.train(first)
    path = first.out / "semantic" / "model.safetensors"
    weights = load_file(path)
    train_semantic.train(second)
    moved = load_file(second.out / "semantic" / "model.safetensors")
    fresh = SemanticStage(PRESETS["tiny"].semantic).state_dict()
    name = "table.weight"
    assert (moved[name] - weights[name]).norm() < 0.3 * (moved[name] - fresh[name]).norm()
    save_file({**weights, "strange": weights[name].clone()}, path)
    with pytest.raises(TrainingError, match="strange"):
        train_semantic.train(third)
