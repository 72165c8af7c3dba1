"""``topostrata demo``: trains small sparse networks, archives their wiring, and shows what the papers found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topostrata.service.cli.output import JsonFlag, answer, progress, say, show, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from topostrata.archive import Archive
    from topostrata.service.demo.training import Digits, Network, Rewire

_NETWORKS = 5
_UNRELATED = 3  # standard deviations from chance: as far as independent networks may lie
_MARK = ".topostrata-demo"


def register(app: typer.Typer) -> None:
    """Add the verb of this file."""
    app.command()(demo)


def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the archive and the pictures go.")] = Path(
        "demo-out"
    ),
    epochs: Annotated[
        int, typer.Option("--epochs", metavar="EPOCHS", min=2, help="How long each network is trained.")
    ] = 30,
    serve: Annotated[bool, typer.Option(help="Serve the REST API at the end, until Ctrl-C.")] = True,
    port: Annotated[
        int, typer.Option("--port", metavar="PORT", min=0, max=65535, help="The port to serve on; 0 takes a free one.")
    ] = 0,
    json_: JsonFlag = False,
) -> None:
    """Train small sparse networks and show what became of them.

    Their wiring is archived after every epoch.
    """
    from topostrata.service.demo.training import load_digits

    data = load_digits()  # first: the extra [demo] brings all that the rest needs, and may be missing

    from topostrata.archive import open_archive

    _clear(out)
    store = str(out / "archive")
    with open_archive(store) as archive:
        _train(out, data, epochs)
        story = _story(archive, out, epochs)
    if json_:
        answer(story)
    else:
        _tell(story)
    say(f"ask more: topostrata ls --store {store}")
    if serve:
        from topostrata.service.api.server import Manner, run_server

        run_server(store, host="127.0.0.1", port=port, ready=lambda url, _names: _invite(url), manner=Manner())


def _clear(out: Path) -> None:
    """Empty the directory for a new demo; an error if it holds anything but an earlier demo."""
    import shutil

    from topostrata.errors import ConflictError
    from topostrata.store.embedded import stop

    if out.exists() and any(out.iterdir()):
        if not (out / _MARK).exists():
            raise ConflictError(f"{out}: expected an empty directory or an earlier demo, found other files")
        stop(out / "archive", force=True)
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARK).touch()


def _train(out: Path, data: Digits, epochs: int) -> None:
    """Train every network as a training job that records itself, then send what they have recorded."""
    import logging

    from topostrata.ingest.hook.run import init
    from topostrata.runs import Parent
    from topostrata.service.demo.training import family, train
    from topostrata.service.sync import Sender
    from topostrata.settings import load_settings

    say(f"Training {_NETWORKS} SET networks, a static sparse and a dense one on scikit-learn's digits.")
    say("w1 is w0 with 1 % of its connections moved, w2 is w1 with 1 % moved, and so on to w4.")
    networks = family(networks=_NETWORKS)
    plans: list[tuple[str, Network, Rewire, Parent | None]] = [
        (f"w{k}", network, "set", Parent(f"w{k - 1}", 0, "perturbation") if k else None)
        for k, network in enumerate(networks)
    ]
    plans += [("static", networks[0], "static", None), ("dense", networks[0], "dense", None)]
    store, spool = out / "archive", out / "spool"
    logging.getLogger("topostrata.hook").setLevel(logging.ERROR)  # that snapshots wait to be sent is meant here
    done = 0
    with (
        progress("train and archive") as advance,
        Sender(load_settings(), store=str(store), tell=lambda _kind, message: say(message)) as sender,
    ):
        for run, network, rewire, parent in plans:
            config = {"epochs": epochs, "seed": network.seed, "rewire": rewire}
            # Offline: a sender of its own, as a job online has, would load the engine's driver once for each network.
            recorded = init(run, config=config, tags=[rewire], parent=parent, store=store, mode="offline", spool=spool)
            for record in train(network, data, epochs=epochs, rewire=rewire, run=run):
                metrics = {"accuracy": record.accuracy}
                recorded.log(record.topology, step=record.epoch, epoch=record.epoch, metrics=metrics)
                recorded.log_gradient_flow(record.flow, step=record.epoch, epoch=record.epoch)
                done += 1
                advance(done, len(plans) * (epochs + 1))
            recorded.finish()
            for kind, count in recorded.counts.troubles.items():
                say(f"{run}: {kind}, {count} times")
        sender.send(spool)


def _story(archive: Archive, out: Path, epochs: int) -> dict[str, Any]:
    """What became of the networks: all numbers are read from the archive. Draws the pictures too."""
    from topostrata import queries
    from topostrata.service.answers.distance import distances_answer
    from topostrata.service.answers.lineage import inference_answer
    from topostrata.service.answers.shape import as_json
    from topostrata.service.plots import descent_tree, heat_maps, survival_curves

    start = archive.distances(["w?@0"])
    with progress("chance") as advance:
        end = archive.distances([f"w?@{epochs}"], chance="degrees", progress=advance)
    steps = sorted({step for step in (2, 5, 10, 20, epochs) if step <= epochs})
    inferred = archive.infer(["w?@0"], root="w0")
    matched = archive.match("w0@last", "w4@last", keep=True)
    lives = archive.cypher(queries.load("cookbook/lives").text, {"run": "w0", "space": "input"})
    survival = archive.history("w0").survival()
    declared = archive.lineage("w0")
    heat_maps({"before training": start, f"after {epochs} epochs": end}, out / "distances.png")
    survival_curves(survival, out / "survival.png")
    descent_tree(declared, inferred.inference, out / "descent.png")
    return {
        "counts": as_json(archive.counts()),
        "networks": [_network(archive, run.id) for run in archive.runs()],
        "distances_before": distances_answer(start),
        "distances_after": distances_answer(end),
        "evolution": [as_json(archive.evolution("w0", 0, step)) for step in steps],
        "lineage": as_json(declared),
        "inferred": inference_answer(inferred),
        "matched": {space.name: [space.width_a, int(space.established.sum())] for space in matched.spaces},
        "lives": {"columns": list(lives.columns), "rows": lives.rows},
        "pictures": [str(out / name) for name in ("distances.png", "survival.png", "descent.png")],
    }


def _network(archive: Archive, run: str) -> dict[str, Any]:
    first, last = archive.snapshot(f"{run}@first"), archive.snapshot(f"{run}@last")
    return {
        "run": run,
        "connections": last.nnz,
        "density": archive.topology(last).density,
        "accuracy_before": first.metrics["accuracy"],
        "accuracy_after": last.metrics["accuracy"],
    }


def _tell(story: dict[str, Any]) -> None:
    counts = story["counts"]
    show(
        "", f"The archive holds {counts['runs']} runs, {counts['snapshots']} snapshots, {counts['mask_bytes']:,} bytes."
    )
    show("", "1. They all learn the same ...")
    heads = ["network", "connections", "density", "accuracy before", "accuracy after"]
    show(table(heads, [list(network.values()) for network in story["networks"]]))
    show("2. ... and end with different wirings. Distances (NNSTD) before and after training:")
    for matrix in (story["distances_before"], story["distances_after"]):
        rows = [[ref, *row] for ref, row in zip(matrix["refs"], matrix["nnstd"], strict=True)]
        show(table(["", *matrix["refs"]], rows))
    level = story["distances_after"]["chance"]
    away = [-pair["z"] for pair in level["pairs"]]
    show(f"   By chance, with as many connections at each unit, they would be {level['level']:.4f} apart:")
    relatives = ": they are still relatives" if min(away) > _UNRELATED else ""
    show(f"   {min(away):.0f} to {max(away):.0f} standard deviations more{relatives}.", "")
    show("3. What is left of the wiring that w0 began with (share of its connections alive throughout):")
    show(_survival(story["evolution"]))
    show("4. Which network descends from which:")
    for edge in story["lineage"]["edges"]:
        show(f"   {edge['child']} is a {edge['how']} of {edge['parent']}@{edge['step']}")
    show("", "5. The same, inferred from the wirings alone (before training, with w0 as the root):")
    edges = story["inferred"]["edges"]
    rows = [[f"{e['parent']} -> {e['child']}", e["distance"], e["margin"], e["support"]] for e in edges]
    show(table(["descent", "distance", "margin over the next best", "support"], rows))
    show("6. Which neurons of w0 and w4 are the same, after training, told by their connections alone:")
    show(table(["space", "units", "established"], [[name, *counts] for name, counts in story["matched"].items()]))
    show("7. In Cypher: the connections in the first layer of w0, by how often they were born:")
    show(table(story["lives"]["columns"], story["lives"]["rows"]))
    show("Pictures: " + ", ".join(story["pictures"]))


def _survival(evolutions: list[dict[str, Any]]) -> RenderableType:
    rewired = [layer["name"] for layer in evolutions[-1]["layers"] if layer["died"]]
    rows = [
        [
            f"epoch {evolution['to']}",
            *(f"{y['survived'] / y['alive_from']:.1%}" for y in evolution["layers"] if y["name"] in rewired),
        ]
        for evolution in evolutions
    ]
    return table(["", *rewired], rows)


def _invite(url: str) -> None:
    say(f"the page: {url}/ until Ctrl-C, and REST beside it, for example:")
    say(f"  curl '{url}/v1/runs'")
    say(f"  curl '{url}/v1/distances?a=w0&b=w4'")
    say(f"  curl '{url}/v1/runs/w0/evolution?from=0&to=10'")
