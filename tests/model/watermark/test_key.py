from __future__ import annotations

import pytest

from model.errors import ConfigError
from model.watermark import WatermarkKey


def test_a_key_survives_hexadecimal() -> None:
    key = WatermarkKey.random()
    assert WatermarkKey.from_hex(key.to_hex() + "\n") == key


def test_two_random_keys_differ_and_so_do_their_names() -> None:
    first, second = WatermarkKey.random(), WatermarkKey.random()
    assert first != second
    assert first.key_id != second.key_id
    assert len(first.key_id) == 8


def test_a_key_keeps_its_secret_out_of_its_text() -> None:
    key = WatermarkKey.random()
    assert key.to_hex() not in repr(key) + key.key_id
    assert repr(key.secret) not in repr(key)
    assert key.key_id not in key.to_hex()


def test_what_a_key_draws_never_changes() -> None:
    key = WatermarkKey(b"sixteen bytes it")
    assert key.draw("signs", 2).tolist() == [3797248321, 3088197957]
    assert key.draw("roles", 2).tolist() != key.draw("signs", 2).tolist()


@pytest.mark.parametrize("text", ["", "abcd", "no digits at all, but long enough", "0" * 31])
def test_what_is_no_key_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        WatermarkKey.from_hex(text)
    assert not text or text not in str(refusal.value)
