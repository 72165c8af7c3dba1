"""``log_gradient_flow`` and numbers without masks: what is in the spool, and that nothing raises into training."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from topostrata.ingest.hook.run import init
from topostrata.ingest.hook.spool import RunEnd, RunHead, SpooledMetrics, SpooledSnapshot, SpoolReader, read
from topostrata.measures.gradients import gradient_flow
from topostrata.topology import Wiring

MASKS = {"fc1": np.eye(4, 3), "fc2": np.ones((3, 2))}
GRADIENTS = {"fc1": np.arange(12.0).reshape(4, 3), "fc2": np.ones((3, 2)), "fc2.bias": np.array([3.0, 4.0])}


def values(directory: Path) -> list[Any]:
    (file,) = directory.glob("*.spool")
    return [entry.value for entry in read(file)]


def metrics(directory: Path) -> list[SpooledMetrics]:
    return [value for value in values(directory) if isinstance(value, SpooledMetrics)]


def test_the_flow_is_in_the_spool_as_it_was_measured(tmp_path: Path) -> None:
    """Of the run and of each parameter by its name, also of a bias, at a step without a snapshot."""
    with init("w0", mode="offline", spool=tmp_path) as run:
        run.log_gradient_flow(GRADIENTS, MASKS, step=7, epoch=0.5)
    flow = gradient_flow(GRADIENTS, MASKS)
    head, record, end = values(tmp_path)
    assert (type(head), type(end)) == (RunHead, RunEnd)
    assert (record.step, record.epoch) == (7, 0.5)
    assert record.metrics == {
        name: getattr(flow, name)
        for name in ("egf_1", "egf_2", "egf_1_per_weight", "egf_2_per_weight", "gradient_norm_1", "gradient_norm_2")
    }
    assert list(record.layer_metrics) == ["fc1", "fc2", "fc2.bias"]
    assert record.layer_metrics["fc1"]["flow_2"] == math.sqrt(0 + 16 + 64)
    assert record.layer_metrics["fc2.bias"] == {
        "flow_1": 7, "flow_2": 5, "active": 2, "gradient_norm_1": 7, "gradient_norm_2": 5
    }  # fmt: skip


def test_flow_comes_before_and_between_snapshots(tmp_path: Path) -> None:
    """The wiring is written before the first snapshot, once; steps count on from one call to the next."""
    with init("w0", mode="offline", spool=tmp_path) as run:
        run.log_gradient_flow(GRADIENTS, MASKS)
        run.log(MASKS)
        run.log_gradient_flow(gradient_flow(GRADIENTS, MASKS))
        run.log(MASKS, step=9)
        run.log(metrics={"accuracy": 0.5})
        assert run.flush()
        assert (run.counts.logged, run.counts.saved, run.counts.troubles) == (5, 2, {})
    kinds = [(type(value), getattr(value, "step", None)) for value in values(tmp_path)]
    assert kinds == [
        (RunHead, None), (SpooledMetrics, 0), (Wiring, None), (SpooledSnapshot, 1), (SpooledMetrics, 2),
        (SpooledSnapshot, 9), (SpooledMetrics, 10), (RunEnd, None),
    ]  # fmt: skip
    assert metrics(tmp_path)[-1].metrics == {"accuracy": 0.5}


def test_what_is_not_finite_costs_itself(tmp_path: Path) -> None:
    """A gradient that overflowed in one layer leaves the numbers of the others."""
    with init("w0", mode="offline", spool=tmp_path) as run:
        run.log_gradient_flow({"a": [[math.inf, 1.0]], "b": [[3.0, 4.0]]}, step=0)
        run.log_gradient_flow({"a": [[math.nan, 1.0]]}, step=1)
        assert run.flush()
        assert run.counts.troubles["metric"] > 1
    first, second = metrics(tmp_path)
    assert first.metrics == {}
    assert first.layer_metrics["b"]["flow_2"] == 5
    assert first.layer_metrics["a"] == second.layer_metrics["a"] == {"active": 2}


@pytest.mark.parametrize(
    ("arguments", "options", "kind"),
    [
        ([None], {}, "flow-invalid-input"),
        ([{}], {}, "flow-invalid-input"),
        ([GRADIENTS, {"fc9": [[1]]}], {}, "flow-invalid-input"),
        ([GRADIENTS, {"fc1": [[1]]}], {}, "flow-invalid-input"),
        ([GRADIENTS], {"step": -1}, "flow-invalid-ref"),
        ([GRADIENTS], {"scale": "much"}, "flow-invalid-input"),
        ([object()], {}, "flow-invalid-input"),
    ],
)
def test_nothing_raises(tmp_path: Path, arguments: list[Any], options: dict[str, Any], kind: str) -> None:
    """What is no gradient, mask or step is said and counted, and the run goes on."""
    with init("w0", mode="offline", spool=tmp_path) as run:
        run.log_gradient_flow(*arguments, **options)
        run.log(MASKS, step=3)
        assert run.flush()
        assert dict(run.counts.troubles) == {kind: 1}
        assert run.counts.saved == 1


def test_a_damaged_record_of_numbers_costs_itself(tmp_path: Path) -> None:
    """The snapshots after it are read."""
    with init("w0", mode="offline", spool=tmp_path) as run:
        run.log_gradient_flow(GRADIENTS, MASKS, step=0)
        run.log(MASKS, step=1)
    (file,) = tmp_path.glob("*.spool")
    data = bytearray(file.read_bytes())
    data[data.index(b"egf_1")] ^= 1
    file.write_bytes(data)
    with SpoolReader(file) as reader:
        kinds = [type(entry.value).__name__ for entry in reader.new()]
    assert kinds == ["RunHead", "Damage", "Wiring", "SpooledSnapshot", "RunEnd"]


def test_a_full_spool_refuses_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are bounded as masks are, and what was there stays."""
    monkeypatch.setenv("TOPOSTRATA_SPOOL_BYTES", "65536")
    with init("w0", mode="offline", spool=tmp_path) as run:
        for step in range(300):
            run.log_gradient_flow(GRADIENTS, MASKS, step=step)
        run.flush()
        assert set(run.counts.troubles) == {"spool-full"}
    assert 0 < len(metrics(tmp_path)) < 300
