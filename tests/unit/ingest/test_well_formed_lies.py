"""Files whose containers are sound and whose numbers lie: refused by name, within bounded memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lies import KINDS

MOST_MEMORY = 300 * 2**20
# A tenth by default; `make lies` reads all.
CASES = int(os.environ.get("LIES", "10"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_lie_is_refused_or_harmless(kind: str) -> None:
    """By every door for files: no other exception, no message without an end, no 300 MB beyond the file's own size."""
    command = [sys.executable, "-W", "error", "-m", "tests.lies", kind, str(CASES), "1"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])
    assert ran.returncode == 0, ran.stderr
    answer = json.loads(ran.stdout)
    assert answer["wrong"] == []
    assert answer["refused"] >= CASES // 10
    assert answer["grown"] < MOST_MEMORY + answer["largest"]
