"""Distances of snapshots."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO, StringIO
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from topostrata.distance.alignments import DEFAULT, Alignment
from topostrata.distance.matrix import DistanceMatrix
from topostrata.distance.nnstd import Distance, LayerDistance, layer_names
from topostrata.distance.null_model import Kept
from topostrata.errors import InvalidInputError, LimitError
from topostrata.refs import parse_ref
from topostrata.service.answers import arrow, values
from topostrata.service.answers.distance import (
    DistancesAnswer,
    check_layer,
    distance_answer,
    distances_answer,
    picture,
)
from topostrata.service.answers.shape import answer_fields, shape
from topostrata.service.api.lanes import Lane, Route, lanes_of, slow
from topostrata.service.api.representation import (
    BINARY,
    GLOB_PATTERN,
    JSON,
    REF_PATTERN,
    ReadOf,
    negotiated,
    represent,
    represent_bytes,
)
from topostrata.service.api.routes.limits import MOST_COMPARED, check_count

router = APIRouter(tags=["distance"], route_class=Route)

LayersQuery = Annotated[
    list[str] | None,
    Query(
        max_length=MOST_COMPARED,
        description="Which layers count: names, globs, `sparse` (not the full ones), `common` (those that all have).",
    ),
]
RefQuery = Annotated[
    str, Query(description="A snapshot: run@STEP, run@first, run@last, or run (its last).", pattern=REF_PATTERN)
]
_CSV, _NPZ = "text/csv", "application/x-npz"
MOST_NUMBERS = 2**20  # of a matrix as JSON, which takes 20 bytes of text and 50 of memory for each
PICTURE = "application/vnd.topostrata.matrix"
MATRICES = (JSON, values.MEDIA_TYPE, arrow.MEDIA_TYPE, "application/octet-stream", PICTURE, _CSV, _NPZ)
Pattern = Annotated[str, Field(pattern=GLOB_PATTERN)]

PictureLayer = Annotated[
    str | None,
    Query(
        description=f"With `Accept: {PICTURE}`: the layer whose distances it has. Default: the mean of the layers.",
    ),
]
KeepQuery = Annotated[bool, Query(description="Keep what is computed, for others and for Cypher.")]

_CHANCE = {
    "chance": float | None,
    "chance_error": float | None,
    "chance_spread": float | None,
    "chance_kept": Kept | None,
}
LayerDistanceAnswer = shape(
    "LayerDistanceAnswer",
    """The distance of one layer, 0 to 1, the number of its target units, and both densities.

    ``ambiguous``: units with more than one optimal partner. ``chance``: the mean distance of independent layers, with
    its standard error and the spread of single draws; ``chance_kept``: what these have in common with the two, the
    ``degrees`` of every unit or the ``density``. ``z``: how many standard deviations of chance the distance is away
    from it; null where densities are kept, or where draws differ by no more than rounding.
    """,
    answer_fields(LayerDistance) | _CHANCE,
)
DistanceAnswer = shape(
    "DistanceAnswer",
    """The distance of two topologies: ``nnstd`` is the mean of the layers'.

    ``canonical`` says that the value does not depend on the order in which hidden units are stored. ``held`` names the
    spaces with interchangeable units that were compared by index all the same: the distance may be too large there.
    ``informed`` is false where ties, not connections, decided the partners of most units of a space. ``chance``,
    ``chance_error``, ``chance_spread`` and ``z`` are those of ``nnstd``, as those of the layers.
    """,
    {"a": str, "b": str} | answer_fields(Distance) | _CHANCE | {"layers": list[LayerDistanceAnswer]},  # type: ignore[valid-type]
)


@router.get("/distances", response_model=DistanceAnswer)
async def get_distance(
    request: Request,
    archive: ReadOf,
    a: RefQuery,
    b: RefQuery,
    alignment: Annotated[Alignment, Query(description="Which unit is compared with which.")] = DEFAULT,
    chance: Annotated[
        Kept | None,
        Query(description="Add the level of independent layers of the same degrees (with z) or density."),
    ] = None,
    layers: LayersQuery = None,
    keep: KeepQuery = True,
) -> Response:
    """NNSTD of two snapshots; one that is kept already waits for nobody who computes."""

    def stored() -> Response | None:
        ours, theirs = (ref if isinstance(ref.step, int) else archive.snapshot(ref) for ref in map(parse_ref, (a, b)))
        distance = archive.stored_nnstd(ours, theirs, alignment=alignment)
        return None if distance is None else told(f"{ours.run}@{ours.step}", f"{theirs.run}@{theirs.step}", distance)

    def computed() -> Response:
        ours, theirs = archive.recorded(a, b)
        distance = archive.nnstd(ours, theirs, alignment=alignment, chance=chance, layers=layers, keep=keep)
        return told(ours.snapshot.id, theirs.snapshot.id, distance)

    def told(ours: str, theirs: str, distance: Distance) -> Response:
        answer = distance_answer(ours, theirs, distance)
        return represent(request, replace(distance, matching={}), answer)  # the match is `/v1/match`

    lanes = lanes_of(request)
    response = await lanes.work(Lane.QUICK, stored) if chance is None and layers is None else None
    return response or await lanes.answer(Lane.SLOW, request, lambda _: run_in_threadpool(computed))


@router.get(
    "/distances/matrix",
    response_model=DistancesAnswer,
    responses={200: {"content": dict.fromkeys(MATRICES[1:], BINARY)}, 406: {}, 413: {}},
)
@slow
def get_distances(
    request: Request,
    archive: ReadOf,
    refs: Annotated[list[Pattern], Query(max_length=MOST_COMPARED, description="Refs or globs such as `w*@last`.")],
    alignment: Annotated[Alignment, Query(description="Which unit is compared with which.")] = DEFAULT,
    nearest: Annotated[
        int | None, Query(ge=1, le=MOST_COMPARED, description="How many nearest snapshots to add for each.")
    ] = None,
    layers: LayersQuery = None,
    chance: Annotated[
        Kept | None,
        Query(description="Add the level of independent networks of the same degrees or density, of ten of the pairs."),
    ] = None,
    layer: PictureLayer = None,
    keep: KeepQuery = True,
) -> Response:
    """The distances of all pairs of some snapshots, clusters, and an order that puts similar ones side by side.

    As an Arrow stream: a column of refs, and one of distances for each; as CSV: the same in text; as npz: all that is
    known, as `ts.DistanceMatrix.from_npz` reads it; as bytes: the numbers alone, row by row, of 32 bits, little-endian;
    as `application/vnd.topostrata.matrix`: how many bytes of JSON follow (32 bits), the JSON without distances, and
    those of the mean or of a `layer` as in bytes, which is what a picture takes.
    """
    snapshots = check_count(archive, refs)
    kind = negotiated(request, MATRICES)
    check_form(kind, layer)
    if layer is not None:  # before anything is computed
        check_layer(layer, layer_names(archive.wiring(snapshots[0].run)))
    matrix = archive.distances(refs, alignment=alignment, layers=layers, chance=chance, keep=keep)
    return matrix_response(request, matrix, kind, nearest=nearest, layer=layer)


def check_form(kind: str, layer: str | None) -> None:
    """Raise ``InvalidInputError`` for a layer where the form that is answered in has not the distances of one."""
    if layer is not None and kind != PICTURE:
        raise InvalidInputError(
            f"layer: only {PICTURE} has the distances of one layer, found Accept: {kind}",
            hint="JSON and npz have those of all layers; `layers` chooses which count",
        )


def matrix_response(
    request: Request, matrix: DistanceMatrix, kind: str, *, nearest: int | None, layer: str | None = None
) -> Response:
    """A matrix in one of its forms: JSON for one that can be looked at, the others are numbers as they are in memory.

    Raises ``LimitError`` for JSON of more than ``MOST_NUMBERS``: while it is made nobody else is answered.
    """
    check_form(kind, layer)
    if kind == PICTURE:
        return represent_bytes(request, picture(matrix, layer), kind, headers={"Vary": "Accept"})
    if kind == values.MEDIA_TYPE:
        return represent(request, matrix)
    if kind == JSON:
        count = matrix.nnstd.size + matrix.layers.size
        if count > MOST_NUMBERS:
            raise LimitError(
                f"JSON: expected a matrix of at most {MOST_NUMBERS} numbers, found {count}:"
                f" {len(matrix.labels)} snapshots, each two with {len(matrix.layer_names)} layers",
                hint=f"ask for another form: Accept: {_NPZ}, {arrow.MEDIA_TYPE}, application/octet-stream or {_CSV}",
            )
        return represent(request, matrix, distances_answer(matrix, nearest=nearest))
    return represent_bytes(request, _packed(matrix, kind), kind, headers={"Vary": "Accept"})


def _packed(matrix: DistanceMatrix, kind: str) -> bytes:
    """A matrix in another form than JSON."""
    if kind == arrow.MEDIA_TYPE:
        return arrow.matrix_stream(matrix)
    if kind == _CSV:
        text = StringIO(newline="")
        matrix.write_csv(text)
        return text.getvalue().encode("utf-8")
    if kind == _NPZ:
        file = BytesIO()
        matrix.write_npz(file)
        return file.getvalue()
    return matrix.nnstd.astype("<f4").tobytes()
