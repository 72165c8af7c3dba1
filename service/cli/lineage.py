"""Verbs about several runs: lineage, timeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from topostrata.distance.alignments import Alignment
from topostrata.service.cli.distance import ChanceOption, check_outputs
from topostrata.service.cli.moments import with_moment
from topostrata.service.cli.output import (
    AS_OF,
    JsonFlag,
    PngOption,
    StoreOption,
    answer,
    archive,
    progress,
    say,
    show,
    table,
)

if TYPE_CHECKING:
    from topostrata.archive import Archive
    from topostrata.lineage.declared import Lineage
    from topostrata.lineage.inferred import Inference
    from topostrata.lineage.stored import StoredInference
    from topostrata.lineage.unit_terms import Units

_MOST_NAMED = 5

OptionalAlign = Annotated[
    Alignment | None, typer.Option("--alignment", help="Which unit is compared with which. [default: what fits]")
]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(with_moment(lineage))
    app.command()(with_moment(timeline))


def lineage(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="The run whose family is shown. [default: all runs]")
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option("--depth", metavar="GENERATIONS", min=0, help="How far up and down. [default: all]"),
    ] = None,
    other: Annotated[
        str | None, typer.Option("--with", metavar="OTHER", help="Show how RUN is related to this run.")
    ] = None,
    infer: Annotated[
        list[str] | None,
        typer.Option(
            "--infer", metavar="REF", help="Infer the descent of these snapshots, such as 'w*@0'; may be repeated."
        ),
    ] = None,
    root: Annotated[
        str | None, typer.Option("--root", metavar="RUN", help="With --infer: the run that is the ancestor of all.")
    ] = None,
    by_time: Annotated[
        bool, typer.Option("--by-time", help="With --infer: no run descends from a younger one.")
    ] = False,
    units: Annotated[
        Literal["in-place", "renamed"] | None,
        typer.Option(
            "--units",
            help="With --infer: in-place if hidden unit i is the same unit in all runs, renamed if units are to be "
            "matched. [default: detected, and said]",
        ),
    ] = None,
    alignment: OptionalAlign = None,
    name: Annotated[
        str,
        typer.Option(
            "--name", metavar="NAME", help="With --infer: the name it is stored under; with --as-of it is not stored."
        ),
    ] = "inferred",
    graphml: Annotated[Path | None, typer.Option("--graphml", metavar="FILE", help="Write it as GraphML.")] = None,
    prov: Annotated[Path | None, typer.Option("--prov", metavar="FILE", help="Write it as PROV-JSON.")] = None,
    openlineage: Annotated[
        Path | None,
        typer.Option(
            "--openlineage", metavar="FILE", help="Write what is declared as events of OpenLineage, a line each."
        ),
    ] = None,
    png: PngOption = None,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """Which run descends from which.

    As declared when the runs were pushed, or inferred from their distances.
    """
    from topostrata.service.answers.lineage import inference_answer
    from topostrata.service.answers.shape import as_json

    if not infer and (root or by_time or units or alignment):
        raise typer.BadParameter("--root, --by-time, --units and --alignment go with --infer")
    if infer and openlineage:
        raise typer.BadParameter(
            "expected declared descent, found --infer: OpenLineage has no mark for a guess, --prov and --graphml have",
            param_hint="--openlineage",
        )
    outputs = (("graphml", graphml), ("prov", prov), ("openlineage", openlineage), ("png", png))
    check_outputs({kind: path for kind, path in outputs if path})
    kept = name if AS_OF.get() is None else None  # a moment is only read
    with archive(store) as opened:
        if other is not None:
            if run is None:
                raise typer.BadParameter("expected RUN as well, found none", param_hint="--with")
            _show_kinship(as_json(opened.kinship(run, other)), as_json=json_)
            return
        declared = opened.lineage(run, depth=depth)
        inferred = (
            _infer(opened, infer, root=root, by_time=by_time, units=units, alignment=alignment, name=kept)
            if infer
            else None
        )
        events = opened.openlineage(run, depth=depth) if openlineage else []
    _export(inferred.inference if inferred else declared, graphml, prov)
    if openlineage is not None:
        _write(openlineage, "".join(json.dumps(event) + "\n" for event in events))
    if png is not None:
        _draw(declared, inferred.inference if inferred else None, png)
    if inferred is not None:
        _show_inference(inference_answer(inferred), as_json=json_)
    else:
        _show_lineage(as_json(declared), run, depth, as_json=json_)


def timeline(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run.")],
    other: Annotated[
        str | None, typer.Argument(metavar="OTHER", help="Another run. [default: the run's own past]")
    ] = None,
    alignment: OptionalAlign = None,
    lag: Annotated[
        int | None,
        typer.Option(
            "--lag",
            metavar="SNAPSHOTS",
            min=1,
            help="Compare with the snapshot this many before. [default: the first]",
        ),
    ] = None,
    chance: ChanceOption = None,
    png: PngOption = None,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """How far two runs are apart over time.

    Also when they were closest; or how far a run is from its own past.
    """
    from topostrata.service.answers.shape import as_json

    with archive(store) as opened:
        line = opened.timeline(run, other, alignment=alignment, lag=lag, chance=chance)
    curve = as_json(line)
    if png is not None:
        from topostrata.service.plots import timeline_curve

        timeline_curve(line, png)
        say(f"wrote {png}")
    if json_:
        answer(curve)
        return
    closest = curve["closest"]
    if closest is None:
        say("no two snapshots to compare")
        return
    columns = [
        "step",
        "other step",
        "distance",
        *(["chance"] if chance else []),
        *(["z"] if chance == "degrees" else []),
    ]
    rows = [list(point.values())[: len(columns)] for point in curve["points"]]
    named = "neither converging nor diverging" if curve["course"] == "neither" else curve["course"]
    course = f"; {named}" if named else ""
    show(table(columns, rows), f"closest at step {closest['step']}: {closest['distance']:.4f}{course}")


def _infer(
    opened: Archive,
    refs: list[str],
    *,
    root: str | None,
    by_time: bool,
    units: Units | None,
    alignment: Alignment | None,
    name: str | None,
) -> StoredInference:
    with progress("infer") as advance:
        return opened.infer(
            refs,
            root=root,
            by_time=by_time,
            units=units,
            alignment=alignment,
            name=name,
            progress=advance,
        )


def _show_kinship(kinship: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        answer(kinship)
    elif kinship["ancestors"]:
        show(f"nearest common ancestor: {', '.join(kinship['ancestors'])}")
        show(" -> ".join(kinship["to_a"]), " -> ".join(kinship["to_b"]))
    else:
        show(f"{kinship['a']} and {kinship['b']} have no declared ancestor in common")


def _show_lineage(family: dict[str, Any], run: str | None, depth: int | None, *, as_json: bool) -> None:
    if as_json:
        answer(family)
    elif family["nodes"]:
        show(_forest(family["nodes"], family["edges"], run))
        if family["cut"]:
            say(f"note: {family['cut']} more runs lie beyond {depth} generations")
    else:
        say("no runs yet")


def _show_inference(inferred: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        answer(inferred)
        return
    rows = [list(edge.values()) for edge in inferred["edges"]]
    known = f"root {inferred['root']}" if inferred["root"] else "no root: an unknown direction may be the opposite"
    show(
        f"probable descent, {inferred['alignment']} distances, {known}",
        table(["parent", "child", "distance", "margin", "support", "direction by"], rows),
        units_line(inferred),
    )


def units_line(inferred: dict[str, Any]) -> str:
    """Whether hidden units are in place, and how that is known, in a sentence."""
    if inferred["units_by"] == "caller":
        return f"hidden units: {inferred['units']}, as stated"
    if inferred["units_by"] == "shapes":
        return "hidden units: renamed, since the networks have different shapes"
    if inferred["units"] == "in-place":
        return (
            "hidden units: in place, detected: by index each network shares more connections with another one than "
            f"by chance, by {inferred['agreement']:.0f} standard deviations or more"
        )
    apart = inferred["out_of_place"]
    more = f" and {len(apart) - _MOST_NAMED} more" if len(apart) > _MOST_NAMED else ""
    return (
        f"hidden units: renamed, detected: by index {', '.join(apart[:_MOST_NAMED])}{more} have no more connections in "
        "common with any other network than by chance (--units in-place where you know better)"
    )


def _export(descent: Lineage | Inference, graphml: Path | None, prov: Path | None) -> None:
    from topostrata.lineage.exports import to_graphml, to_prov

    if graphml is not None:
        _write(graphml, to_graphml(descent))
    if prov is not None:
        _write(prov, json.dumps(to_prov(descent), indent=1) + "\n")


def _write(path: Path, text: str) -> None:
    from topostrata.files import whole

    with whole(path) as draft:
        draft.write_text(text, encoding="utf-8")
    say(f"wrote {path}")


def _draw(declared: Lineage, inferred: Inference | None, path: Path) -> None:
    from topostrata.service.plots import descent_tree

    descent_tree(declared, inferred, path)
    say(f"wrote {path}")


def _forest(nodes: list[str], edges: Any, marked: str | None) -> Any:
    """Each run under its first parent; a run with several parents is drawn once and names the others."""
    from rich.text import Text
    from rich.tree import Tree

    forest = Tree(Text("descent"))
    branches: dict[str, Tree] = {}
    for node in nodes:
        above = [edge for edge in edges if edge["child"] == node]
        label = Text(node, style="bold" if node == marked else "")
        if above:
            first, *others = above
            label.append(f"  {first['how']} of {first['parent']}@{first['step']}", style="not bold")
            for other in others:
                label.append(f", {other['how']} of {other['parent']}@{other['step']}", style="not bold")
        branches[node] = (branches[above[0]["parent"]] if above else forest).add(label)
    return forest
