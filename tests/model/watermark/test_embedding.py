from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config import SAMPLE_RATE
from model.errors import ConfigError
from model.watermark import Embedder, embed
from tests.model.watermark.sounds import KEY, OTHER_KEY, voice

CLIP = voice(1.5, seed=1)


@given(
    length=st.integers(0, len(CLIP)),
    cuts=st.lists(st.integers(0, len(CLIP)), max_size=12),
    payload=st.integers(0, 65535),
)
@settings(max_examples=40, deadline=None)
def test_marking_chunk_by_chunk_gives_the_same_samples(length: int, cuts: list[int], payload: int) -> None:
    whole = embed(CLIP[:length], KEY, payload)
    embedder = Embedder(KEY, payload)
    chunks = np.split(CLIP[:length], sorted(min(cut, length) for cut in cuts))
    parts = [embedder.push(chunk) for chunk in chunks] + [embedder.finish()]
    assert np.array_equal(np.concatenate(parts), whole)
    assert len(whole) == length


def test_no_sample_waits_for_more_than_a_tenth_of_a_second() -> None:
    embedder = Embedder(KEY, 1)
    pushed = returned = 0
    for start in range(0, len(CLIP), 160):
        returned += len(embedder.push(CLIP[start : start + 160]))
        pushed += len(CLIP[start : start + 160])
        assert pushed - returned <= 0.1 * SAMPLE_RATE


def test_the_mark_depends_on_key_and_payload() -> None:
    marks = [embed(CLIP, KEY, 1), embed(CLIP, KEY, 2), embed(CLIP, OTHER_KEY, 1)]
    assert len({mark.tobytes() for mark in marks}) == 3
    assert np.array_equal(embed(CLIP, KEY, 1), marks[0])


def test_nothing_jumps_where_the_mark_begins_and_ends() -> None:
    steady = np.full(SAMPLE_RATE, 0.5, np.float32) * np.sin(np.arange(SAMPLE_RATE) * 0.7).astype(np.float32)
    added = embed(steady, KEY, 3) - steady
    assert added[0] == added[-1] == 0
    assert np.abs(added[:16]).max() < 0.01
    assert np.abs(added[-16:]).max() < 0.01
    assert np.abs(added[1000:-1000]).max() > 0.02


def test_silence_stays_silent() -> None:
    assert not embed(np.zeros(5000, np.float32), KEY, 3).any()
    paused = CLIP.copy()
    paused[8000:12000] = 0
    assert not embed(paused, KEY, 3)[8512:11488].any()


def test_nothing_is_driven_beyond_full_scale() -> None:
    loud = np.clip(20 * CLIP, -1, 1)
    assert np.abs(embed(loud, KEY, 3)).max() <= 1
    assert not np.array_equal(embed(loud, KEY, 3), loud)


def test_the_mark_is_far_below_the_sound() -> None:
    added = embed(CLIP, KEY, 3) - CLIP
    assert 10 * np.log10(np.square(CLIP).sum() / np.square(added).sum()) > 18  # 20 to 23 for real sound


def test_a_listening_model_hears_no_difference() -> None:
    pesq = pytest.importorskip("pesq")
    clip = voice(4.0, seed=5)
    assert pesq.pesq(SAMPLE_RATE, clip, embed(clip, KEY, 3), "wb") > 4.4


def test_a_payload_out_of_range_is_refused_before_any_sound() -> None:
    with pytest.raises(ConfigError, match="65536"):
        Embedder(KEY, 65536)
