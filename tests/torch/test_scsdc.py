"""The comparison of sparse with dense networks of the same capacity, with real training and a real archive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

import topostrata as ts
from topostrata.errors import ConflictError, InputError, InvalidInputError, NotFoundError
from topostrata.experiments import scsdc
from topostrata.experiments.network import Network, draw_masks, draw_weights
from topostrata.experiments.settings import Optimiser, Setting
from topostrata.experiments.training import measured_epochs, train


@dataclass
class Clouds:
    """Two classes of points around two centres: a task that a perceptron learns in a moment."""

    train: NDArray[np.float32]
    train_classes: NDArray[np.int64]
    test: NDArray[np.float32]
    test_classes: NDArray[np.int64]


def clouds(n: int = 96, features: int = 12) -> Clouds:
    rng = np.random.default_rng(7)
    classes = np.arange(2 * n) % 3
    points = (rng.normal(0, 1, (2 * n, features)) + 2 * rng.normal(0, 1, (3, features))[classes]).astype(np.float32)
    return Clouds(points[:n], classes[:n], points[n:], classes[n:])


SMALL = scsdc.Study(
    "clouds",
    dense_widths=(6, 9),
    sparse_width=18,
    hidden=2,
    optimisers=("sgd", "adam"),
    regularisers=("none", "batch_norm+l2"),
    seeds=(0, 1),
    epochs=4,
    batch=32,
)


def pair(study: scsdc.Study, **changes: Any) -> tuple[Setting, Setting]:
    sparse, dense = study.settings()[:2]
    return replace(sparse, **changes), replace(dense, **changes)


@pytest.mark.parametrize("width", [1, 16, 32, 192])
def test_equal_capacity(width: int) -> None:
    """Each layer of the sparse network has exactly as many active weights as the dense one, which has all."""
    sparse, dense = pair(scsdc.Study("s", dense_widths=(width,)))
    active = [int(mask.sum()) for mask in draw_masks(sparse, 64, 10)]
    assert active == [mask.size for mask in draw_masks(dense, 64, 10)] == dense.capacities(64, 10)
    assert all(mask.all() for mask in draw_masks(dense, 64, 10))
    assert [mask.shape for mask in draw_masks(sparse, 64, 10)] == [(64, 192), *[(192, 192)] * 3, (192, 10)]


def test_equal_distribution() -> None:
    """The active weights of both begin with one distribution, although the sparse network's fan-in would be wider."""
    sparse, dense = pair(scsdc.Study("s", dense_widths=(96,)))
    drawn = [draw_weights(setting, draw_masks(setting, 64, 10)) for setting in (sparse, dense)]
    for a, b in zip(*drawn, strict=True):
        assert stats.ks_2samp(a[a != 0], b[b != 0]).pvalue > 0.001
    assert stats.ks_2samp(drawn[0][1][drawn[0][1] != 0], drawn[1][0].ravel()).pvalue < 0.001, "the test can fail"


@pytest.mark.parametrize("regulariser", ["none", "batch_norm", "skip", "batch_norm+skip+l2"])
@pytest.mark.parametrize("activation", ["relu", "prelu", "silu", "sigmoid", "tanh"])
def test_as_many_trainable_numbers(regulariser: str, activation: str) -> None:
    """The two networks of a pair have as many trainable numbers, whatever is between their layers."""
    sparse, dense = pair(SMALL, regulariser=regulariser, activation=activation)
    counts = []
    for setting in (sparse, dense):
        network = Network.drawn(setting, 12, 3)
        others = sum(p.numel() for p in network.parameters) - sum(layer.numel() for layer in network.weights)
        counts.append(others + sum(int(mask.sum()) for mask in network.masks))
    assert counts[0] == counts[1]
    biased = [Network.drawn(replace(s, unit_parameters=True), 12, 3) for s in (sparse, dense)]
    assert len(biased[0].parameters) > len(Network.drawn(sparse, 12, 3).parameters)


@pytest.mark.parametrize("optimiser", ["sgd", "momentum", "adagrad", "rmsprop", "adam", "adamw"])
def test_masks_stay(optimiser: Optimiser, monkeypatch: pytest.MonkeyPatch) -> None:
    """No optimiser moves a masked weight, also with weight decay; every active one is moved."""
    networks = []
    drawn = Network.drawn

    def kept(*arguments: Any) -> Network:
        networks.append(drawn(*arguments))
        return networks[-1]

    monkeypatch.setattr(Network, "drawn", kept)
    setting = replace(pair(SMALL)[0], optimiser=optimiser, regulariser="batch_norm+l2", activation="tanh")
    before = draw_weights(setting, draw_masks(setting, 12, 3))
    train(setting, clouds())
    for first, weights, mask in zip(before, networks[0].weights, networks[0].masks, strict=True):
        after = weights.detach().numpy()
        assert not after[~mask.numpy()].any()
        assert (after != first)[mask.numpy()].mean() > 0.9


