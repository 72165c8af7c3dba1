"""Write docs/openapi.json, the contract of the REST API: ``python docs/make_openapi.py``."""

from __future__ import annotations

import json
from pathlib import Path

from topostrata.service.api.app import create_app

TARGET = Path(__file__).with_name("openapi.json")


def contract() -> str:
    """The document as text, the same wherever it is made."""
    return json.dumps(create_app().openapi(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    TARGET.write_text(contract(), encoding="utf-8")
