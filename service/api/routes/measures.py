"""Measures of one snapshot."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request, Response

from topostrata.measures.panel import Measures
from topostrata.measures.structure import Structure
from topostrata.refs import Ref
from topostrata.service.answers.measures import snapshot_answer
from topostrata.service.answers.shape import answer_fields, shape
from topostrata.service.api.lanes import routes_of, slow
from topostrata.service.api.representation import ReadOf, RunId, StepPath, represent

router = routes_of("measures")

StructureAnswer = shape("StructureAnswer", "The structure of one snapshot.", {"ref": str} | answer_fields(Structure))
MeasuresAnswer = shape("MeasuresAnswer", "The structure panel of one snapshot.", {"ref": str} | answer_fields(Measures))

_MOST_COPIES = 20  # each takes about as long as the answer without copies

NullQuery = Annotated[int, Query(ge=0, le=_MOST_COPIES, description="Degree-kept copies to measure beside it.")]
SeedQuery = Annotated[int, Query(ge=0, le=2**32, description="The seed of the first copy; the next one has the next.")]
SpectraQuery = Annotated[bool, Query(description="With the Ramanujan gaps, which take the longest.")]


@router.get("/runs/{run}/snapshots/{step}/structure", response_model=StructureAnswer)
@slow
def get_structure(request: Request, archive: ReadOf, run: RunId, step: StepPath) -> Response:
    """Fan-in, fan-out, hubs, dead units and effective density of one snapshot."""
    ref = Ref(run, step)
    result = archive.structure(ref)
    return represent(request, result, snapshot_answer(str(ref), result))


@router.get("/runs/{run}/snapshots/{step}/measures", response_model=MeasuresAnswer)
@slow
def get_measures(
    request: Request,
    archive: ReadOf,
    run: RunId,
    step: StepPath,
    null: NullQuery = 0,
    seed: SeedQuery = 0,
    spectra: SpectraQuery = True,
) -> Response:
    """The measures that papers print, per layer and for the whole network; docs/measures.md says what each is."""
    ref = Ref(run, step)
    result = archive.measures(ref, null=null, seed=seed, spectra=spectra)
    return represent(request, result, snapshot_answer(str(ref), result))
