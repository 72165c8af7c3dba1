"""docker-compose.yml as the tests read it, and what Neo4j's image makes of its environment."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "docker-compose.yml"
DOCUMENT = ROOT / "docs" / "deployment.md"

_UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30}
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def load() -> dict[str, Any]:
    """The file, its anchors resolved; variables stay as they are written."""
    document: dict[str, Any] = YAML(typ="safe", pure=True).load(FILE)
    return document


def neo4j_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """What the image writes to neo4j.conf: each ``NEO4J_a_b__c`` as ``a.b_c``, but for secrets and what is its own."""
    return {
        re.sub(r"__|_", lambda match: "_" if match[0] == "__" else ".", name.removeprefix("NEO4J_")): value
        for name, value in environment.items()
        if name.startswith("NEO4J_") and not name.endswith("_FILE")
    }


def size(text: str) -> int:
    """Bytes of ``512m`` and the like."""
    size_match = re.fullmatch(r"(\d+)([bkmg]?)", text.lower())
    assert size_match, text
    return int(size_match[1]) * _UNITS[size_match[2]]


def seconds(text: str) -> int:
    """Seconds of ``2m`` and the like."""
    return int(text[:-1]) * _SECONDS[text[-1]]


def tmpfs(service: Mapping[str, Any]) -> dict[str, set[str]]:
    """The tmpfs of a service, each with its options."""
    entries = (entry.partition(":") for entry in service.get("tmpfs", []))
    return {path: set(options.split(",")) for path, _, options in entries}


def make_secrets(folder: Path) -> dict[str, Path]:
    """The secrets, made in that folder by the commands of the documents; by the names that services know them by."""
    (block,) = re.findall(
        r"^```sh\n(mkdir -m 700 secrets\n.*?)^```", DOCUMENT.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    subprocess.run(["sh", "-euc", block], cwd=folder, check=True, capture_output=True, timeout=60)
    return {name: folder / secret["file"] for name, secret in load()["secrets"].items()}