def test_equal_steps() -> None:
    """Both networks of a pair see the same minibatches in as many steps, and are measured at the same ones."""
    sparse, dense = (train(setting, clouds()) for setting in pair(SMALL))
    assert [m.step for m in sparse.moments] == [m.step for m in dense.moments]
    assert sparse.moments[-1].step == 4 * 3
    assert len(sparse.moments) == len(measured_epochs(4)) + 1 == 5


def test_reproducible() -> None:
    """The same setting gives the same numbers to the last bit, whatever torch drew before; another seed gives others."""
    setting = pair(SMALL)[0]
    first = train(setting, clouds())
    torch.rand(5)
    again = train(setting, clouds())
    assert first.moments == again.moments
    assert first.topology.digest == again.topology.digest
    assert train(replace(setting, seed=9), clouds()).topology.digest != first.topology.digest


@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_flow_is_of_the_loss(kind: str) -> None:
    """The flow that is kept is that of the loss as autograd of an independent dense formula in float64 gives it."""
    setting = replace(pair(SMALL)[0 if kind == "sparse" else 1], regulariser="none", optimiser="sgd")
    data = clouds()
    order = np.random.default_rng((setting.seed, setting.dense_width, 3, 0)).permutation(96)[:32]
    masks = draw_masks(setting, 12, 3)
    weights = [torch.tensor(w, dtype=torch.float64, requires_grad=True) for w in draw_weights(setting, masks)]
    units = torch.tensor(data.train[order], dtype=torch.float64)
    for layer in weights[:-1]:
        entered = units @ layer
        units = entered * (
            entered > 0
        )  # a unit without inputs stands at 0, where torch 2.4 lets clamp's gradient through
    scores = (units @ weights[-1]).log_softmax(1)
    (-scores[range(32), data.train_classes[order]].mean()).backward()
    norms = [float((w.grad * torch.tensor(m)).norm()) for w, m in zip(weights, masks, strict=True)]
    moment = train(setting, data).moments[0]
    assert moment.metrics["egf_2"] == pytest.approx(np.mean(norms), rel=1e-5)
    assert [moment.layer_metrics[f"l{k}"]["flow_2"] for k in range(3)] == pytest.approx(norms, rel=1e-5)
    whole = float(torch.cat([w.grad.ravel() for w in weights]).norm())
    assert moment.metrics["gradient_norm_2"] == pytest.approx(whole, rel=1e-5)


