"""Content credentials with the real library: ours, a stranger's, tampered with, none at all, and nonsense."""

from __future__ import annotations

import io
import json
import threading

import c2pa
import numpy as np
import pytest
import soundfile

from model.audio import load_clip
from service.certificates import SigningChain, make_chain, parse_chain
from service.credentials import SIGNED_FORMATS, TRAINED_MODEL, Claim, Credentials
from service.encoding import MEDIA_TYPES, Format, encode
from tests.service.conftest import clip, sound_file, tone

CLAIM = Claim("ab" * 16, "starter", "0.1.0", 3.0, 5.0)
SOUND = np.concatenate([tone(3), 0.5 * tone(5)])


@pytest.fixture(scope="module")
def ours() -> Credentials:
    return Credentials(parse_chain(make_chain()))


@pytest.fixture(scope="module")
def stranger() -> Credentials:
    return Credentials(parse_chain(make_chain("somebody else")))


def signed(
    by: Credentials, format: Format = "wav", parent: bytes | None = None, claim: Claim = CLAIM
) -> bytes:
    return by.sign(encode(SOUND, format), format, claim, by.describe_parent(parent or clip()))


def manifests(data: bytes) -> tuple[dict, dict]:  # type: ignore[type-arg]
    """The active manifest, and all."""
    with c2pa.Reader(io.BytesIO(data)) as reader:
        store = json.loads(reader.json())
    return store["manifests"][store["active_manifest"]], store["manifests"]


@pytest.mark.parametrize("format", SIGNED_FORMATS)
def test_what_is_signed_is_known_as_ours_and_sounds_the_same(ours: Credentials, format: Format) -> None:
    data = signed(ours, format)
    found = ours.read(data)
    assert (found.state, found.generation_id, found.segments) == ("ours", "ab" * 16, ((3.0, 8.0),))
    plain = encode(SOUND, format)
    assert np.array_equal(soundfile.read(io.BytesIO(data))[0], soundfile.read(io.BytesIO(plain))[0])
    assert np.array_equal(load_clip(io.BytesIO(data)).waveform, load_clip(io.BytesIO(plain)).waveform)
    assert load_clip(io.BytesIO(data)).notes == ()
    assert len(data) - len(encode(SOUND, format)) < 6000


def test_it_says_what_made_which_seconds_from_what(ours: Credentials) -> None:
    manifest, _ = manifests(signed(ours))
    (actions,) = (
        a["data"]["actions"] for a in manifest["assertions"] if a["label"].startswith("c2pa.actions")
    )
    assert [action["action"] for action in actions] == ["c2pa.opened", "c2pa.edited"]
    assert actions[1]["digitalSourceType"] == TRAINED_MODEL
    assert actions[1]["softwareAgent"] == {"name": "starter", "version": "0.1.0"}
    assert actions[1]["changes"][0]["region"][0]["time"] == {
        "type": "npt",
        "start": "3.0000",
        "end": "8.0000",
    }
    (parent,) = manifest["ingredients"]
    assert (parent["relationship"], parent["format"]) == ("parentOf", "audio/wav")
    assert "thumbnail" not in parent


def test_the_parents_own_statement_is_kept(ours: Credentials, stranger: Credentials) -> None:
    recording = signed(stranger, "mp3", claim=Claim("cd" * 16, "recorder", "1", 0.0, 8.0))
    data = signed(ours, "flac", recording)
    manifest, everything = manifests(data)
    (parent,) = manifest["ingredients"]
    kept = everything[parent["active_manifest"]]
    assert kept["signature_info"]["common_name"].startswith("somebody else")
    assert ours.read(data).state == "ours"
    assert ours.read(data).generation_id == "ab" * 16


def test_a_tampered_parent_is_kept_with_what_is_wrong_with_it(
    ours: Credentials, stranger: Credentials
) -> None:
    recording = bytearray(signed(stranger))
    recording[5000] ^= 1
    manifest, _ = manifests(signed(ours, "wav", bytes(recording)))
    failures = manifest["ingredients"][0]["validation_results"]["activeManifest"]["failure"]
    assert "assertion.dataHash.mismatch" in {failure["code"] for failure in failures}


@pytest.mark.parametrize(
    "parent", [sound_file(tone(1), format="OGG"), b"nonsense" * 50, b"RIFF", b"\xff\xfb" + bytes(99)]
)
def test_any_bytes_may_be_the_parent(ours: Credentials, parent: bytes) -> None:
    assert ours.read(signed(ours, "wav", parent)).state == "ours"


