"""The Dockerfile is sound, the compose files are valid, and what they name exists."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import PREFIX, Settings
from tests.docker.conftest import DOCKER, ROOT, program

DOCKERFILE = DOCKER / "Dockerfile"
COMPOSE = ROOT / "docker-compose.yml"
CPU = DOCKER / "compose.cpu.yml"


class ComposeLoader(yaml.SafeLoader):
    """Knows !reset, with which an override takes a value away."""


ComposeLoader.add_constructor("!reset", lambda loader, node: [])


def compose(path: Path) -> Any:
    return yaml.load(path.read_text(), Loader=ComposeLoader)


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run([program("hadolint"), DOCKERFILE], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_serves_as_nobody_special_and_hears_signals() -> None:
    text = DOCKERFILE.read_text()
    final = text[text.rindex("\nFROM ") :]
    assert re.search(r"^USER 10001:10001$", final, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK ", final, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["audiolm"\]$', final, re.MULTILINE)
    assert re.search(r'^CMD \["serve"\]$', final, re.MULTILINE)
    assert ":latest" not in text


def test_the_image_sets_only_settings_that_exist() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    assert set(re.findall(rf"\b({PREFIX}\w+)=", DOCKERFILE.read_text())) <= known


def test_what_the_image_copies_is_let_in_and_exists() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE.read_text(), re.MULTILINE)
    sources = {source for line in copied for source in line.split()[:-1]}
    sources = {source.replace("${LOCK}", lock) for source in sources for lock in ("service", "ray")}
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert sources - {"model/native"} == let_in  # which is in `model`
    assert all((ROOT / source).exists() for source in sources)


@pytest.mark.parametrize("path", [COMPOSE, CPU], ids=lambda path: path.name)
def test_compose_files_follow_their_specification(path: Path) -> None:
    schemas = pytest.importorskip(
        "check_jsonschema.builtin_schemas", reason="check-jsonschema is not installed"
    )
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    jsonschema.validate(compose(path), schemas.get_builtin_schema("vendor.compose-spec"))


def test_compose_mounts_what_is_there() -> None:
    for name, service in compose(COMPOSE)["services"].items():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (ROOT / source).exists(), f"{name}: {source}"
            else:
                assert source in compose(COMPOSE)["volumes"], f"{name}: {source}"


def test_compose_waits_for_accepted_work() -> None:
    grace = compose(COMPOSE)["services"]["audiolm"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > Settings.model_fields["drain_seconds"].default


def test_the_override_takes_the_gpu_away() -> None:
    normal, override = (compose(path)["services"]["audiolm"] for path in (COMPOSE, CPU))
    assert normal["deploy"]["resources"]["reservations"]["devices"][0]["driver"] == "nvidia"
    assert override["deploy"]["resources"]["reservations"]["devices"] == []
    assert normal["build"]["args"]["DEVICE"] == "cuda"
    assert override["build"]["args"]["DEVICE"] == "cpu"


def test_images_are_pinned() -> None:
    for name, service in compose(COMPOSE)["services"].items():
        if name != "audiolm":
            assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", service["image"]), service["image"]


def test_grafana_finds_its_data_and_its_dashboards() -> None:
    provisioning = DOCKER / "grafana" / "provisioning"
    source = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"][0]
    provider = yaml.safe_load((provisioning / "dashboards" / "audiolm.yml").read_text())["providers"][0]
    grafana = compose(COMPOSE)["services"]["grafana"]
    assert source["url"] == "http://prometheus:9090"
    assert f"./docker/grafana/dashboards:{provider['options']['path']}:ro" in grafana["volumes"]
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (DOCKER / "grafana" / "dashboards" / home.name).exists()
    for path in (DOCKER / "grafana" / "dashboards").glob("*.json"):
        assert f'"uid": "{source["uid"]}"' in path.read_text()
