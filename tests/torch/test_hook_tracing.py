"""The wiring of a model that is logged comes from its first batch, by itself, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import topostrata as ts
from tests.torch.models import lenet
from topostrata.ingest.hook.run import TrainingRun, init
from topostrata.ingest.hook.spool import SpooledSnapshot, read
from topostrata.ingest.hook.traced import path
from topostrata.topology import Topology, Wiring

pytestmark = pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN")


class Residual(nn.Module):
    """A stream that a layer reads and enters again, and a layer that no batch meets."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner, self.last = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)
        self.never = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor, *, scale: float = 1.0) -> torch.Tensor:
        hidden = self.first(x).relu()
        return self.last(hidden + self.inner(hidden).relu()) * scale


class Straight(Residual):
    """The same layers in a row."""

    def forward(self, x: torch.Tensor, *, scale: float = 1.0) -> torch.Tensor:
        return self.last(self.inner(self.first(x).relu()).relu()) * scale


class Training(nn.Module):
    """What Lightning has: a module around the network whose own forward pass nobody calls."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.loss = Residual(), nn.MSELoss()

    def forward(self) -> None:
        raise NotImplementedError


def pruned(kind: type[Residual] = Residual) -> Residual:
    torch.manual_seed(0)
    model = kind()
    for layer in (model.first, model.inner, model.never):
        prune.random_unstructured(layer, "weight", 0.5)
    return model


def begin(directory: Path, run: str = "w0", **options: Any) -> TrainingRun:
    return init(run, mode="offline", spool=directory, store=directory / "archive", **options)


@contextlib.contextmanager
def late_writer(run: TrainingRun) -> Iterator[None]:
    """Who writes the run sees what is done meanwhile all at once, after it."""
    assert run._recorder is not None
    with run._recorder._lock:
        yield


def batch() -> torch.Tensor:
    return torch.randn(3, 4)


def recorded(directory: Path) -> dict[int, Topology]:
    entries = (entry.value for file in directory.glob("*.spool") for entry in read(file))
    return {value.step: value.topology for value in entries if isinstance(value, SpooledSnapshot)}


def expected(model: Residual) -> Topology:
    with pytest.warns(UserWarning, match="never.weight"):
        wiring = ts.trace(model, batch())
    masks = {"first.weight": model.first.weight_mask, "inner.weight": model.inner.weight_mask}
    return wiring.place({**masks, "last.weight": torch.ones(2, 6)}, orientation="out-in")


def hooks(model: nn.Module) -> int:
    """Those that pruning did not put there."""
    return sum(
        "prune" not in type(hook).__module__
        for module in model.modules()
        for hook in module._forward_pre_hooks.values()
    )


def test_what_is_logged_before_the_first_batch_waits_for_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Masks are of the moment of the call; a layer that the batch did not meet is named, and left out."""
    model = pruned()
    with caplog.at_level(logging.WARNING, "topostrata.hook"), begin(tmp_path) as run:
        run.log(model, step=0)
        assert not run.flush()
        first = expected(model)
        model.inner.weight_mask.fill_(1)
        model(batch(), scale=2.0)
        assert run.flush()
        run.log(model, step=1)
    assert recorded(tmp_path) == {0: first, 1: expected(model)}
    assert (run.counts.saved, run.counts.troubles) == (2, {"traced": 1})
    assert "did not use: never.bias, never.weight" in caplog.text
    assert hooks(model) == 0


def test_a_watched_model_gives_its_wiring_to_other_sources(tmp_path: Path) -> None:
    """Dictionaries of masks by parameter, as a ``Masking`` has them; the pass may come before the first call of log."""
    model = pruned()
    masks = {"first.weight": model.first.weight_mask, "inner.weight": model.inner.weight_mask}
    with begin(tmp_path, orientation="out-in") as run:
        run.watch(model)
        model(batch())
        run.log({**masks, "last.weight": torch.ones(2, 6)}, step=0)
        run.log(model, step=1)
    assert recorded(tmp_path) == {0: expected(model), 1: expected(model)}


