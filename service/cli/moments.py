"""Earlier moments: ``--as-of`` on every verb that reads, and the verb that lists what was changed when."""

from __future__ import annotations

from functools import wraps
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topostrata.service.cli.output import AS_OF, JsonFlag, StoreOption, answer, archive, say, show, table

if TYPE_CHECKING:
    from collections.abc import Callable

AsOfOption = Annotated[
    int | None,
    typer.Option(
        "--as-of",
        metavar="MOMENT",
        min=0,
        help="Answer as the archive was at this moment (`topostrata changes` lists them), whatever came later.",
    ),
]
_NETWORKS = ("a", "b", "to", "refs", "network", "same_as", "within")  # parameters that may name files


def register(app: typer.Typer) -> None:
    """Add the verb of this file."""
    app.command()(changes)


def with_moment(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb that reads the option ``--as-of``, before ``--store``; its archive is then the one of that moment."""
    own = signature(verb, eval_str=True)
    parameters = list(own.parameters.values())
    at = next(k for k, parameter in enumerate(parameters) if parameter.name == "store")
    parameters.insert(at, Parameter("as_of", Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=AsOfOption))

    @wraps(verb)
    def command(*, as_of: int | None, **arguments: Any) -> None:
        if as_of is not None:
            _check_refs(arguments)
        before = AS_OF.set(as_of)
        try:
            verb(**arguments)
        finally:
            AS_OF.reset(before)

    command.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _check_refs(arguments: dict[str, Any]) -> None:
    """Raise an error where a moment of the archive is named, and nothing of the archive is."""
    from topostrata.refs import is_path

    named = [arguments[name] for name in _NETWORKS if arguments.get(name)]
    refs = [ref for value in named for ref in ([value] if isinstance(value, str) else value)]
    if refs and all(map(is_path, refs)):
        raise typer.BadParameter(
            f"expected a ref, which a moment is for, found only files: {', '.join(refs)}", param_hint="--as-of"
        )


def changes(
    since: Annotated[
        int, typer.Option("--since", metavar="MOMENT", min=0, help="List what came after this moment.")
    ] = 0,
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="ROWS", min=1, help="List the first ROWS, and the rest of their last moment."),
    ] = None,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """What was changed in the archive, in the order of acknowledgement, each with its moment.

    A moment is what --as-of of other verbs takes. Clocks may be wrong and records arrive late: the order is that in
    which the archive took them.
    """
    from topostrata.service.answers.shape import as_json

    with archive(store) as opened:
        listed = opened.changes(since, limit=limit)
        moment = opened.moment()
    entries = as_json(listed)
    if json_:
        answer({"since": since, "moment": moment, "changes": entries})
        return
    rows = [
        [change.moment, change.kind, change.ref, _before(entry["details"]), entry["at"][:19].replace("T", " ")]
        for change, entry in zip(listed, entries, strict=True)
    ]
    if rows:
        show(table(["moment", "changed", "of", "details", "by the writer's clock (UTC)"], rows))
    say(f"the archive is at moment {moment}")


def _before(details: dict[str, Any]) -> str | None:
    """How it was before, and which metrics were added, in a few words."""
    words = []
    if details.get("parent"):
        words.append(f"{details['parent']}@{details['step']}")
    if "before" in details:
        before = details["before"]
        text = ", ".join(before) if isinstance(before, list) else "removed" if before is True else before
        words.append(f"before: {text or '-'}")
    words += details.get("names", [])
    words += [f"{layer}: {', '.join(names)}" for layer, names in details.get("layers", {}).items()]
    return "; ".join(words) or None
