"""The answer to a user's query as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from typing_extensions import TypedDict

from topostrata import queries
from topostrata.errors import InvalidInputError
from topostrata.service.answers.shape import as_json

if TYPE_CHECKING:  # for types only: a verb imports no more than it needs
    from topostrata.archive import Archive
    from topostrata.frames import Table
    from topostrata.runs import Unprojected


def ask(
    archive: Archive, query: str, parameters: Mapping[str, Any] | None = None, **bounds: Any
) -> tuple[Table, list[Unprojected]]:
    """The answer to a query, and the layers that it could not see to the end; ``bounds`` are those of ``cypher``.

    What is drawn, or taken away, while it runs it may have missed: so these are asked for before it and after it.
    """
    before: list[Unprojected] = []
    with suppress(InvalidInputError):  # of an earlier moment, which the query refuses, and says better why
        before = archive.unprojected()
    table = archive.cypher(query, parameters, **bounds)
    seen = {(layer.run, layer.layer): layer for layer in before}
    for layer in archive.unprojected():
        earlier = seen.get((layer.run, layer.layer), layer)
        first = max((step for step in (layer.projected_from, earlier.projected_from) if step is not None), default=None)
        seen[layer.run, layer.layer] = replace(earlier, projected_from=first)
    return table, list(seen.values())


def cypher_answer(table: Table, unprojected: Iterable[Unprojected], columns: Iterable[str] = ()) -> dict[str, Any]:
    """A table of rows. ``columns`` are those to name where an engine names none, as the embedded one without rows."""
    return {
        "columns": list(table.columns or columns),
        "rows": table.rows,
        "truncated": table.truncated,
        "unprojected": [as_json(layer) for layer in unprojected],
    }


class RecipeAnswer(TypedDict):
    """A question of the cookbook: its text in Cypher, and values of its parameters as an example."""

    name: str
    title: str
    purpose: str
    text: str
    parameters: list[str]
    columns: list[str]
    example: dict[str, str | int | float]


def cookbook_answer() -> list[RecipeAnswer]:
    """The questions of docs/cypher.md, ready to be asked."""
    return [
        RecipeAnswer(
            name=recipe.name.removeprefix("cookbook/"),
            title=recipe.title,
            purpose=recipe.purpose,
            text=recipe.text,
            parameters=list(recipe.parameters),
            columns=list(recipe.columns),
            example=dict(recipe.example),
        )
        for recipe in map(queries.load, queries.names("cookbook"))
    ]


class CypherAnswer(TypedDict):
    """Rows of values in the order of ``columns``; ``truncated`` says that there are more than were asked for.

    Nodes and relationships are objects of their properties with ``labels`` or ``type``. ``unprojected`` lists layers
    whose connections the query could not see, because they are not in the graph at all steps of their run (at most
    100).
    """

    columns: list[str]
    rows: list[list[Any]]
    truncated: bool
    unprojected: list[dict[str, Any]]


def in_parts(answer: dict[str, Any]) -> Iterator[str]:
    """The JSON of an answer a row at a time: encoded at once, a large one would keep everybody else waiting."""
    import json  # noqa: PLC0415 - a verb that prints a table does not need it

    def text(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)

    yield f'{{"columns":{text(answer["columns"])},"rows":['
    for at, row in enumerate(answer["rows"]):
        yield ("," if at else "") + text(row)
    yield f'],"truncated":{text(answer["truncated"])},"unprojected":{text(answer["unprojected"])}}}'
