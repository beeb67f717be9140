"""Where the deployment's files are, and the programs that check them."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
RULES = DOCKER / "prometheus" / "rules"


def program(name: str) -> str:
    """The path of an installed program; skips the test where there is none."""
    beside_python = Path(sys.executable).parent
    path = shutil.which(name, path=os.pathsep.join([str(beside_python), os.environ.get("PATH", "")]))
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def load_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def rules_of(name: str) -> list[dict[str, Any]]:
    """The rules of docker/prometheus/rules/NAME.yml, in order."""
    return [rule for group in load_yaml(RULES / f"{name}.yml")["groups"] for rule in group["rules"]]