def test_a_scheduler_is_traced_by_its_model(tmp_path: Path) -> None:
    """As the schedulers of RigL and CHT, and a ``Masking`` of one module."""
    model = pruned()

    class Scheduler:
        def __init__(self) -> None:
            self.model, self.W = model, [model.first.weight_orig, model.inner.weight_orig]
            self.backward_masks = [model.first.weight_mask, model.inner.weight_mask]

    class Masking:
        def __init__(self) -> None:
            self.modules = [model]
            self.masks = {
                "first.weight": model.first.weight_mask,
                "inner.weight": model.inner.weight_mask,
                "last.weight": torch.ones(2, 6),
            }

    for k, source in enumerate((Scheduler(), Masking())):
        with begin(tmp_path / str(k)) as run:
            run.log(source, step=0)
            model(batch())
        assert recorded(tmp_path / str(k)) == {0: expected(model)}


def compiled_before(model: nn.Module, _run: TrainingRun) -> Any:
    return torch.compile(model, backend="eager", fullgraph=True)


def compiled_in_place(model: nn.Module, _run: TrainingRun) -> Any:
    model.compile(backend="eager", fullgraph=True)
    return model


def compiled_after(model: nn.Module, run: TrainingRun) -> Any:
    run.log(model, step=0)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    compiled(batch())
    return compiled


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("compile_", [compiled_before, compiled_in_place, compiled_after])
def test_a_compiled_model_is_traced_without_breaking_its_graph(
    compile_: Callable[[nn.Module, TrainingRun], Any], tmp_path: Path
) -> None:
    """The module inside is logged, what compiles it is called; one graph for the whole of it is no obstacle."""
    torch._dynamo.reset()
    model = pruned()
    with begin(tmp_path) as run:
        called = compile_(model, run)
        run.log(model, step=1)
        called(batch())
        assert run.flush()
    assert recorded(tmp_path)[1] == expected(model)
    assert (hooks(model), sorted(run.counts.troubles)) in [(0, ["traced"]), (0, ["traced", "wiring-awaited"])]


def test_a_part_that_has_all_the_weights_is_a_way_in(tmp_path: Path) -> None:
    """Layers then have the names that the logged module has for them."""
    model = Training()
    prune.random_unstructured(model.net.inner, "weight", 0.5)
    with begin(tmp_path) as run:
        run.log(model, step=0)
        model.net(batch())
    (topology,) = recorded(tmp_path).values()
    assert [layer.name for layer in topology] == ["net.first", "net.inner", "net.last"]
    assert topology["net.inner"].nnz == 18


def test_a_model_can_be_saved_and_copied_while_its_first_batch_is_awaited(tmp_path: Path) -> None:
    """The copy knows nothing of the run, and does not trace."""
    model = Residual()  # a pruned one that has run torch cannot copy
    with begin(tmp_path) as run:
        run.log(model, masks={"inner.weight": torch.eye(6)}, step=0)
        buffer = io.BytesIO()
        torch.save(model, buffer)
        assert b"topostrata" not in buffer.getvalue()
        buffer.seek(0)
        for other in (copy.deepcopy(model), torch.load(buffer, weights_only=False)):
            other(batch())
        assert not run.flush()
        model(batch())
    assert recorded(tmp_path)[0]["inner"].nnz == 6


def _forward_and_leave(model: nn.Module, run: TrainingRun) -> None:
    model(batch())
    os._exit(0 if run.counts.saved == 0 and not run.counts.troubles else 1)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:os.fork.. was called:RuntimeWarning")  # JAX, where another test has imported it
def test_a_forked_process_does_not_trace(tmp_path: Path) -> None:
    """What runs there is no part of the run."""
    model = pruned()
    with begin(tmp_path) as run:
        run.log(model, step=0)
        process = multiprocessing.get_context("fork").Process(target=_forward_and_leave, args=(model, run))
        process.start()
        process.join()
        assert process.exitcode == 0
        assert not run.flush()
        model(batch())
    assert recorded(tmp_path) == {0: expected(model)}


