"""Write docs/python.md, the reference of all public names, from their docstrings: ``python docs/make_python.py``."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import topostrata

HERE = Path(__file__).parent
TARGET = HERE / "python.md"

HEAD = """# Python reference

`import topostrata as ts` gives the names below and loads each when it is first used. This page is made from the
docstrings by `python docs/make_python.py`; every example in it is run by the tests.

The examples of `Archive` are about an archive that was opened and filled like this:

```python
{example}


archive = ts.open("my-archive")
fill(archive)
```
"""


def reference() -> str:
    """The page as text, the same wherever it is made."""
    example = (HERE / "example_archive.py").read_text(encoding="utf-8").partition("import topostrata as ts")
    head = HEAD.format(example=(example[1] + example[2]).strip())
    objects = {name: getattr(topostrata, name) for name in topostrata.__all__}
    errors = {name for name, member in objects.items() if _is_error(member)}
    functions = {name for name, member in objects.items() if inspect.isfunction(member)}
    values = objects.keys() - errors - functions - {"Archive", "Client"}
    sections = [
        ("Functions", sorted(functions)),
        ("The archive", ["Archive", "Client"]),
        ("Values", sorted(values)),
        ("Errors", sorted(errors, key=lambda name: (_depth(objects[name]), name))),
    ]
    parts = [head]
    for title, names in sections:
        parts.append(f"## {title}\n")
        parts.extend(_entry(name, objects[name]) for name in names)
    return "\n".join(parts)


def _entry(name: str, member: Any) -> str:
    if inspect.isfunction(member):
        return _function(f"ts.{name}", member, level=3)
    lines = [f"### ts.{name}", ""]
    if _is_error(member):
        bases = ", ".join(base.__name__ for base in member.__bases__)
        code = getattr(member, "code", None)
        lines += [f"An {bases}" + (f", code `{code.value}`." if code else "."), ""]
    elif inspect.isclass(member) and issubclass(member, StrEnum):
        lines += [", ".join(f"`{value}`" for value in member), ""]
    elif inspect.isclass(member) and dataclasses.is_dataclass(member):
        lines += [_fields(member), ""]
    lines += [_prose(inspect.getdoc(member)), ""]
    if member is topostrata.Client:  # whose methods are the archive's
        lines += ["```python", _signature("ts.Client", member), "```", ""]
    elif not _is_error(member):
        lines += _members(name, member)
    return "\n".join(lines)


def _fields(member: type) -> str:
    """A dataclass's fields with their types as they are written."""
    annotations = {
        name: text for base in reversed(member.__mro__) for name, text in vars(base).get("__annotations__", {}).items()
    }
    fields = [(field.name, annotations[field.name]) for field in dataclasses.fields(member)]
    return "Fields: " + ", ".join(f"`{name}: {text}`" for name, text in fields) + "."


def _members(owner: str, member: type) -> Iterator[str]:
    for name, inner in _public(member):
        if isinstance(inner, property | cached_property):
            yield f"#### {owner}.{name}\n\n{_prose(inspect.getdoc(inner))}\n"
        else:
            function = inner.__func__ if isinstance(inner, staticmethod | classmethod) else inner
            yield _function(f"{owner}.{name}", function, level=4)


def _public(member: type) -> Iterator[tuple[str, Any]]:
    """What the class and its bases of ours define, the class's own first."""
    seen: set[str] = set()
    for base in member.__mro__:
        if not base.__module__.startswith("topostrata"):
            continue
        for name, inner in vars(base).items():
            shown = inspect.isfunction(inner) or isinstance(
                inner, property | cached_property | staticmethod | classmethod
            )
            if shown and not name.startswith("_") and name not in seen:
                seen.add(name)
                yield name, inner


def _function(name: str, function: Callable[..., Any], *, level: int) -> str:
    return (
        f"{'#' * level} {name}\n\n```python\n{_signature(name, function)}\n```\n\n{_prose(inspect.getdoc(function))}\n"
    )


def _signature(name: str, function: Callable[..., Any]) -> str:
    signature = inspect.signature(function)
    parameters = [p for p in signature.parameters.values() if p.name != "self"]
    texts: list[str] = []
    for k, parameter in enumerate(parameters):
        if parameter.kind is parameter.KEYWORD_ONLY and (k == 0 or parameters[k - 1].kind is not parameter.kind):
            texts.append("*")
        default = "" if parameter.default is parameter.empty else f" = {_default(parameter.default)}"
        annotation = "" if parameter.annotation is parameter.empty else f": {parameter.annotation}"
        stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
        stars = "**" if parameter.kind is parameter.VAR_KEYWORD else stars
        texts.append(f"{stars}{parameter.name}{annotation}{default}")
    result = "" if inspect.isclass(function) else f" -> {signature.return_annotation}"
    line = f"{name}({', '.join(texts)}){result}"
    return line if len(line) <= 100 else f"{name}(\n" + "".join(f"    {text},\n" for text in texts) + f"){result}"


def _default(value: object) -> str:
    return value.__name__.lstrip("_") if inspect.isfunction(value) else repr(value)


def _prose(text: str | None) -> str:
    """A docstring as Markdown: double backticks become single ones, examples stand in fences."""
    lines: list[str] = []
    in_example = False
    for line in (text or "").splitlines():
        if line.startswith(">>>") and not in_example:
            lines.append("```pycon")
            in_example = True
        elif in_example and not line.strip():
            lines.append("```")
            in_example = False
        lines.append(line if in_example else re.sub(r"``(.+?)``", r"`\1`", line))
    return "\n".join([*lines, *["```"] * in_example])


def _is_error(member: object) -> bool:
    return inspect.isclass(member) and issubclass(member, Exception)


def _depth(error: type) -> str:
    """The path from the root of the errors, so that each stands below the one it derives from."""
    return "/".join(base.__name__ for base in reversed(error.__mro__) if issubclass(base, topostrata.TopostrataError))


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
