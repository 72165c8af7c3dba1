"""docs/openapi.json, the contract of REST, and what the app says of itself."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[3] / "docs"

pytestmark = pytest.mark.checkout


def test_the_contract_is_that_of_the_routes() -> None:
    """docs/openapi.json is, to the last word, what the app says of itself."""
    contract = runpy.run_path(str(DOCS / "make_openapi.py"))["contract"]()
    written = (DOCS / "openapi.json").read_text(encoding="utf-8")
    assert written.splitlines() == contract.splitlines(), "run `python docs/make_openapi.py`"
