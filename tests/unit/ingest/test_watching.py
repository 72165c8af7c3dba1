"""A run that is being written is followed: each snapshot once, in order, and only when it is whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.epochs import matrix, save_epoch
from topostrata.ingest.pushing import check_files
from topostrata.ingest.watching import watch

LAYERS = [matrix(6, 5), matrix(5, 4), matrix(4, 3)]


def writing(run: Path) -> Iterator[bool]:
    """What the training does between two looks."""
    yield True  # nothing new
    save_epoch(run / "epoch_002", LAYERS[:2])
    yield True  # seen for the first time
    yield True  # unchanged, but a layer is missing
    save_epoch(run / "epoch_002", LAYERS)
    save_epoch(run / "epoch_003", LAYERS)
    path = run / "epoch_003" / "weight_l2.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    yield True  # epoch 2 is whole and new, epoch 3 is cut off
    yield True  # epoch 2 did not change: it is taken
    path.write_bytes(whole)
    yield True  # epoch 3 changed
    yield True  # epoch 3 is taken
    yield False


def test_snapshots_are_taken_when_they_are_whole(tmp_path: Path) -> None:
    """An epoch with a layer missing, or cut off, waits until it is written."""
    run = tmp_path / "run"
    for epoch in (0, 1):
        save_epoch(run / f"epoch_{epoch:03}", LAYERS)
    files = check_files(run)
    assert files.steps == {0, 1}
    looks = writing(run)
    taken = [(sorted(more.steps), more.count) for more in watch(files, lambda: next(looks))]
    assert taken == [([2], 1), ([3], 1)]


def test_what_was_checked_is_what_is_read_again(tmp_path: Path) -> None:
    """A snapshot that appears between the two passes of a push waits for the next."""
    save_epoch(tmp_path / "epoch_000", LAYERS)
    files = check_files(tmp_path)
    save_epoch(tmp_path / "epoch_001", LAYERS)
    assert [frame.step for frame in files.frames()] == [0]
