"""Recording in trainings as they are: loaders with workers, several processes, compiled models, saved and copied ones."""

from __future__ import annotations

import copy
import importlib
import io
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import prune
from torch.utils.data import DataLoader, Dataset

from tests.torch.libraries import since
from topostrata.ingest.hook.run import TrainingRun, init
from topostrata.ingest.hook.spool import RunEnd, SpooledSnapshot, read

STEPS = 4


def network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    for k in (0, 2):
        prune.random_unstructured(model[k], "weight", 0.5)
    return model


def masks(model: nn.Module) -> list[torch.Tensor]:
    return [buffer for name, buffer in model.named_buffers() if name.endswith("weight_mask")]


def train(model: nn.Module, run: TrainingRun, steps: int = STEPS, watched: Any = None) -> dict[str, torch.Tensor]:
    """A few steps with new masks at each; the weights at the end."""
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for step in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 6)).square().mean().backward()
        optimizer.step()
        for mask in masks(model):
            mask.copy_(torch.rand(mask.shape) < 0.5)
        run.log(model if watched is None else watched, step=step)
    return {name.removeprefix("_orig_mod."): value.clone() for name, value in model.state_dict().items()}


def recorded(directory: Path) -> list[SpooledSnapshot]:
    (file,) = directory.glob("*.spool")
    values = [entry.value for entry in read(file)]
    assert values[-1] == RunEnd("finished")
    return [value for value in values if isinstance(value, SpooledSnapshot)]


@pytest.mark.parametrize("compiled", [False, True])
def test_training_is_the_same_to_the_bit(compiled: bool, tmp_path: Path) -> None:
    """With the hook and without it, compiled or not; what was logged are the masks of each step."""

    def trained(mode: Any) -> dict[str, torch.Tensor]:
        model = network()
        with init("w0", mode=mode, spool=tmp_path) as run:
            return train(torch.compile(model, backend="eager") if compiled else model, run)

    plain, with_hook = trained("disabled"), trained("offline")
    assert plain.keys() == with_hook.keys()
    assert all(torch.equal(plain[name], with_hook[name]) for name in plain)
    last = recorded(tmp_path)[-1].topology
    assert len(recorded(tmp_path)) == STEPS
    assert [layer.mask.nnz for layer in last] == [int(plain[f"{k}.weight_mask"].sum()) for k in (0, 2)]


def test_a_model_that_was_logged_is_saved_and_copied_whole(tmp_path: Path) -> None:
    """Whole, not only its state: nothing of the run is in it."""
    model = network()
    with init("w0", mode="offline", spool=tmp_path) as run:
        train(model, run)
        with torch.no_grad():
            model(torch.zeros(1, 6))  # torch copies no pruned module whose weight is in a graph
        plain = copy.deepcopy(model)
        body = io.BytesIO()
        torch.save(model, body)
        body.seek(0)
        for other in (plain, torch.load(body, weights_only=False)):
            assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
            assert not any(isinstance(value, TrainingRun) for part in other.modules() for value in vars(part).values())


class Logging(Dataset[torch.Tensor]):
    """A data set that has the run, and logs from wherever it is read."""

    def __init__(self, run: TrainingRun) -> None:
        self.run = run

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> torch.Tensor:
        self.run.log([torch.ones(2, 2)], step=1000 + index)
        return torch.full((6,), float(index))


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_of_a_loader_record_nothing(start: str, tmp_path: Path) -> None:
    """However they are started; the training records on beside them."""
    model = network()
    with init("w0", mode="offline", spool=tmp_path) as run:
        loader = DataLoader(Logging(run), batch_size=4, num_workers=2, multiprocessing_context=start)
        for step, batch in enumerate(loader):
            model(batch)
            run.log(model, step=step)
    assert [snapshot.step for snapshot in recorded(tmp_path)] == [0, 1]


def _of_several(rank: int, directory: str, wrapper: str) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2"}
    dist.init_process_group("gloo", init_method=f"file://{directory}/rendezvous", rank=rank, world_size=2)
    model = network()
    with init("w0", mode="offline", spool=Path(directory) / "spool", orientation="out-in") as run:
        if wrapper == "ddp":
            trained = train(DistributedDataParallel(model), run)
        elif wrapper == "fully_shard":
            model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
            for k in (0, 2):  # torch's own pruning multiplies a shard with a whole mask, which fails
                model[k].register_buffer("weight_mask", torch.ones_like(model[k].weight))
            mesh = importlib.import_module("torch.distributed.device_mesh").init_device_mesh("cpu", (2,))
            importlib.import_module("torch.distributed.fsdp").fully_shard(model, mesh=mesh)
            assert model[0].weight.to_local().shape == (3 - rank, 6)  # of 5 rows
            trained = train(model, run)
        else:
            stated = masks(model)
            whole = FullyShardedDataParallel(model, device_id=torch.device("cpu"), use_orig_params=True)
            trained = train(whole, run, watched=stated)
    assert len(trained) > 0
    dist.barrier()  # gloo aborts a process whose peer is gone
    dist.destroy_process_group()


@pytest.mark.parametrize("wrapper", ["ddp", "fsdp", pytest.param("fully_shard", marks=since("public fully_shard"))])
def test_several_processes_are_one_run(wrapper: str, tmp_path: Path) -> None:
    """Two of them by gloo, each with the same code: rank 0 records, each step once."""
    context = multiprocessing.get_context("spawn")
    jobs = [context.Process(target=_of_several, args=(rank, str(tmp_path), wrapper)) for rank in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(240)
    assert [job.exitcode for job in jobs] == [0, 0]
    snapshots = recorded(tmp_path / "spool")
    assert [snapshot.step for snapshot in snapshots] == list(range(STEPS))
    assert [[layer.shape.possible for layer in snapshot.topology] for snapshot in snapshots] == [[30, 15]] * STEPS
