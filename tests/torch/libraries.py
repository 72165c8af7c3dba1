"""Libraries beside torch: all of them with the torch that the project pins, those that go with it with an older one."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

_GROUP = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
NEWEST = next(line.removeprefix("torch==") for line in _GROUP["torch"] if line.startswith("torch=="))
IS_NEWEST = torch.__version__.partition("+")[0] == NEWEST


def library(name: str) -> Any:
    """A module of one of them. With an older torch, for which there is none, the test is skipped and says so."""
    if IS_NEWEST:
        return importlib.import_module(name)
    return pytest.importorskip(name, reason=f"{name} does not go with torch {torch.__version__}")


def since(what: str) -> pytest.MarkDecorator:
    """Marks a test of something that an older torch (or what goes with it) has not: it is skipped there, and says so."""
    return pytest.mark.skipif(not IS_NEWEST, reason=f"torch {torch.__version__} has no {what}")
