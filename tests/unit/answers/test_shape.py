"""A result is its JSON: values and types are read off the same columns."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import TypeAdapter

import topostrata
from tests.histories import random_history
from topostrata.distance.match import match
from topostrata.evolution.between import Evolution, between
from topostrata.evolution.history import follow
from topostrata.evolution.stored import Moment, RunHistory
from topostrata.frames import columns
from topostrata.lineage.declared import Kinship, Lineage
from topostrata.lineage.inferred import Inference, InferredEdge
from topostrata.lineage.timelines import Point, Timeline
from topostrata.measures.panel import measure
from topostrata.measures.structure import structure
from topostrata.runs import Descent, Parent, Run, Snapshot
from topostrata.service.answers.shape import answer_type, as_json
from topostrata.service.answers.values import as_document, value_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def results() -> Iterator[Any]:
    """One or two of each kind of result."""
    history = random_history(5, snapshots=4)
    masks = {
        layer.name: [(step, history.at(step)[layer.name].mask) for step in history.steps] for layer in history.layers
    }
    layers = tuple(between(name, [mask for _, mask in steps]) for name, steps in masks.items())
    yield Evolution("w0", history.steps[0], history.steps[-1], "w0", layers)
    moments = tuple(Moment("w0", step, step) for step in history.steps)
    run = RunHistory("w0", moments, tuple(follow(name, steps) for name, steps in masks.items()))
    yield run
    yield run.survival()
    yield structure(history.at(history.steps[0]))
    yield measure(history.at(history.steps[0]))
    yield measure(history.at(history.steps[0]), null=2)
    yield Lineage(("w0", "w1"), (Descent("w0", 0, "w1", "fork"),), 2)
    yield Kinship("a", "b", ("c",), ("c", "a"), ("c", "b"))
    yield Inference("tree", "canonical", None, (InferredEdge("a", "b", 0.5, None, 1.0, "unknown"),), 3, 1)
    yield Timeline("a", "b", (Point(0, 0, 0.5), Point(5, 5, 0.25, 0.9)))
    yield Timeline("a", "b", ())
    yield match(history.at(history.steps[0]), history.at(history.steps[-1]))
    yield Run("w1", "w1", "open", NOW, {"lr": 0.1}, ("set",), (Parent("w0", 3, "fork"),), 2, 0, 5)
    yield Snapshot("w1", 5, "0" * 64, 12, NOW, 2.5, {"accuracy": 0.5})


@pytest.mark.parametrize("result", tuple(results()), ids=lambda result: type(result).__name__)
def test_the_json_of_a_result_is_of_its_type(result: Any) -> None:
    """Every object has the fields that the contract names, no other ones, each of its type."""
    answer = json.loads(json.dumps(as_json(result), allow_nan=False))
    kind: type = type(result)
    contract = TypeAdapter(answer_type(kind))
    assert contract.validate_python(answer, strict=True, extra="forbid") == answer
    assert list(answer) == list(columns(kind).values())


@pytest.mark.parametrize("result", tuple(results()), ids=lambda result: type(result).__name__)
def test_a_result_comes_back_from_its_document(result: Any) -> None:
    """Through JSON it is the same value: every field of its type, arrays of the same numbers, to the bit."""
    text = json.dumps(as_document(result), allow_nan=False)
    again = value_of(type(result), json.loads(text))
    assert type(again) is type(result)
    assert json.dumps(as_document(again)) == text
    assert as_json(again) == as_json(result)
    assert repr(again) == repr(result)


def test_arrays_and_odd_numbers_come_back() -> None:
    """Of any shape and dtype, NaN and infinities among them; those of another shape than their bytes do not."""
    arrays = (np.arange(6, dtype="<i4").reshape(2, 3), np.array([math.nan, -math.inf]), np.empty((0, 3), dtype=bool))
    for array in arrays:
        document = json.loads(json.dumps(as_document(array), allow_nan=False))
        again = value_of(NDArray[Any], document)
        assert again.dtype == array.dtype
        assert np.array_equal(again, array, equal_nan=array.dtype.kind == "f")
        assert again.flags.writeable
        with pytest.raises(ValueError, match="reshape"):
            value_of(NDArray[Any], document | {"shape": [5, 5]})
    assert math.isnan(value_of(float, json.loads(json.dumps(as_document(np.float64("nan"))))))


@dataclass(frozen=True)
class Measured:
    """A result as somebody adds it."""

    json_names: ClassVar = {"inside": None, "from_step": "from"}

    from_step: int
    inside: int
    share: float

    @property
    def added(self) -> float | None:
        """A measure."""
        return 2 * self.share


def test_a_new_measure_goes_out_by_itself() -> None:
    """A field or a property of a result is in its JSON and in its type unless it is named as one that stays inside."""
    assert as_json(Measured(1, 2, 0.5)) == {"from": 1, "share": 0.5, "added": 1.0}
    assert answer_type(Measured).__annotations__ == {"from": int, "share": float, "added": float | None}


def test_numbers_that_json_does_not_know_are_null() -> None:
    """Infinity and NaN go out as null."""
    assert as_json([math.inf, math.nan, {"x": -math.inf}, 0.5]) == [None, None, {"x": None}, 0.5]


def test_names_of_columns_belong_to_attributes() -> None:
    """`json_names` of a result names its fields and properties only: a name that is misspelt hides nothing."""
    kinds = [
        kind
        for module in pkgutil.walk_packages(topostrata.__path__, "topostrata.")
        if module.name.split(".")[1] in {"evolution", "lineage", "measures", "distance", "runs"}
        for kind in vars(importlib.import_module(module.name)).values()
        if dataclasses.is_dataclass(kind) and isinstance(kind, type) and hasattr(kind, "json_names")
    ]
    assert len(kinds) > 5
    for kind in kinds:
        assert [name for name in kind.json_names if not hasattr(kind, name) and name not in kind.__annotations__] == []
