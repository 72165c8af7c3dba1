"""The verb that queries the graph: with a query on the command line, from a file, or from the cookbook."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topostrata.service.cli.moments import with_moment
from topostrata.service.cli.output import JsonFlag, StoreOption, answer, archive, projected_extent, say, show, table

if TYPE_CHECKING:
    from topostrata.queries import Query


def register(app: typer.Typer) -> None:
    """Add the verb of this file."""
    app.command()(with_moment(cypher))


def cypher(
    query: Annotated[
        str | None,
        typer.Argument(
            metavar="QUERY",
            help="A Cypher query that only reads, with values as parameters ($name). With --cookbook: a name.",
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", exists=True, dir_okay=False, help="Read the query from this file."),
    ] = None,
    cookbook: Annotated[
        bool,
        typer.Option(
            "--cookbook", help="Run the query of this name from docs/cypher.md. Without a name: show all names."
        ),
    ] = False,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "-p",
            "--parameter",
            metavar="NAME=VALUE",
            help="A parameter, its value as JSON or as text; may be repeated.",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="ROWS", min=1, help="Most rows to print. [default: 1000]")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="SECONDS", min=0.1, help="Longest it may take. [default: 10]"),
    ] = None,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """Ask the graph in Cypher, read-only."""
    from topostrata.service.answers.cypher import ask, cypher_answer

    if cookbook and file is None and query in {None, "list"}:
        _list_cookbook(json_=json_)
        return
    values = parameters(parameter or [])
    text, columns = _text(query, file, values, cookbook=cookbook)
    with archive(store) as opened:
        rows, unprojected = ask(opened, text, values, limit=limit, timeout_s=timeout)
    columns = rows.columns or columns  # the embedded engine names no columns if there are no rows
    if json_:
        answer(cypher_answer(rows, unprojected, columns))
        return
    show(table(columns, rows.rows))
    if rows.truncated:
        say(f"note: there are more than these {len(rows.rows)} rows; --limit shows more")
    for layer in unprojected:
        say(f"note: {projected_extent(layer)}")


def _text(
    query: str | None, file: Path | None, values: dict[str, Any], *, cookbook: bool
) -> tuple[str, tuple[str, ...]]:
    """The query to send, and its columns if they are known beforehand."""
    if file is not None and query is None and not cookbook:
        return _read(file), ()
    if file is not None or query is None:
        raise typer.BadParameter("expected a query, or --file FILE, or --cookbook NAME: one of the three")
    if not cookbook:
        return query, ()
    recipe = _cookbook_query(query, values)
    return recipe.text, recipe.columns


def _read(file: Path) -> str:
    from topostrata.errors import InvalidInputError

    try:
        return file.read_text(encoding="utf-8").rstrip().removesuffix(";")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{file}: expected a query as UTF-8 text, found {error}") from None


def _cookbook_query(name: str, values: dict[str, Any]) -> Query:
    """The query of that name; an error if the values are not those of its parameters."""
    from difflib import get_close_matches

    from topostrata import queries
    from topostrata.errors import InvalidQueryError, NotFoundError

    known = [known.removeprefix("cookbook/") for known in queries.names("cookbook")]
    if name not in known:
        near = get_close_matches(name, known, n=1)
        raise NotFoundError(
            f"expected the name of a cookbook query, found {name!r}",
            hint=f"did you mean {near[0]}?" if near else "topostrata cypher --cookbook lists them",
        )
    recipe = queries.load(f"cookbook/{name}")
    missing = ", ".join(p for p in recipe.parameters if p not in values)
    unknown = ", ".join(p for p in values if p not in recipe.parameters)
    if missing or unknown:
        difference = "; ".join([f"{missing} missing"] * bool(missing) + [f"{unknown} unknown"] * bool(unknown))
        expected = f"the parameters {', '.join(recipe.parameters)}" if recipe.parameters else "no parameters"
        hint = f"for example {as_options(recipe)}" if missing else None
        raise InvalidQueryError(f"cookbook query {name}: expected {expected}, found {difference}", hint=hint)
    return recipe


def as_options(recipe: Query) -> str:
    """The values of a cookbook query's example as ``-p NAME=VALUE`` for a shell."""
    import json
    import shlex

    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in recipe.example.items()}
    return " ".join(f"-p {name}={shlex.quote(text)}" for name, text in texts.items())


def _list_cookbook(*, json_: bool) -> None:
    from topostrata.service.answers.cypher import cookbook_answer

    rows = cookbook_answer()
    if json_:
        answer(rows)
        return
    show(
        table(
            ["name", "what it answers", "parameters"],
            [[r["name"], r["title"], ", ".join(r["parameters"])] for r in rows],
        )
    )


def parameters(texts: list[str]) -> dict[str, Any]:
    """The values of ``-p NAME=VALUE``: parsed as JSON if possible, else text."""
    import json

    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise typer.BadParameter(f"expected NAME=VALUE, found {text!r}", param_hint="-p")
        try:
            values[name] = json.loads(value)
        except json.JSONDecodeError:
            values[name] = value
    return values
