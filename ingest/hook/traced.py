"""The traced wiring of a run, beside its spools, for the job that resumes the run.

That learns there whether its model is still what it was, before an archive refuses its snapshots; and where it sees no
forward pass of the model, what it was.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from topostrata.errors import InvalidTopologyError, TopostrataError
from topostrata.ingest.hook.spool import DRAFT, RunHead
from topostrata.topology import Wiring

_LISTED = 6
_SUFFIX = ".wiring.toml"
_LEFT_OUT = "# parameters in no layer: "


@dataclass(frozen=True, slots=True)
class TracedWiring:
    """What a trace gave: the wiring, and the parameters that are in no layer of it."""

    wiring: Wiring
    left_out: tuple[str, ...] = ()


def path(spool: Path, run: str) -> Path:
    """Where the wiring of a run lies in the directory of its spools."""
    return spool / f"{run}{_SUFFIX}"


def runs(spool: Path) -> list[str]:
    """The runs whose wiring lies there."""
    return sorted(file.name.removesuffix(_SUFFIX) for file in spool.glob(f"*{_SUFFIX}"))


def load(spool: Path, head: RunHead) -> TracedWiring | None:
    """What an earlier job of this run traced; None where there is none, or it is that of another store."""
    with contextlib.suppress(OSError, ValueError, TypeError, TopostrataError):
        text = path(spool, head.run).read_text(encoding="utf-8")
        first, left_out, _ = text.split("\n", 2)
        if head.resume != "never" and first == _first_line(head):
            return TracedWiring(Wiring.from_toml(text), tuple(json.loads(left_out.removeprefix(_LEFT_OUT))))
    return None


def save(spool: Path, head: RunHead, found: TracedWiring) -> None:
    """Keep it for the next job of this run. Raises ``OSError``."""
    if head.resume != "never":
        spool.mkdir(parents=True, exist_ok=True)
        file = path(spool, head.run)
        draft = file.with_name(f".{head.run}.{os.getpid()}{DRAFT}")
        lines = (_first_line(head), _LEFT_OUT + json.dumps(found.left_out), found.wiring.to_toml())
        draft.write_text("\n".join(lines), encoding="utf-8")
        draft.replace(file)


def check_same(spool: Path, run: str, before: Wiring, now: Wiring) -> None:
    """Raises ``InvalidTopologyError``, with the names of the layers, where the model is not what it was."""
    if before == now:
        return
    old, new = ({layer.name: layer for layer in wiring} for wiring in (before, now))
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    raise InvalidTopologyError(
        f"a run's layers never change: expected the wiring that was traced before ({path(spool, run)}), found another "
        f"for {', '.join(map(repr, names[:_LISTED])) or 'layers in another order'}{more}",
        hint="start another run, with this one as its parent; or delete that file where it is of another model",
    )


def _first_line(head: RunHead) -> str:
    return f"# traced for run {head.run} in {json.dumps(head.store)}"
