"""Bundles: what is saved comes back, and anything missing, unknown or changed stops the load with its name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from model import bundle
from model.bundle import CARD, MANIFEST, OPTIONAL_PARTS, PARTS, load_bundle, read_manifest, save_bundle
from model.errors import BundleError


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    values = json.loads((path / MANIFEST).read_text())
    change(values)
    (path / MANIFEST).write_text(json.dumps(values))


def test_saving_and_loading_keeps_weights_and_info(tiny_bundle: Path, tmp_path: Path) -> None:
    loaded = load_bundle(tiny_bundle)
    assert set(loaded.parts) == {*PARTS, *OPTIONAL_PARTS}
    assert (loaded.info.name, loaded.info.training) == ("tiny", {"data": "none"})
    assert not any(p.requires_grad for part in loaded.parts.values() for p in part.parameters())
    assert not any(part.training for part in loaded.parts.values())
    save_bundle(tmp_path / "again", loaded.parts, loaded.info, "# again\n")
    again = load_bundle(tmp_path / "again")
    assert again.info == loaded.info
    for name, part in loaded.parts.items():
        for key, tensor in part.state_dict().items():
            twin = again.parts[name].state_dict()[key]
            assert torch.allclose(
                tensor.float(), twin.float(), atol=2e-3 * float(tensor.float().abs().max())
            ), (name, key)


def test_language_models_are_stored_in_8_bits_and_the_rest_in_16(tiny_bundle: Path) -> None:
    files = {path.name: load_file(path) for path in tiny_bundle.glob("*.safetensors")}
    semantic = {str(t.dtype) for name, t in files["semantic-1.safetensors"].items() if t.ndim == 2}
    assert "torch.int8" in semantic
    assert {t.dtype for t in files["codec-1.safetensors"].values() if t.is_floating_point()} == {
        torch.float16
    }


def test_another_user_may_read_every_file(tiny_bundle: Path) -> None:
    assert all(path.stat().st_mode & 0o004 for path in tiny_bundle.iterdir())


def test_large_parts_are_split(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MAX_FILE_BYTES", 10_000)
    loaded = load_bundle(tiny_bundle)
    save_bundle(tmp_path / "split", loaded.parts, loaded.info, "# split\n")
    assert len(list((tmp_path / "split").glob("codec-*.safetensors"))) > 1
    assert load_bundle(tmp_path / "split").info == loaded.info


def test_only_an_older_bundle_is_replaced(tiny_bundle: Path, tmp_path: Path) -> None:
    loaded = load_bundle(tiny_bundle)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear diary")
    with pytest.raises(BundleError, match="is no bundle"):
        save_bundle(tmp_path / "mine", loaded.parts, loaded.info, "# no\n")
    assert (tmp_path / "mine" / "diary.txt").exists()
    for card in ("# one\n", "# two\n"):
        save_bundle(tmp_path / "ours", loaded.parts, loaded.info, card)
    assert (tmp_path / "ours" / CARD).read_text() == "# two\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "ours"]
    del loaded.parts["fine"]
    with pytest.raises(BundleError, match="'fine'"):
        save_bundle(tmp_path / "ours", loaded.parts, loaded.info, "# three\n")


@pytest.mark.parametrize("name", [MANIFEST, CARD, "codec-1.safetensors", "fine-1.safetensors"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=name):
        load_bundle(copy)


@pytest.mark.parametrize("offset", [0, 100, -1])
def test_one_flipped_byte_is_found(copy: Path, offset: int) -> None:
    path = copy / "coarse-1.safetensors"
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=r"coarse-1\.safetensors") as caught:
        load_bundle(copy)
    assert caught.value.code == "bundle_checksum"


def test_a_cut_file_is_found(copy: Path) -> None:
    path = copy / "coarse-1.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(BundleError, match=r"coarse-1\.safetensors has"):
        load_bundle(copy)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda v: v.update(surprise=1), "surprise"),
        (lambda v: v.pop("temperatures"), "temperatures"),
        (lambda v: v.update(temperatures=[0.9, 0.7]), "malformed"),
        (lambda v: v.update(temperatures=[0.9, [0.7, -1.0, 0.7, 0.7], 0.5]), "temperatures are"),
        (lambda v: v.update(temperatures=[0.9, "warm", 0.5]), "malformed"),
        (lambda v: v.update(format_version=99), "99"),
        (lambda v: v.update(sample_rate=24_000), "24000"),
        (lambda v: v["parts"].pop("fine"), "fine"),
        (lambda v: v["parts"]["fine"].update(kind="exotic"), "exotic"),
        (lambda v: v["parts"]["fine"]["config"].update(n_layers=3), "n_layers"),
        (lambda v: v["parts"]["codec"]["config"].update(latent_dim=17), "codec"),
        (lambda v: v["parts"]["codec"]["files"][0].update(name="../codec-1.safetensors"), "../codec"),
        (lambda v: v.update(parts=7), "malformed"),
    ],
)
def test_a_changed_manifest_names_its_fault(
    copy: Path, change: Callable[[dict[str, Any]], None], named: str
) -> None:
    edit(copy, change)
    with pytest.raises(BundleError, match=named) as caught:
        load_bundle(copy)
    assert "\n" not in str(caught.value)


def test_a_manifest_that_is_no_json_is_refused(copy: Path) -> None:
    (copy / MANIFEST).write_text("{")
    with pytest.raises(BundleError, match="malformed"):
        read_manifest(copy)


@pytest.mark.parametrize("fault", ["missing", "unknown", "shape"])
def test_tensors_must_match_the_config(copy: Path, fault: str) -> None:
    path = copy / "tokenizer-1.safetensors"
    tensors = load_file(path)
    if fault == "missing":
        del tensors["centroids"]
    elif fault == "unknown":
        tensors["extra"] = torch.zeros(1)
    else:
        tensors["centroids"] = tensors["centroids"][:-1].clone()
    save_file(tensors, path)
    file = bundle._write_file(copy, path.name, tensors)
    edit(copy, lambda v: v["parts"]["tokenizer"].update(files=[vars(file)]))
    with pytest.raises(BundleError, match="extra" if fault == "unknown" else "centroids") as caught:
        load_bundle(copy)
    assert caught.value.code == "bundle_tensors"
