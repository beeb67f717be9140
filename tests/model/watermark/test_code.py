from __future__ import annotations

import numpy as np
import pytest

from model.errors import ConfigError
from model.watermark.code import CODE_BITS, MAX_PAYLOAD, codebook, decode, encode


def test_two_words_differ_in_at_least_24_bits() -> None:
    differences = (codebook()[0] != codebook()[1:]).sum(
        axis=1
    )  # linear: the distances from any word are the same
    assert differences.min() == 24
    assert np.array_equal(codebook()[0b101] * codebook()[0b11000], codebook()[0b11101])


@pytest.mark.parametrize("payload", [0, 1, 4711, MAX_PAYLOAD])
def test_eleven_wrong_bits_of_64_are_corrected(payload: int) -> None:
    rng = np.random.default_rng(payload)
    heard = encode(payload).copy()
    heard[rng.permutation(CODE_BITS)[:11]] *= -1
    word = decode(heard, scale=1.0)
    assert word.payload == payload
    assert word.correlation == CODE_BITS - 22


def test_noise_is_not_taken_for_a_word() -> None:
    noise = np.random.default_rng(0).standard_normal(CODE_BITS).astype(np.float32)
    assert decode(noise, scale=0.3).probability < 0.5
    assert decode(encode(99) + noise, scale=1.0).probability > 0.99


@pytest.mark.parametrize("payload", [-1, MAX_PAYLOAD + 1])
def test_a_payload_of_more_than_16_bits_is_refused(payload: int) -> None:
    with pytest.raises(ConfigError, match=str(payload)):
        encode(payload)
