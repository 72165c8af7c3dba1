"""Verbs that run and check the archive: serve, doctor, verify, engine."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topostrata.service.cli.output import (
    JsonFlag,
    StoreOption,
    answer,
    archive,
    progress,
    projected_extent,
    say,
    show,
    table,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

engine = typer.Typer(help="The embedded engine of a directory.", no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    for verb in (serve, mcp, stats, doctor, verify, project, rebuild, gc, migrate):
        app.command()(verb)
    app.add_typer(engine, name="engine")


def serve(
    host: Annotated[
        str,
        typer.Option(
            "--host", metavar="ADDRESS", help="A loopback address; any address where TOPOSTRATA_API_TOKEN is set."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="PORT", min=0, max=65535, help="The port; 0 takes a free one.")
    ] = 8321,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", metavar="FILE", help="A certificate with its chain: serve https.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", metavar="FILE", help="Its private key.")] = None,
    root_path: Annotated[
        str, typer.Option("--root-path", metavar="PREFIX", help="The path under which a proxy has the service.")
    ] = "",
    json_log: Annotated[
        bool, typer.Option("--json-log", help="Log each request and event as a line of JSON on stderr.")
    ] = False,
    workers: Annotated[
        int,
        typer.Option(
            "--workers", metavar="COUNT", min=1, max=64, help="Processes that answer, each with limits of its own."
        ),
    ] = 1,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """Serve the page and the REST API until Ctrl-C."""
    from topostrata.service.api.server import Manner, run_server

    def ready(url: str, names: list[str]) -> None:
        if json_:
            answer({"url": url})
        else:
            say(f"serving {url}/v1/runs until Ctrl-C, for the host names {', '.join(names)}")
            say("TOPOSTRATA_API_HOSTS adds other names of this machine")
            say(f"the page: {url}/")

    run_server(store, host=host, port=port, ready=ready, manner=Manner(tls_cert, tls_key, root_path, json_log, workers))


def mcp(store: StoreOption = None) -> None:
    """Give an assistant tools that read the archive: a server of the Model Context Protocol on stdin and stdout.

    Programs such as Claude Desktop or an editor start it themselves: docs/assistants.md.
    """
    from topostrata.service.assistant import server_of

    with archive(store) as opened:
        server_of(opened).run("stdio")


def stats(store: StoreOption = None, json_: JsonFlag = False) -> None:
    """Say how much the archive holds: runs, snapshots, masks and their packed bytes, neurons; and where bytes are.

    The second table has the bytes of the embedded engine's files by what they hold. The log is that of the running
    engine, and most of it goes when the engine stops. A server does not tell what it takes.
    """
    from topostrata.service.answers.shape import as_json

    with archive(store) as opened:
        counts = as_json(opened.counts())
    if json_:
        answer(counts)
    else:
        disk = counts.pop("disk")
        show(table([name.replace("_", " ") for name in counts], [[f"{count:,}" for count in counts.values()]]))
        if disk:
            rows = [*disk.items(), ("all", sum(disk.values()))]
            show(table(["on the disk", "bytes"], [[kind, f"{size:,}"] for kind, size in rows]))


def verify(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended, and show what is left.")] = False,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """Check that everything in the archive is consistent, and say what mends what is not.

    The exit status is 1 where it is not; with --repair where something is left.
    """
    with archive(store) as opened, progress("verify") as advance:
        runs = opened.counts().runs
        checked: list[str] = []

        def count(run: str) -> None:
            checked.append(run)
            advance(len(checked), runs)

        violations = list(opened.repair() if repair else opened.verify(progress=count))
    rows = [(v.rule, v.where, v.expected, v.found, v.mend) for v in violations]
    columns = ("rule", "where", "expected", "found", "mend")
    if json_:
        answer({"runs": runs, "violations": [dict(zip(columns, row, strict=True)) for row in rows]})
    elif violations:
        show(table(list(columns), [list(row) for row in rows]))
    else:
        show(f"{runs} runs: everything adds up")
    if violations:
        raise typer.Exit(1)


def project(
    runs: Annotated[list[str] | None, typer.Argument(metavar="RUN", help="Only these runs; all by default.")] = None,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """Draw the connections that wait: those of `push --connections later`, and those of a push that was killed.

    A service on the archive draws those of `--connections later` by itself.
    """
    with archive(store) as opened:
        drawn = opened.project(runs)
        left = [layer for layer in opened.unprojected() if not runs or layer.run in runs]
    if json_:
        from topostrata.service.answers.shape import as_json

        answer({"drawn": drawn, "unprojected": as_json(left)})
        return
    for run in drawn:
        show(f"{run}: its connections were drawn")
    if not drawn:
        show("no connections wait")
    for layer in left:
        say(f"note: {projected_extent(layer)}")


def rebuild(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run whose connections are drawn again.")],
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """Draw the connections of a run again from its masks, which are the truth.

    A snapshot of it that is missing is given up: its history is that of those that are there.
    """
    with archive(store) as opened:
        lifetimes = opened.rebuild(run)
    if json_:
        answer({"run": run, "lifetimes": lifetimes})
    else:
        show(f"{run}: {lifetimes:,} connections were drawn from its masks")


def gc(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be taken away, and write nothing.")
    ] = False,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """Take away what hangs on no run."""
    with archive(store) as opened:
        kinds = dict(opened.gc(dry_run=dry_run).kinds)
    if json_:
        answer({"dry_run": dry_run, "kinds": kinds})
    elif kinds:
        show(table(["kind", "to take away" if dry_run else "taken away"], [[kind, kinds[kind]] for kind in kinds]))
    else:
        show("nothing hangs on no run")


def migrate(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")] = False,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """Bring an archive that an earlier version made to today's format.

    End what writes to it with an earlier version first: that refuses the archive afterwards.
    """
    from dataclasses import asdict

    with archive(store) as opened, progress("migrate") as advance:
        migrated = opened.migrate(dry_run=dry_run, progress=advance)
    if json_:
        answer(asdict(migrated))
    elif not migrated.runs:
        show(f"format {migrated.before}: nothing to do")
    elif dry_run:
        show(f"format {migrated.before}: the living connections of {migrated.runs} runs would be given their keys")
    else:
        show(
            f"format {migrated.before} became {migrated.after}: {migrated.connections:,} living connections of "
            f"{migrated.runs} runs were given their keys"
        )


def doctor(store: StoreOption = None, json_: JsonFlag = False) -> None:
    """Show the settings in force and check each part.

    The exit status is 1 where a check fails.
    """
    checks = [_check(name, check) for name, check in _checks(store)]
    failed = any(not check["ok"] for check in checks)
    if json_:
        answer({"ok": not failed, "checks": checks})
    else:
        show(table(["check", "", "found"], [[c["check"], "ok" if c["ok"] else "FAILED", c["found"]] for c in checks]))
    if failed:
        raise typer.Exit(1)


@engine.command()
def status(store: StoreOption = None, json_: JsonFlag = False) -> None:
    """Say whether the engine is running, without starting it."""
    from topostrata.store.embedded import status as engine_status

    directory = _directory(store)
    record = engine_status(directory)
    if json_:
        answer(record)
    elif record is None:
        show(f"stopped: {directory} holds no archive")
    else:
        orphan = record["state"] == "orphan"
        show("running" if record["running"] else "running, without its supervisor" if orphan else str(record["state"]))
        details = {name: value for name, value in record.items() if name not in {"running", "state"}}
        details["clients"] = "yes" if record["clients"] else "none"
        show(table(["", ""], [[name.replace("_", " "), value] for name, value in details.items() if value is not None]))


@engine.command()
def stop(
    store: StoreOption = None,
    force: Annotated[bool, typer.Option("--force", help="Stop it even if it is in use.")] = False,
    json_: JsonFlag = False,
) -> None:
    """Stop the engine; the next command starts it again."""
    from topostrata.store.embedded import stop as engine_stop

    stopped = engine_stop(_directory(store), force=force)
    if json_:
        answer({"stopped": stopped})
    else:
        show("stopped" if stopped else "it was not running")


@engine.command()
def connect(store: StoreOption = None, json_: JsonFlag = False) -> None:
    """Let any Bolt client read the archive until Ctrl-C: the neo4j driver, py2neo, cypher-shell, a notebook.

    The address and a password made for this once are shown; the account can only read. Both are gone at the end.
    """
    import signal
    from dataclasses import asdict
    from threading import Event

    from topostrata import queries

    _directory(store)
    # A shell starts what it sends to the background with Ctrl-C ignored; SIGTERM leaves nothing behind either.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)
    with archive(store) as opened, opened.bolt() as access:
        if json_:
            answer(asdict(access))
        else:
            query = " ".join(queries.load("runs/states").text.split())
            show(_CONNECTING.format(**asdict(access), query=query))
            say("until Ctrl-C")
        with suppress(KeyboardInterrupt):
            Event().wait()


_CONNECTING = """\
{uri}  user {user}  password {password}  database {database}

