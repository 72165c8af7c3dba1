"""Runs and snapshots as values: metrics and tags that are refused, ids that are told."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topostrata.errors import InvalidInputError
from topostrata.runs import (
    MAX_METRICS,
    Snapshot,
    check_epoch,
    check_layer_metrics,
    check_metrics,
    check_tag,
    check_tags,
)

names = st.from_regex(r"[a-z][a-z0-9_]{0,63}", fullmatch=True)
finite = st.floats(allow_nan=False, allow_infinity=False)


@given(st.dictionaries(names, finite, max_size=MAX_METRICS))
def test_finite_metrics_pass_as_floats(metrics: dict[str, float]) -> None:
    """Names and values stay as they are."""
    assert check_metrics(metrics) == metrics


def test_numbers_of_other_types_become_floats() -> None:
    """Integers and NumPy scalars are metrics too; none at all is none."""
    scalar: Any = np.float32(0.5)
    metrics = check_metrics({"a": 3, "b": scalar})
    assert metrics == {"a": 3.0, "b": 0.5}
    assert all(type(value) is float for value in metrics.values())
    assert check_metrics(None) == check_metrics({}) == {}


@pytest.mark.parametrize(
    "name", ["", "A", "1a", "_a", "a-b", "a b", "\N{LATIN SMALL LETTER E WITH ACUTE}", "a" * 65, "a\n"]
)
def test_a_metric_needs_a_plain_name(name: str) -> None:
    """The error shows the name and the rule."""
    with pytest.raises(InvalidInputError, match=r"metric .*lower-case"):
        check_metrics({name: 1.0})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "high", [1.0], 1j])
def test_a_metric_is_a_finite_number(value: object) -> None:
    """What is not is refused with the metric's name."""
    with pytest.raises(InvalidInputError, match=r"metric 'loss'.*finite"):
        check_metrics({"loss": value})  # type: ignore[dict-item]


def test_a_snapshot_has_at_most_64_metrics() -> None:
    """One more is refused, with both numbers."""
    assert len(check_metrics({f"m{k}": 0.0 for k in range(64)})) == 64
    with pytest.raises(InvalidInputError, match="at most 64, found 65"):
        check_metrics({f"m{k}": 0.0 for k in range(65)})


@pytest.mark.parametrize("tag", ["", "a b", "a,b", "a\tb", "a\n", "x" * 101])
def test_a_tag_is_one_word(tag: str) -> None:
    """Neither empty, nor white space or commas, nor longer than 100 characters."""
    with pytest.raises(InvalidInputError, match="tag"):
        check_tag(tag)
    assert check_tag("paper:fig-3") == "paper:fig-3"


def test_tags_are_several() -> None:
    """Each once, in order; a text alone is refused, since it would be a tag a letter."""
    assert check_tags(["b", "a", "b"]) == ["b", "a"]
    with pytest.raises(InvalidInputError, match="expected several, found the text 'abc'"):
        check_tags("abc")


def test_a_snapshot_is_named_by_run_and_step() -> None:
    """Its id is ``run@step``."""
    assert Snapshot("w0", 50, "d", 1, datetime.now(UTC)).id == "w0@50"


def test_a_metric_too_large_for_a_float_is_named() -> None:
    """Whole numbers of Python have no limit, metrics have."""
    with pytest.raises(InvalidInputError, match="metric 'loss': expected a finite number"):
        check_metrics({"loss": 10**400})


@pytest.mark.parametrize("value", [True, np.True_, np.array(True), "0.5", b"1", None])
def test_what_float_takes_besides_numbers_is_no_metric(value: Any) -> None:
    """A truth value and a text are refused as a metric, as one of a layer, and (but for None) as an epoch."""
    with pytest.raises(InvalidInputError, match="metric 'loss': expected a finite number"):
        check_metrics({"loss": value})
    with pytest.raises(InvalidInputError, match="layer 'fc1': metric 'loss': expected a finite number"):
        check_layer_metrics({"fc1": {"loss": value}})
    if value is not None:
        with pytest.raises(InvalidInputError, match="epoch: expected a finite number"):
            check_epoch(value)
