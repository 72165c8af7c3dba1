"""The contract as a page for people, made from docs/openapi.json's source; it needs no script and no network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from html import escape
from typing import Any

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}"
    "body{background:#fff}h2{margin-top:2.5rem;border-bottom:1px solid #bbb}"
    "h3{font:600 1rem ui-monospace,monospace;margin:1.5rem 0 .25rem}table{border-collapse:collapse;margin:.5rem 0}"
    "td,th{text-align:left;vertical-align:top;padding:.2rem .8rem .2rem 0}"
    "code{font:.95em ui-monospace,monospace}nav a{margin-right:1rem}"
    "@media(prefers-color-scheme:dark){body{color:#eee;background:#161616}a{color:#9cf}}"
)
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; style-src 'sha256-{_HASH}'"


def reference(document: dict[str, Any]) -> str:
    """The page of an OpenAPI document."""
    title = escape(f"{document['info']['title']} {document['info']['version']}: REST")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1><p>{escape(document['info'].get('summary', ''))}</p>"
        "<p>Errors are <code>application/problem+json</code> with a stable <code>code</code>. For programs: "
        '<a href="openapi.json">openapi.json</a>.</p>' + "".join(_subjects(document)) + "</html>"
    )


def _subjects(document: dict[str, Any]) -> Iterator[str]:
    by_subject: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            by_subject.setdefault(operation["tags"][0], []).append("".join(_operation(method, path, operation)))
    yield "<nav>" + "".join(f'<a href="#{escape(name)}">{escape(name)}</a>' for name in by_subject) + "</nav>"
    for name, operations in by_subject.items():
        yield f'<h2 id="{escape(name)}">{escape(name)}</h2>' + "".join(operations)


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"<h3>{escape(method.upper())} {escape(path)}</h3>"
    for paragraph in operation.get("description", "").split("\n\n"):
        yield f"<p>{escape(paragraph)}</p>"
    parameters = operation.get("parameters", [])
    if parameters:
        yield "<table><tr><th>parameter<th>in<th>what it is</tr>"
        for parameter in parameters:
            needed = " (required)" if parameter.get("required") else ""
            default = parameter["schema"].get("default")
            said = parameter.get("description", "") + (f" Default: {default}." if default not in {None, ""} else "")
            yield (
                f"<tr><td><code>{escape(parameter['name'])}</code><td>{escape(parameter['in'])}{needed}"
                f"<td>{escape(said)}</tr>"
            )
        yield "</table>"
    if "requestBody" in operation:
        kinds = ", ".join(f"<code>{escape(kind)}</code>" for kind in operation["requestBody"]["content"])
        yield f"<p>Body: {kinds}</p>"
    good = next(status for status in ("200", "201", "204") if status in operation["responses"])
    answers = operation["responses"][good].get("content", {})
    yield f"<p>Answers: {', '.join(f'<code>{escape(kind)}</code>' for kind in answers)}</p>"
