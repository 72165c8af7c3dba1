"""Measures of one snapshot."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from topostrata.measures.structure import Structure
from topostrata.refs import Ref
from topostrata.service.answers.measures import structure_answer
from topostrata.service.answers.shape import answer_fields, shape
from topostrata.service.api.representation import ArchiveOf, RunId, StepPath, represent

router = APIRouter(tags=["measures"])

StructureAnswer = shape("StructureAnswer", "The structure of one snapshot.", {"ref": str} | answer_fields(Structure))


@router.get("/runs/{run}/snapshots/{step}/structure", response_model=StructureAnswer)
def get_structure(request: Request, archive: ArchiveOf, run: RunId, step: StepPath) -> Response:
    """Fan-in, fan-out, hubs, dead units and effective density of one snapshot."""
    ref = Ref(run, step)
    return represent(request, structure_answer(str(ref), archive.structure(ref)))
