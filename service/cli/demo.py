"""``stratigraph demo``: the papers' story in a minute."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verb of this file."""
    app.command()(demo)


def demo(
    out: Annotated[Path, typer.Option(help="Where the archive and the picture go.")] = Path("demo-out"),
) -> None:
    """Train small sparse networks, archive their wiring, and show what became of it."""