def test_skip_connections_have_their_wiring() -> None:
    """With skip connections all hidden units are those of one stream, as tracing a module of the same formula says."""
    topology = train(replace(pair(SMALL)[0], regulariser="skip", epochs=1), clouds()).topology

    class Skipping(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.l0, self.l1, self.l2 = torch.nn.Linear(12, 18), torch.nn.Linear(18, 18), torch.nn.Linear(18, 3)

        def forward(self, inputs: Any) -> Any:
            units = self.l0(inputs).relu()
            return self.l2(units + self.l1(units).relu())

    traced = ts.trace(Skipping(), torch.zeros(2, 12))
    assert [(x.source.name == y.source.name) for x, y in zip(topology.layers, topology.layers[1:], strict=False)] == [
        (x.source.name == y.source.name) for x, y in zip(traced.layers, traced.layers[1:], strict=False)
    ]
    assert traced.layers[1].source.name == traced.layers[1].target.name
    assert topology["l1"].source.name == topology["l1"].target.name == topology["l2"].source.name == "stream"


def test_study(tmp_path: Path) -> None:
    """A study's table comes out of the archive: every pair, p as SciPy gives it, the flow beside it."""
    with ts.open(tmp_path / "archive") as archive:
        with pytest.raises(NotFoundError, match=r"scsdc\.run"):
            scsdc.compare(SMALL, archive)
        table = scsdc.run(SMALL, clouds(), archive)
        assert len(archive.runs()) == len(SMALL.settings()) == 32
        assert {run.status for run in archive.runs()} == {"finished"}
        assert not table.missing
        for cell in table.cells:
            ends = []
            for kind in ("sparse", "dense"):
                runs = [s for s in SMALL.settings() if s.kind == kind]
                runs = [s for s in runs if (s.optimiser, s.regulariser) == (cell.optimiser, cell.regulariser)]
                ends.append([archive.snapshots(SMALL.run_id(s))[-1].metrics["accuracy"] for s in runs])
            differences = np.array(ends[0]) - np.array(ends[1])
            assert cell.pairs == 4
            assert cell.better == np.count_nonzero(differences > 0)
            if differences.any():
                assert cell.p_value == stats.wilcoxon(differences, alternative="greater").pvalue
            assert cell.smallest_p == 2.0 ** -np.count_nonzero(differences)
        assert "p (sparse > dense)" in table.table()
        snapshot = archive.snapshots(SMALL.run_id(SMALL.settings()[0]))[3]
        assert set(snapshot.layer_metrics["l1"]) == {"flow_1", "flow_2"}
        assert archive.topology(snapshot).nnz == sum(SMALL.settings()[0].capacities(12, 3))
        again = scsdc.run(SMALL, clouds(), archive, progress=lambda *_: pytest.fail("trained again"))
        assert again == table
        with pytest.raises(ConflictError, match="epochs=5"):
            scsdc.run(replace(SMALL, epochs=5), clouds(), archive)


KILLED = replace(SMALL, optimisers=("adam",), regularisers=("batch_norm",))

_KILLED = """
import sys
import topostrata as ts
from tests.torch.test_scsdc import KILLED, clouds
from topostrata.experiments import scsdc
with ts.open(sys.argv[1]) as archive:
    scsdc.run(KILLED, clouds(), archive, processes=2, progress=lambda done, total: print(done, flush=True))
"""


def test_killed(tmp_path: Path) -> None:
    """A study that was killed goes on where it was, and ends as one that was not."""
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root / "src"), str(root)])}
    command = [sys.executable, "-c", _KILLED, str(tmp_path / "killed")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True) as job:
        for line in job.stdout or ():
            if int(line) == 3:
                break
        os.killpg(job.pid, signal.SIGKILL)
    trained: list[int] = []
    with ts.open(tmp_path / "killed") as archive:
        resumed = scsdc.run(KILLED, clouds(), archive, progress=lambda done, total: trained.append(total))
        digests = {s.id: s.digest for run in archive.runs() for s in archive.snapshots(run.id)}
    assert 0 < len(trained) <= 5
    with ts.open(tmp_path / "whole") as archive:
        assert scsdc.run(KILLED, clouds(), archive) == resumed
        assert {s.id: s.digest for run in archive.runs() for s in archive.snapshots(run.id)} == digests


def test_diverged(tmp_path: Path) -> None:
    """A training that diverges is archived with what is finite; its flow is not made up."""
    study = replace(
        SMALL, optimisers=("sgd",), regularisers=("none",), learning_rates={"sgd": 1e6}, seeds=(0,), dense_widths=(9,)
    )
    with ts.open(tmp_path / "archive") as archive:
        table = scsdc.run(study, clouds(), archive)
    assert table.cells[0].sparse_egf is None
    assert "p cannot be below 0.05" in table.table()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dense_widths": (20,)}, "dense_width: expected 1 to the sparse width"),
        ({"optimisers": ("sgdd",)}, "optimiser: expected one of sgd"),
        ({"regularisers": ("batchnorm",)}, "regulariser: expected none or a sum"),
        ({"regularisers": ("none+l2",)}, "regulariser: expected none or a sum"),
        ({"learning_rates": {"sdg": 1}}, "learning_rates: expected optimisers"),
        ({"learning_rates": {"sgd": float("nan")}}, "learning_rate: expected a number"),
        ({"name": "a/b"}, "a/b"),
        ({"epochs": 0}, "epochs: expected 1 or more"),
    ],
)
def test_wrong_studies(changes: dict[str, Any], message: str) -> None:
    """A study that is none is refused when it is made."""
    with pytest.raises(InputError, match=message):
        replace(SMALL, **changes)


def test_wrong_data(tmp_path: Path) -> None:
    """Data that do not fit are refused before anything is trained or written."""
    with ts.open(tmp_path / "archive") as archive:
        for broken in (
            replace(clouds(), train_classes=np.zeros(3, int)),
            replace(clouds(), test=np.full((96, 12), np.nan, np.float32)),
            replace(clouds(), test=np.zeros((96, 11), np.float32)),
            replace(clouds(), test_classes=np.full(96, 7)),
        ):
            with pytest.raises(InvalidInputError, match="data: expected"):
                scsdc.run(SMALL, broken, archive)
        assert archive.runs() == []
