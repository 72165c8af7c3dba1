"""Write the table of formats in docs/formats.md from the registry: ``python docs/make_formats.py``."""

from __future__ import annotations

from pathlib import Path

from topostrata.ingest.formats import registry

TARGET = Path(__file__).with_name("formats.md")
BEGIN, END = "<!-- formats -->\n", "<!-- end -->\n"


def page(text: str, table: str) -> str:
    """The page with this table between its two marks."""
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    return f"{head}{BEGIN}{table}{END}{tail}"


if __name__ == "__main__":
    TARGET.write_text(page(TARGET.read_text(encoding="utf-8"), registry.table()), encoding="utf-8")
