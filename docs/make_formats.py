"""Write the tables of formats and families in docs/formats.md from their tables: ``python docs/make_formats.py``."""

from __future__ import annotations

from pathlib import Path

from topostrata.ingest.families import recognition
from topostrata.ingest.formats import registry

TARGET = Path(__file__).with_name("formats.md")
END = "<!-- end -->\n"


def tables() -> dict[str, str]:
    """Each table by the mark that it stands behind."""
    return {"<!-- formats -->\n": registry.table(), "<!-- families -->\n": recognition.table()}


def page(text: str, tables: dict[str, str]) -> str:
    """The page with these tables between their marks."""
    for begin, table in tables.items():
        head, rest = text.split(begin)
        _, tail = rest.split(END, 1)
        text = f"{head}{begin}{table}{END}{tail}"
    return text


if __name__ == "__main__":
    TARGET.write_text(page(TARGET.read_text(encoding="utf-8"), tables()), encoding="utf-8")