neo4j driver
  driver = neo4j.GraphDatabase.driver("{uri}", auth=("{user}", "{password}"))
  driver.execute_query("{query}", database_="{database}").records

py2neo
  graph = py2neo.Graph("{uri}", auth=("{user}", "{password}"), name="{database}")
  graph.run("{query}").to_table()

cypher-shell
  export NEO4J_USERNAME={user} NEO4J_PASSWORD={password}
  cypher-shell -a {uri} -d {database} "{query}"

notebook, with pandas
  driver = neo4j.GraphDatabase.driver("{uri}", auth=("{user}", "{password}"))
  driver.execute_query("{query}", database_="{database}", result_transformer_=neo4j.Result.to_df)
"""


def _directory(store: str | None) -> Path:
    from topostrata.settings import load_settings

    name = store or load_settings().store
    if "://" in name:
        raise typer.BadParameter(f"expected the directory of an embedded archive, found {name}", param_hint="--store")
    return Path(name).expanduser()


def _checks(store: str | None) -> Iterator[tuple[str, Callable[[], str]]]:
    import platform
    import sys
    from functools import partial
    from importlib.util import find_spec

    from topostrata import __version__
    from topostrata.errors import install_command

    yield "topostrata", lambda: __version__
    yield "python", lambda: f"{platform.python_version()} on {platform.platform()}"
    extras = {
        "distance": "numba",
        "server": "neo4j",
        "plot": "matplotlib",
        "pandas": "pandas",
        "parquet": "pyarrow",
        "dask": "distributed",
        "keras": "h5py",
        "flax": "msgpack",
        "orbax": "tensorstore",
        "mcp": "mcp",
        "otel": "opentelemetry.distro",
        "py2neo": "py2neo",
        "demo": "sklearn",
        "torch": "torch",
    }
    for extra, module in extras.items():
        there = find_spec(module.partition(".")[0]) and find_spec(module)
        state = "installed" if there else f"not installed: {install_command(extra)}"
        yield f"extra [{extra}]", partial(str, state)
    yield "settings", _settings_text
    yield "rest", lambda: _rest_text(store)
    yield "archive", lambda: _archive_text(store)
    yield "executable", lambda: sys.executable


def _check(name: str, check: Callable[[], str]) -> dict[str, Any]:
    from topostrata.errors import TopostrataError

    try:
        return {"check": name, "ok": True, "found": check()}
    except TopostrataError as error:
        return {"check": name, "ok": False, "found": str(error)}


def _settings_text() -> str:
    import re

    from topostrata.settings import load_settings

    values = load_settings().model_dump()
    # Opening refuses a URI with a password, but that password must not be shown either.
    values["store"] = re.sub(r"://[^/@]*@", "://***@", values["store"])
    return "\n".join(f"{name} = {value}" for name, value in values.items())


def _rest_text(store: str | None) -> str:
    from topostrata.service.tokens import TokenFile, tokens_path
    from topostrata.settings import load_settings

    settings = load_settings()
    kept = []
    if settings.api_tokens_file is not None or "://" not in (store or settings.store):
        kept = TokenFile(tokens_path(settings, store)).tokens()
    if settings.api_secret() is None and not kept:
        return "open, on loopback only: no token is set"
    more = f"; {len(kept)} with scopes, {sum(token.state == 'valid' for token in kept)} of them valid" if kept else ""
    return f"every request has to show the token{more}"


def _archive_text(store: str | None) -> str:
    from topostrata.errors import NotFoundError

    try:
        with archive(store) as opened:
            counts = opened.counts()
            unprojected = opened.unprojected()
            version, where = opened.engine_version(), opened.location
    except NotFoundError as error:  # an archive that does not exist yet is no failure
        return str(error)
    text = f"{where}: {version}, {counts.runs} runs, {counts.snapshots} snapshots, {counts.mask_bytes:,} bytes"
    return "\n".join([text, *map(projected_extent, unprojected)])
