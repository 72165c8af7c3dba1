"""The files of the page: what they consist of, and what they never do."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

import topostrata

PAGE = Path(topostrata.__file__).parent / "service" / "page"
OWN = sorted(path for path in PAGE.rglob("*") if path.suffix in {".js", ".html", ".css"} and "vendor" not in path.parts)


def test_libraries_are_those_of_the_manifest() -> None:
    """Every file that others wrote is listed with package, version, licence and the SHA-256 of its bytes."""
    manifest = json.loads((PAGE / "vendor" / "manifest.json").read_text())
    files = {path.name: path for path in (PAGE / "vendor").iterdir() if path.suffix in {".js", ".css"}}
    assert {entry["file"] for entry in manifest} == set(files)
    for entry in manifest:
        assert hashlib.sha256(files[entry["file"]].read_bytes()).hexdigest() == entry["sha256"], entry["file"]
        assert entry["licence"] in {"ISC", "MIT"}
        assert entry["version"]


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_text_from_the_archive_never_becomes_markup(path: Path) -> None:
    """No script of ours writes markup, runs text, or keeps anything in the browser; nothing comes from elsewhere."""
    text = path.read_text(encoding="utf-8")
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert forbidden not in text
    for forbidden in ("localStorage", "sessionStorage", "document.cookie", "indexedDB"):
        assert forbidden not in text
    assert not re.search(r"https?://(?!www\.w3\.org/)", text)
    assert ".html(" not in text


def test_the_markup_has_no_script_or_style_of_its_own() -> None:
    """What the policy forbids is not tried: scripts and styles are files."""
    text = (PAGE / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|style=|\bon\w+=|<script(?![^>]*\bsrc=)", text)
