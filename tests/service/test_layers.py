"""The layers of provenance as settings describe them: each on or off, with keys made, given or wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.errors import ConfigError
from model.watermark import WatermarkKey
from service.certificates import make_chain, parse_chain
from service.layers import build_provenance
from service.provenance import Provenance
from service.settings import Settings
from tests.service.conftest import samples_of, serving
from tests.service.fakes import expected_sound
from tests.service.layered import ask, database

pytestmark = pytest.mark.anyio

RATE = 16_000


@pytest.mark.parametrize("off", ["watermark", "ledger", "content_credentials"])
async def test_each_layer_can_be_switched_off(off: str) -> None:
    settings = Settings(**{off: False})
    provenance = build_provenance(settings)
    async with serving(provenance=provenance) as client:
        response = await ask(client, "seconds=5&seed=7")
    everything = build_provenance(Settings())
    assert everything.ledger and everything.credentials and everything.watermark
    marks = {
        "watermark": everything.watermark.find(samples_of(response.content)).present,
        "ledger": everything.ledger.lookup_id(response.headers["x-generation-id"]) is not None,
        "content_credentials": everything.credentials.read(response.content).state == "ours",
    }
    assert marks == {layer: layer != off for layer in marks}


def test_secrets_are_made_at_the_first_start_and_used_again() -> None:
    first, second = build_provenance(Settings()), build_provenance(Settings())
    assert first.watermark and second.watermark
    assert first.watermark.secret == second.watermark.secret
    folder = database().parent
    assert sorted(path.name for path in folder.iterdir() if "-" not in path.name) == [
        "ledger.sqlite",
        "signing.pem",
        "watermark.key",
    ]
    for name in ("signing.pem", "watermark.key"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600


def test_a_given_key_is_used_and_former_ones_are_still_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = WatermarkKey.random(), WatermarkKey.random()
    noise = expected_sound(1, 5 * RATE)
    monkeypatch.setenv("AUDIOLM_WATERMARK_KEY", old.to_hex())
    before = build_provenance(Settings()).watermark
    assert before and before.secret == old.secret
    marker = before.begin(9)
    sound = np.concatenate([marker.push(noise), marker.finish()])
    monkeypatch.setenv("AUDIOLM_WATERMARK_KEY", f"{new.to_hex()}, {old.to_hex()}")
    settings = Settings()
    assert old.to_hex() not in repr(settings)
    after = build_provenance(settings).watermark
    assert after and after.secret == new.secret
    mark = after.find(sound)
    assert (mark.present, mark.payload, mark.key_id) == (True, 9, old.key_id)
    assert not (database().parent / "watermark.key").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"watermark_key": "not-hex"}, "key"),
        ({"watermark_key": "abcd"}, "key"),
        ({"ledger_url": "nonsense"}, "AUDIOLM_LEDGER_URL"),
        ({"signing_cert": "cert.pem"}, "AUDIOLM_SIGNING_KEY is not"),
        ({"signing_cert": "a", "signing_key": "b", "signing_anchors": "c"}, "a cannot be read"),
        ({"data_dir": "/proc/nowhere"}, "AUDIOLM_DATA_DIR"),
    ],
)
def test_what_can_never_work_stops_the_start(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build_provenance(Settings(**settings))


async def test_a_production_chain_signs_and_only_its_anchors_are_trusted(
    tmp_path: Path, provenance: Provenance
) -> None:
    chain = parse_chain(make_chain("Operator"))
    for name, text in (("cert", chain.certificates), ("key", chain.key), ("anchors", chain.anchors)):
        (tmp_path / name).write_text(text)
    paths = {f"signing_{name}": tmp_path / name for name in ("cert", "key", "anchors")}
    operated = build_provenance(Settings(**paths))
    async with serving(provenance=operated) as client:
        answer = (await ask(client, "seconds=1")).content
    assert operated.credentials and provenance.credentials
    assert operated.credentials.read(answer).signer == "Operator: signer"
    assert operated.credentials.read(answer).state == "ours"
    assert provenance.credentials.read(answer).state == "untrusted"
