"""Verbs that compare: nnstd, distances."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from unicodedata import category

import typer

from topostrata.distance.alignments import DEFAULT, Alignment, descriptions
from topostrata.service.cli.moments import with_moment
from topostrata.service.cli.output import (
    GAP,
    JsonFlag,
    StoreOption,
    answer,
    archive,
    layers_table,
    progress,
    say,
    show,
    table,
    width,
)
from topostrata.service.cli.reading import Reading, check_reading, with_reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    import numpy as np
    from numpy.typing import NDArray
    from rich.console import RenderableType

    from topostrata.archive import Archive
    from topostrata.distance.matrix import DistanceMatrix
    from topostrata.distance.nnstd import Distance
    from topostrata.store.runs import RecordedSnapshot
    from topostrata.topology import Topology


_IN_MEMORY = 256  # networks from files that stay in memory
_CELL = 6  # characters that a distance takes


AlignOption = Annotated[
    Alignment,
    typer.Option("--alignment", help="; ".join(f"{name}: {text}" for name, text in descriptions().items())),
]

ChanceOption = Annotated[
    Literal["degrees", "density"] | None,
    typer.Option(
        "--chance",
        help="Add the distance that independent layers would have. degrees: of networks in which every unit has as "
        "many connections as here, matched in the same way; z says how many standard deviations of such draws the "
        "distance lies from their mean (far below 0: related; within 3: as independent networks; none where draws do "
        "not differ). density: of layers with as many connections as here, anywhere; no z, since hubs alone bring "
        "networks nearer.",
    ),
]


MatrixChanceOption = Annotated[
    Literal["degrees", "density"] | None,
    typer.Option(
        "--chance",
        help="Add the distance that independent networks would have, as nnstd does, of ten of the pairs (each takes "
        "the time of a dozen distances): no distance means anything without it.",
    ),
]

PartnersOption = Annotated[
    Path | None,
    typer.Option(
        "--alignment-file",
        metavar="FILE",
        help="A match from elsewhere (weights, activations) instead of an alignment: npz or JSON with an index array "
        "for each hidden space of A, whose entry i is the unit of B that unit i is.",
    ),
]
OnlyOption = Annotated[
    str | None,
    typer.Option(
        "--only",
        metavar="LAYERS",
        help="Which layers count: names and globs ('fc1,block.3.*'), 'sparse' (not the full ones), 'common' (those "
        "that all networks have, of networks of different depth). With refs alone --layers says the same.",
    ),
]
FirstArgument = Annotated[
    str, typer.Argument(metavar="A", help="A ref (run@STEP) or a path (DIR@50, DIR/epoch_050, a file).")
]
SecondArgument = Annotated[str, typer.Argument(metavar="B", help="The other one.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    more = {"allow_extra_args": True}  # to name `distances` for more than two
    app.command(context_settings=more)(with_moment(with_reading(nnstd)))
    app.command()(with_moment(with_reading(distances)))


def nnstd(
    context: typer.Context,
    a: FirstArgument,
    b: SecondArgument,
    reading: Reading,
    alignment: AlignOption = DEFAULT,
    alignment_file: PartnersOption = None,
    only: OnlyOption = None,
    chance: ChanceOption = None,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """The distance of two topologies, 0 (same wiring) to 1.

    Of files or of the archive, layer by layer; 1 means that they have nothing in common.
    """
    from topostrata.distance.nnstd import nnstd as distance_of
    from topostrata.service.answers.distance import distance_answer

    how: dict[str, Any] = {
        "alignment": alignment,
        "chance": chance,
        "partners": partners_in(alignment_file, alignment),
        "layers": _layers(only, reading, [a, b]),
    }
    with two_networks([a, b, *context.args], store, reading) as (opened, first, second):
        if opened is not None and first.entry is not None and second.entry is not None:
            distance = opened.nnstd(first.entry, second.entry, **how)
        else:
            distance = distance_of(first.topology, second.topology, **how)
    result = distance_answer(first.label, second.label, distance)
    if json_:
        answer(result)
        return
    show(
        f"NNSTD {result['nnstd']:.4f}   {first.label} to {second.label}, alignment {distance.alignment}",
        *_whole_lines(distance),
        layers_table(
            result["layers"], without=() if chance else ("chance", "chance_error", "chance_spread", "chance_kept", "z")
        ),
        *_chance_lines(distance),
        *_held_lines(distance.held),
        *_left_out_lines(distance.left_out),
        *informed_lines(distance.informed),
    )


def distances(
    refs: Annotated[
        list[str], typer.Argument(metavar="REF", help="Refs, globs such as 'w*@last' or 'w0@*', or paths.")
    ],
    reading: Reading,
    alignment: AlignOption = DEFAULT,
    nearest: Annotated[
        int | None,
        typer.Option("--nearest", metavar="COUNT", min=1, help="Show only the COUNT nearest of each network."),
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write the matrix as CSV.")] = None,
    parquet: Annotated[
        Path | None, typer.Option("--parquet", metavar="FILE", help="Write a row for each pair, as Parquet.")
    ] = None,
    graphml: Annotated[
        Path | None, typer.Option("--graphml", metavar="FILE", help="Write a graph with an edge for each pair.")
    ] = None,
    npz: Annotated[Path | None, typer.Option("--npz", metavar="FILE", help="Write everything as NumPy arrays.")] = None,
    png: Annotated[
        Path | None,
        typer.Option(
            "--png", metavar="FILE", help="Draw it, similar networks together, into this file (.png, .svg, .pdf)."
        ),
    ] = None,
    only: OnlyOption = None,
    chance: MatrixChanceOption = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Compute on a Dask cluster: tcp://HOST:8786 of its scheduler.")
    ] = None,
    store: StoreOption = None,
    json_: JsonFlag = False,
) -> None:
    """The distances of all pairs of a set of snapshots."""
    files = {"csv": csv, "parquet": parquet, "graphml": graphml, "npz": npz, "png": png}
    outputs = {kind: path for kind, path in files.items() if path is not None}
    check_outputs(outputs)
    layers = _layers(only, reading, refs)
    check_reading(reading, refs)
    how = {"alignment": alignment, "scheduler": scheduler, "layers": layers, "chance": chance}
    matrix = _matrix(refs, reading, store, how)
    try:
        _write_outputs(matrix, outputs)
    finally:  # the matrix is shown even if a file could not be written
        _show_matrix(matrix, nearest, [path for kind, path in outputs.items() if kind != "png"], json_=json_)


def _show_matrix(matrix: DistanceMatrix, nearest: int | None, files: list[Path], *, json_: bool) -> None:
    from topostrata.service.answers.distance import distances_answer

    level = [] if matrix.chance is None else [str(matrix.chance)]
    notes = [*level, *_held_lines(matrix.held), *_left_out_lines(matrix.left_out)]
    if json_:
        answer(distances_answer(matrix, nearest=nearest))
    elif nearest is not None:
        neighbours = zip(matrix.labels, matrix.nearest(nearest), strict=True)
        near = [[label, other, distance] for label, row in neighbours for other, distance in row]
        title = f"nearest by NNSTD, alignment {matrix.alignment}"
        show(title, table(["", "nearest", "distance"], near), *notes)
    else:
        show(f"NNSTD, alignment {matrix.alignment}", *_matrix_tables(matrix, files), *notes)


def _layers(only: str | None, reading: Reading, refs: list[str]) -> str | tuple[str, ...] | None:
    """Which layers count: of refs alone, whose layers nobody reads from a file, ``--layers`` says it too."""
    from topostrata.refs import is_path

    if only is None and reading["layers"] and not any(is_path(ref) for ref in refs):
        layers: tuple[str, ...] = reading["layers"]
        reading["layers"] = ()
        return layers
    return only


def _left_out_lines(layers: tuple[str, ...]) -> list[str]:
    return [f"left out: {', '.join(layers)}"] if layers else []


def _held_lines(spaces: tuple[str, ...]) -> list[str]:
    return [f"held in place, so that the distance may be too large: {', '.join(spaces)}"] if spaces else []


def _whole_lines(distance: Distance) -> list[str]:
    """The level of the whole distance, and how far it is away from it."""
    if distance.chance is None:
        return []
    level, z = distance.chance, distance.z
    away = "" if z is None else f"; z {z:.1f}"
    return [f"chance {level.level:.4f} +- {level.error:.4f}, {level.kept} kept, {level.draws} draws{away}"]


def _chance_lines(distance: Distance) -> list[str]:
    from topostrata.distance.null_model import NOISE

    levels = {row.name: row.chance for row in distance.layers if row.chance is not None}
    if distance.chance is not None and distance.chance.kept == "density":
        return ["no z: hubs alone bring networks nearer than those of equal density (--chance degrees has one)"]
    same = [name for name, level in levels.items() if level.spread <= NOISE]
    return [f"no z where all draws are alike, so that nothing is left to chance: {', '.join(same)}"] if same else []


def informed_lines(informed: bool | None) -> list[str]:
    """What is to say where ties decided most units."""
    text = "not informed: ties left most units of a space to no more than their names' hashes; try another alignment"
    return [text] if informed is False else []


def _matrix_tables(matrix: DistanceMatrix, files: list[Path]) -> list[RenderableType]:
    """The whole matrix if it fits the terminal, with names or numbers as heads; else a summary for each network."""
    from topostrata.distance.matrix import short

    labels = short(matrix.labels)
    numbers = [str(k) for k in range(1, len(labels) + 1)]
    for heads in (labels, numbers):
        if sum(max(len(head), _CELL) + GAP for head in heads) + max(map(len, heads)) <= width():
            rows = [[head, *row] for head, row in zip(heads, matrix.nnstd.tolist(), strict=True)]
            legend = [table(["", "network"], zip(numbers, labels, strict=True))] if heads is numbers else []
            return [*legend, table(["", *heads], rows)]
    whole = f"{files[0]} has them all" if files else "--csv FILE writes them all"
    say(f"note: {len(labels)} x {len(labels)} distances are too wide for the terminal; {whole}")
    names = dict(zip(matrix.labels, labels, strict=True))
    summary = []
    for label, [(near, smallest)], row in zip(labels, matrix.nearest(1), matrix.nnstd, strict=True):
        far = int(row.argmax())
        summary.append([label, names[near], smallest, labels[far], float(row[far]), float(row.sum()) / (len(row) - 1)])
    return [table(["network", "nearest", "distance", "farthest", "distance", "mean"], summary)]


@dataclass(frozen=True, slots=True)
class NamedNetwork:
    """A network that a verb names: a snapshot of the archive (its ``entry``), or one in a file."""

    label: str
    entry: RecordedSnapshot | None
    load: Callable[[], Topology]

    @property
    def topology(self) -> Topology:
        """The network itself, read when it is asked for."""
        return self.load()


@contextmanager
def two_networks(
    refs: list[str], store: str | None, reading: Reading
) -> Iterator[tuple[Archive | None, NamedNetwork, NamedNetwork]]:
    """The two networks that a verb compares, with the archive where one of them is there.

    Errors about files that are no refs, about sets and about networks that cannot be compared name them.
    """
    from topostrata.errors import NotComparableError

    _refuse_a_set(refs)
    check_reading(reading, refs)
    try:
        with _file_suggested(refs), _archive_for(refs, store) as opened:
            first, second = _named(refs, opened, reading)
            yield opened, first, second
    except NotComparableError as error:
        names = " and ".join(map(_printable, refs))
        raise NotComparableError(f"{names}: {error.message}", hint=error.hint) from error


def partners_in(path: Path | None, alignment: Alignment) -> dict[str, NDArray[np.int64]] | None:
    """The match in a file, if one is named; another alignment beside it is refused."""
    if path is None:
        return None
    if alignment != DEFAULT:
        raise typer.BadParameter("expected --alignment or --alignment-file, found both")
    from topostrata.distance.given import read_partners

    return read_partners(path)


def _itself(topology: Topology) -> Topology:
    return topology


def _named(refs: list[str], opened: Archive | None, reading: Reading) -> list[NamedNetwork]:
    """The networks of refs; those in the archive are looked up at once."""
    from topostrata.refs import is_path

    stored = [ref for ref in refs if opened is not None and not is_path(ref)]
    entries = iter(opened.recorded(*stored) if opened is not None and stored else ())
    networks = []
    for ref in refs:
        if is_path(ref) or opened is None:
            _, topology = _load(ref, opened, reading)
            networks.append(NamedNetwork(_printable(ref), None, partial(_itself, topology)))
        else:
            entry = next(entries)
            networks.append(NamedNetwork(entry.snapshot.id, entry, partial(opened.topology, entry)))
    return networks


def _refuse_a_set(refs: list[str]) -> None:
    """Raise an error for more than two topologies or a glob, which names `distances`."""
    from topostrata.refs import is_glob, is_path

    globs = [ref for ref in refs if is_glob(ref) and not is_path(ref)]
    if len(refs) > 2:
        what = f"{len(refs)} topologies"
    elif globs:
        what = f"the glob {globs[0]!r}"
    else:
        return
    raise typer.BadParameter(f"expected two topologies, found {what}; `topostrata distances` compares all of a set")


@contextmanager
def _file_suggested(refs: list[str]) -> Iterator[None]:
    """Add a hint to the error for a ref that is not in the archive, if there is a file of that name."""
    from topostrata.errors import InvalidRefError, NotFoundError
    from topostrata.refs import is_path, parse_path_ref

    try:
        yield
    except (InvalidRefError, NotFoundError) as error:
        files = [f"./{ref}" for ref in refs if not is_path(ref) and parse_path_ref(f"./{ref}").path.exists()]
        if files:
            more = " ..." if len(files) > 2 else ""
            error.hint = f"did you mean {' '.join(files[:2])}{more}? A path contains a / or begins with a dot"
        raise


def _archive_for(refs: list[str], store: str | None) -> AbstractContextManager[Archive | None]:
    from contextlib import nullcontext

    from topostrata.refs import is_path

    return nullcontext() if all(is_path(ref) for ref in refs) else archive(store)


def _load(text: str, opened: Archive | None, reading: Reading) -> tuple[str, Topology]:
    from topostrata.refs import is_path, parse_path_ref

    if is_path(text) or opened is None:
        from topostrata.ingest.formats.reading import read_one

        return _printable(text), read_one(parse_path_ref(text), **reading).topology
    (entry,) = opened.recorded(text)
    return entry.snapshot.id, opened.topology(entry)


def _matrix(refs: list[str], reading: Reading, store: str | None, how: dict[str, Any]) -> DistanceMatrix:
    from topostrata.distance.pairwise import distances as all_distances
    from topostrata.refs import is_path

    paths = [is_path(ref) for ref in refs]
    if any(paths) and not all(paths):
        raise typer.BadParameter("expected refs of the archive or paths, found both; push the files first")
    if all(paths):
        refs = list(dict.fromkeys(refs))
        topologies = _loaders(refs, reading)
        with progress("distances") as advance:
            return all_distances(
                topologies,
                labels=[_printable(ref) for ref in refs],
                progress=advance,
                **how,
            )
    with _file_suggested(refs), archive(store) as opened, progress("distances") as advance:
        return opened.distances(refs, progress=advance, **how)


def check_outputs(outputs: dict[str, Path]) -> None:
    """Raise an error now if an output cannot be written: computing the distances may take hours."""
    from topostrata.errors import InvalidInputError
    from topostrata.files import check_target

    targets = [check_target(path).resolve() for path in outputs.values()]
    if len(set(targets)) < len(targets):
        raise InvalidInputError("expected a different file for each output, found one named twice")
    if "graphml" in outputs:
        from topostrata.distance.matrix import need_networkx

        need_networkx()
    if "parquet" in outputs:
        from topostrata.distance.matrix import need_parquet

        need_parquet()
    if "png" in outputs:
        from topostrata.service.pictures import check_picture

        check_picture(outputs["png"])


def _write_outputs(matrix: DistanceMatrix, outputs: dict[str, Path]) -> None:
    """Write every output that can be written, then raise the first error."""
    from topostrata.errors import TopostrataError

    failed: list[TopostrataError] = []
    for kind, path in outputs.items():
        try:
            if kind == "png":
                from topostrata.service.plots import clustered_map

                clustered_map(matrix, path)
            else:
                getattr(matrix, f"to_{kind}")(path)
        except TopostrataError as error:
            failed.append(error)
        else:
            say(f"wrote {path}")
    if failed:
        raise failed[0]


def _printable(path: str) -> str:
    """The path with escapes for backslashes and for all that a table, XML or UTF-8 cannot hold."""
    return "".join(
        c.encode("unicode_escape").decode() if category(c) in {"Cc", "Cs"} or c in "\\\ufffe\uffff" else c for c in path
    )


def _loaders(refs: list[str], reading: Reading) -> list[Topology | Callable[[], Topology]]:
    """The networks in files. All are read now, so that a bad file is an error at once; only some stay in memory."""

    def load(ref: str) -> Topology:
        return _load(ref, None, reading)[1]

    loaders: list[Topology | Callable[[], Topology]] = []
    for ref in refs:
        topology = load(ref)
        loaders.append(topology if len(loaders) < _IN_MEMORY else partial(load, ref))
    return loaders
