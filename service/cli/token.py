"""The verbs that give and take tokens of the REST service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from topostrata.service.cli.output import JsonFlag, StoreOption, answer, say, show, table

if TYPE_CHECKING:
    from topostrata.service.tokens import TokenFile

token = typer.Typer(help="Tokens of the REST service.", no_args_is_help=True, rich_markup_mode=None)

NameArgument = Annotated[str, typer.Argument(metavar="OWNER", help="Whose token it is.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.add_typer(token, name="token")


@token.command()
def create(
    name: NameArgument,
    scope: Annotated[
        list[str], typer.Option("--scope", metavar="SCOPE", help="read, write, query or admin; may be repeated.")
    ],
    expires: Annotated[
        str | None,
        typer.Option("--expires", metavar="TIME", help="How long it counts: 12h, 30d, 8w, 1y. [default: for ever]"),
    ] = None,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """Make a token and print it, this once: only its hash is kept.

    From the first token on the service answers nobody without one.
    """
    from topostrata.service.tokens import lifetime

    secret = _file(store).create(name, scope, expires=None if expires is None else lifetime(expires))  # type: ignore[arg-type]
    if json_:
        answer({"name": name, "token": secret, "scopes": scope})
    else:
        show(secret)
        say("shown this once; send it as `Authorization: Bearer TOKEN`")


@token.command()
def ls(store: StoreOption = None, json_: JsonFlag = False) -> None:
    """List the tokens: names, scopes, and whether they count."""
    tokens = _file(store).tokens()
    rows = [
        {
            "name": known.name,
            "scopes": list(known.scopes),
            "state": known.state,
            "created_at": known.created_at.isoformat(),
            "expires_at": known.expires_at and known.expires_at.isoformat(),
        }
        for known in tokens
    ]
    if json_:
        answer(rows)
    else:
        columns = ["name", "scopes", "state", "created_at", "expires_at"]
        show(
            table(
                columns,
                [
                    [row["name"], ", ".join(known.scopes), *list(row.values())[2:]]
                    for row, known in zip(rows, tokens, strict=True)
                ],
            )
        )


@token.command()
def revoke(name: NameArgument, store: StoreOption = None, json_: JsonFlag = False) -> None:
    """Let a token count no longer, from the next request on."""
    _file(store).revoke(name)
    if json_:
        answer({"revoked": name})
    else:
        show(f"revoked {name}")


def _file(store: str | None) -> TokenFile:
    from topostrata.service.tokens import TokenFile, tokens_path
    from topostrata.settings import load_settings

    return TokenFile(tokens_path(load_settings(), store))
