"""Whether a view looks as it did: its screenshot in 32 by 20 grey tones, beside the one that is kept in `looks/`.

So coarse, letters are gone and blocks are left: a heading, a table, a picture, and how dark each of them is. Fonts differ
from machine to machine, and move what stands below them a little: a tone may be any of those around it. What has come, gone
or changed its place or its colours moves many tones at once.

``TOPOSTRATA_TEST_SHOTS=folder`` keeps the screenshots there, to be looked at, and writes `looks/` anew.
"""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page

KEPT = Path(__file__).parent / "looks"
SHOTS = "TOPOSTRATA_TEST_SHOTS"
SIZE = (32, 20)
APART = 5  # of 255: a tone further than that from all around it has changed
MOST = (
    0.025  # of all tones that may have: other sans-serif fonts change 0.023 at most, a missing table or picture 0.028
)

Tones = NDArray[np.int16]


def tones(shot: bytes) -> Tones:
    """The grey tones of a screenshot, 0 to 255."""
    with Image.open(BytesIO(shot)) as image:
        return np.asarray(image.convert("L").resize(SIZE, Image.Resampling.BOX), dtype=np.int16)


def changed(ours: Tones, theirs: Tones) -> float:
    """The share of tones that are like none of those around them in the other picture, in the worse direction."""
    return max(_strange(ours, theirs), _strange(theirs, ours))


def _strange(ours: Tones, theirs: Tones) -> float:
    padded = np.pad(theirs, 1, mode="edge")
    around = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    low, high = around.min(axis=(2, 3)) - APART, around.max(axis=(2, 3)) + APART
    return float(np.mean((ours < low) | (ours > high)))


def looks_as_before(page: Page, name: str) -> None:
    """Compare what is in sight with what was, or keep it where that is asked for."""
    shot = page.screenshot(animations="disabled")
    if (folder := os.environ.get(SHOTS)) is not None:
        (Path(folder) / f"{name}.png").write_bytes(shot)
        Image.fromarray(tones(shot).astype(np.uint8)).save(KEPT / f"{name}.png")
        return
    share = changed(tones(shot), tones((KEPT / f"{name}.png").read_bytes()))
    assert share <= MOST, f"{name}: {share:.0%} of the view looks otherwise; {SHOTS}=folder shows it and keeps it"