def test_a_parents_statement_may_not_be_of_any_size(
    ours: Credentials, stranger: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = signed(stranger)
    assert len(manifests(signed(ours, "wav", recording))[1]) == 2
    monkeypatch.setattr("service.credentials.MOST_KEPT_BYTES", 5000)
    manifest, everything = manifests(signed(ours, "wav", recording))
    assert len(everything) == 1
    assert manifest["ingredients"][0]["format"] == "application/octet-stream"


def test_a_strangers_valid_signature_is_never_ours(ours: Credentials, stranger: Credentials) -> None:
    copied = Credentials(parse_chain(make_chain()))  # the same names, other keys
    for other in (stranger, copied):
        for format in SIGNED_FORMATS:
            found = ours.read(signed(other, format))
            assert (found.state, found.generation_id, found.segments) == ("untrusted", None, ())
            assert found.signer is not None


def test_a_trusted_stranger_is_somebody_else() -> None:
    ours, theirs = parse_chain(make_chain()), parse_chain(make_chain())
    trusting = Credentials(
        SigningChain(ours.certificates, ours.key, ours.algorithm, ours.anchors + theirs.anchors)
    )
    found = trusting.read(signed(Credentials(theirs)))
    assert (found.state, found.generation_id) == ("other", None)


def test_a_former_signer_is_still_ours() -> None:
    former, present = parse_chain(make_chain()), parse_chain(make_chain("new"))
    old = former.certificates.split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    anchors = former.anchors + present.anchors
    rotated = Credentials(SigningChain(present.certificates, present.key, present.algorithm, anchors, old))
    assert rotated.read(signed(Credentials(former))).state == "ours"
    assert rotated.read(signed(rotated)).state == "ours"


@pytest.mark.parametrize("format", SIGNED_FORMATS)
def test_one_changed_byte_of_sound_makes_it_invalid(ours: Credentials, format: Format) -> None:
    data = bytearray(signed(ours, format))
    data[-60 if format != "wav" else 5000] ^= 1
    found = ours.read(bytes(data))
    assert (found.state, found.generation_id) == ("invalid", None)
    assert "dataHash" in found.detail


def test_a_statement_put_on_another_sound_is_invalid(ours: Credentials) -> None:
    data, other = signed(ours), encode(np.ascontiguousarray(SOUND[::-1]), "wav")
    at = data.index(b"C2PA")
    grafted = other + data[at:]
    grafted = grafted[:4] + (len(grafted) - 8).to_bytes(4, "little") + grafted[8:]
    assert ours.read(grafted).state == "invalid"


@pytest.mark.parametrize("format", ["flac", "mp3", "wav"])
def test_what_was_cut_off_is_never_ours(ours: Credentials, format: Format) -> None:
    data = signed(ours, format)
    for size in (0, 1, 4, 50, 500, 3000, len(data) // 2, len(data) - 1000, len(data) - 1):
        assert ours.read(data[:size]).state in ("none", "invalid", "unsupported"), size


def test_unsigned_files_and_nonsense_have_a_state_and_raise_nothing(ours: Credentials) -> None:
    for format, expected in (("WAV", "none"), ("FLAC", "none"), ("MP3", "none"), ("OGG", "unsupported")):
        assert ours.read(sound_file(tone(1), format=format)).state == expected
    rng = np.random.default_rng(0)
    for start in (
        b"",
        b"RIFF",
        b"RIFF\xff\xff\xff\xffWAVE",
        b"fLaC",
        b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f",
        b"OggS",
        b"\xff\xfb",
    ):
        for size in (0, 7, 300, 20_000):
            found = ours.read(start + rng.bytes(size))
            assert found.state in ("none", "unsupported", "invalid")
            assert found.detail


def test_flipped_bits_anywhere_raise_nothing(ours: Credentials) -> None:
    rng = np.random.default_rng(1)
    for format in SIGNED_FORMATS:
        data = signed(ours, format)
        at = data.index(b"jumb")
        for _ in range(60):
            broken = bytearray(data)
            broken[int(rng.integers(max(0, at - 40), min(len(data), at + 4000)))] ^= 1 << int(rng.integers(8))
            assert ours.read(bytes(broken)).state in ("invalid", "none", "unsupported", "ours")


def test_threads_sign_and_read_side_by_side(ours: Credentials) -> None:
    states: list[str] = []
    threads = [
        threading.Thread(target=lambda: states.extend(ours.read(signed(ours)).state for _ in range(5)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert states == ["ours"] * 20


def test_nothing_of_the_clip_is_in_what_is_kept_of_it(ours: Credentials) -> None:
    recording = clip(4)
    kept = ours.describe_parent(recording)
    assert len(kept) < 6000
    assert recording[2000:2032] not in kept
    assert MEDIA_TYPES["wav"].encode() in kept