def test_where_no_batch_comes_that_is_said_with_the_way_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A function that is compiled as a whole shows none; the hook is taken out again."""
    model = pruned()
    with caplog.at_level(logging.WARNING, "topostrata.hook"), begin(tmp_path) as run:
        run.log(model, step=0)
        run.log(model, step=1)
    assert run.counts.troubles == {"wiring-awaited": 1, "no-wiring": 1, "invalid-topology": 2}
    assert "for which 2 snapshots waited" in caplog.text
    assert "step 0 is not recorded: log: expected a wiring for first.weight, inner.weight" in caplog.text
    assert "init(wiring=...) states it" in caplog.text
    assert hooks(model) == 0


def test_what_sizes_tell_is_stored_where_no_batch_comes(tmp_path: Path) -> None:
    """A model that was watched without need."""
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))
    prune.random_unstructured(model[0], "weight", 0.5)
    with begin(tmp_path) as run:
        run.watch(model)
        run.log(model, step=0)
    assert [layer.name for layer in recorded(tmp_path)[0]] == ["0.weight", "1.weight"]


def test_a_stated_wiring_is_not_traced(tmp_path: Path) -> None:
    """Nothing is put into the model."""
    model = pruned(Straight)
    wiring = Wiring.chain([4, 6, 6, 2], ["first", "inner", "last"])
    masks = {"first": model.first.weight_mask, "inner": model.inner.weight_mask, "last": torch.ones(2, 6)}
    with begin(tmp_path, wiring=wiring) as run:
        run.watch(model)
        run.log(model, masks=masks, step=0)
        assert hooks(model) == 0
        assert run.flush()


@pytest.mark.parametrize("late", [False, True])
def test_a_model_that_cannot_be_traced_costs_its_snapshots_only(tmp_path: Path, late: bool) -> None:
    """It is said with the way out, and the forward pass gives what it gives; however late who records gets its turn."""

    class Odd(Residual):
        def forward(self, x: torch.Tensor, *, scale: float = 1.0) -> torch.Tensor:
            if torch.is_inference_mode_enabled() or not torch.is_grad_enabled():
                raise RuntimeError("only in training")
            return super().forward(x, scale=scale)

    model = pruned(Odd)
    with begin(tmp_path) as run, late_writer(run) if late else contextlib.nullcontext():
        run.log(model, step=0)
        assert model(batch()).shape == (3, 2)
    assert run.counts.troubles == {"trace": 1, "no-wiring": 1, "invalid-topology": 1}


def test_the_job_that_resumes_knows_what_was_traced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It records without a batch at the end; another model is refused by the names of its layers."""
    model = pruned()
    for step in (0, 1):
        with begin(tmp_path) as run:
            run.log(model, step=step)
            if step == 0:
                model(batch())
    assert sorted(recorded(tmp_path)) == [0, 1]
    other = pruned(Straight)
    with caplog.at_level(logging.WARNING, "topostrata.hook"), begin(tmp_path) as run:
        run.log(other, step=2)
        other(batch())
        run.log(other, step=3)
    assert sorted(recorded(tmp_path)) == [0, 1]
    assert run.counts.troubles["invalid-topology"] == 2
    assert f"traced before ({path(tmp_path, 'w0')}), found another for 'inner', 'last'" in caplog.text
    with begin(tmp_path, resume="never") as run:
        run.log(other, step=2)
        other(batch())
    assert recorded(tmp_path)[2] == expected(other)


def test_training_with_a_first_batch_is_the_same_to_the_bit(tmp_path: Path) -> None:
    """Weights, statistics and the random state after three steps."""

    def train(mode: Any) -> list[torch.Tensor]:
        torch.manual_seed(0)
        example = lenet()
        prune.random_unstructured(example.model.conv2, "weight", 0.5)
        optimizer = torch.optim.SGD(example.model.parameters(), 0.1)
        with init("w0", mode=mode, spool=tmp_path / mode) as run:
            for step in range(3):
                run.log(example.model, step=step)
                optimizer.zero_grad()
                example.model(*example.args).square().mean().backward()
                optimizer.step()
        return [*example.model.state_dict().values(), torch.rand(3)]

    assert all(torch.equal(a, b) for a, b in zip(train("offline"), train("disabled"), strict=True))
    assert sorted(recorded(tmp_path / "offline")) == [0, 1, 2]
