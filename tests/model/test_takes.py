"""Takes: what is kept of them, how interrupted work goes on, and windows drawn from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.distortions.registry import Material
from model.training.augmentation import Augmentation, middle
from model.training.data import AudioStore, Recording
from model.training.held_out import by_origin, in_turn, pieces, tracks_of
from model.training.takes import Samples, Take, TakeStore
from model.training.window_draw import WindowDraw, joined

RATE = 16_000
TAKE = Take("continued", "c/a.wav", "speech", "ann", 100, 3_200, 7, 1.0, 12, False)


def tone(seconds: float, hertz: float) -> Samples:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def recordings(*speakers: str) -> AudioStore:
    """4 s of a tone for each of `speakers`."""
    samples = np.concatenate(
        [(tone(4.0, 200.0 + 50 * i) * 32767).astype(np.int16) for i in range(len(speakers))]
    )
    files = [
        Recording(f"c/{s}{i}.wav", "", "piano" if s == "piece" else "speech", s, 4 * RATE * i, 4 * RATE)
        for i, s in enumerate(speakers)
    ]
    return AudioStore(files, samples)


@pytest.fixture
def store(tmp_path: Path) -> TakeStore:
    """Two takes of each origin."""
    store = TakeStore(tmp_path, "train")
    take = replace(TAKE, key="c/ann0.wav", prompt_samples=RATE)
    for number, origin in enumerate(("continued", "codec", "fine")):
        store.append(
            (replace(take, origin=origin, depth=d), tone(2.0, 1_000.0 * (1 + number))) for d in (6, 12)
        )
    return store


def test_takes_come_back_after_the_process_that_made_them(tmp_path: Path) -> None:
    first = TakeStore(tmp_path, "valid")
    first.append([(TAKE, tone(0.5, 440)), (replace(TAKE, origin="codec"), tone(0.25, 220))])
    again = TakeStore(tmp_path, "valid")
    again.append([(TAKE, tone(0.1, 880))])
    read = TakeStore(tmp_path, "valid")
    assert [take.num_samples for take in read.takes] == [8_000, 4_000, 1_600]
    assert read.of("continued") == [0, 2] and read.seconds("codec") == 0.25
    np.testing.assert_allclose(read.waveform(2), tone(0.1, 880), atol=1e-4)
    assert TakeStore(tmp_path, "train").takes == []


def test_sound_without_its_lines_is_written_over(tmp_path: Path) -> None:
    store = TakeStore(tmp_path, "train")
    store.append([(TAKE, tone(0.5, 440))])
    with open(tmp_path / "train.i16", "ab") as file:
        file.write(b"half a batch")
    again = TakeStore(tmp_path, "train")
    again.append([(TAKE, tone(0.5, 220))])
    np.testing.assert_allclose(again.waveform(1), tone(0.5, 220), atol=1e-4)
    assert (tmp_path / "train.i16").stat().st_size == 2 * 16_000


def test_windows_are_as_long_as_asked_and_half_of_them_ours(store: TakeStore) -> None:
    draw = WindowDraw(recordings("ann", "bob"), store, Augmentation(Material()))
    drawn = draw.draw(np.random.default_rng(0), 200, 0.2)
    assert drawn.waveforms.shape == (200, 3_200)
    assert bool(drawn.waveforms.isfinite().all())
    assert 0.36 < float(drawn.labels.mean()) < 0.56  # 0.46 on average
    mixed = drawn.labels[(drawn.labels > 0) & (drawn.labels < 1)]
    assert 0 < len(mixed) < 40 and float(mixed.min()) >= 0.1 and float(mixed.max()) <= 0.9
    levels = 20 * drawn.waveforms.square().mean(1).sqrt().log10()
    assert float(levels.max()) <= -11.9 and float(levels.min()) >= -40.1


def test_the_same_generator_draws_the_same_windows(store: TakeStore) -> None:
    draw = WindowDraw(recordings("ann", "bob"), store, Augmentation(Material()))
    one, two = (draw.draw(np.random.default_rng(5), 12, 0.3) for _ in range(2))
    assert bool((one.waveforms == two.waveforms).all()) and bool((one.labels == two.labels).all())


def test_recordings_are_marked_as_often_as_not(store: TakeStore) -> None:
    """A marker that adds a tone nobody else has: it must be heard in about half of the raw windows and in no take."""
    seen: list[int] = []

    def marker(waveform: Samples, rng: np.random.Generator) -> Samples:
        seen.append(len(waveform))
        return waveform

    draw = WindowDraw(recordings("ann", "bob"), store, Augmentation(Material()), marker)
    draw.draw(np.random.default_rng(0), 200, 0.1)
    assert 200 * 0.17 * 0.25 < len(seen) < 200 * 0.17 * 0.75


def test_a_joint_has_the_share_it_is_labelled_with() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        sound, share = joined(np.zeros(500, np.float32), np.ones(500, np.float32), 400, rng)
        assert len(sound) == 400 and float(sound.mean()) == pytest.approx(share)
        assert np.array_equal(sound, np.sort(sound))  # the recording first


def test_middle_cuts_and_pads_evenly() -> None:
    assert middle(np.arange(5, dtype=np.float32), 3).tolist() == [1, 2, 3]
    assert middle(np.ones(2, np.float32), 5).tolist() == [0, 1, 1, 0, 0]


def test_answers_are_the_prompt_and_its_continuation(store: TakeStore) -> None:
    audio = recordings("ann", "bob")
    found = by_origin(tracks_of(audio, store, recordings=2))
    answer = found["answer"][0]
    assert answer.ours_from == RATE and len(answer.waveform) == 3 * RATE
    np.testing.assert_array_equal(answer.waveform[:RATE], audio.waveform(0)[100 : 100 + RATE])
    assert {origin: len(tracks) for origin, tracks in found.items()} == {
        "continued": 2, "answer": 2, "codec": 2, "full codec": 1, "fine": 2, "raw": 2,
    }  # fmt: skip


def test_speakers_and_kinds_take_turns() -> None:
    audio = recordings("ann", "ann", "ann", "bob", "piece")
    assert in_turn(audio, 4) == [0, 4, 3, 1]


def test_pieces_lie_side_by_side_and_silence_is_left_out(store: TakeStore) -> None:
    (track, _) = by_origin(tracks_of(recordings("ann"), store, 1))["continued"]
    quiet = replace(track, waveform=np.concatenate([track.waveform, np.zeros(2 * RATE, np.float32)]))
    found = pieces([quiet], 0.9)
    assert [len(piece) for piece in found] == [14_400] * 3  # 2 of the tone, one that begins in it, 1 silent
    np.testing.assert_array_equal(found[1], track.waveform[14_400:28_800])
