"""The callback in trainings by Lightning itself."""

from __future__ import annotations

import copy
import logging
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import pytorch_lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, ModelPruning
from torch import nn
from torch.nn.utils import prune

from tests.torch.spools import head, measured, snapshots, status
from topostrata.errors import InvalidInputError, InvalidRefError
from topostrata.integrations.lightning import TopostrataCallback
from topostrata.runs import Parent

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:lightning"),
    pytest.mark.filterwarnings("ignore:`isinstance:FutureWarning"),  # Lightning's, of torch's pytree
    pytest.mark.filterwarnings("ignore:.*num_workers.*"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty.*"),
    pytest.mark.filterwarnings("ignore:.*sync_dist.*"),
]


class Classifier(pl.LightningModule):
    """A network as tutorials write it: layers in a ``Sequential``, losses logged by the epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        inputs, classes = batch
        loss = nn.functional.cross_entropy(self.network(inputs), classes)
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        inputs, classes = batch
        self.log("val/accuracy", (self.network(inputs).argmax(1) == classes).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def batches() -> torch.utils.data.DataLoader[Any]:
    """Eight batches of eight."""
    torch.manual_seed(1)
    data = torch.utils.data.TensorDataset(torch.randn(64, 6), torch.arange(64) % 3)
    return torch.utils.data.DataLoader(data, 8)


def pruned() -> Classifier:
    """A network that is sparse from its start."""
    torch.manual_seed(0)
    module = Classifier()
    for layer in (module.network[0], module.network[2]):
        prune.random_unstructured(layer, "weight", 0.5)
    return module


def pruning(module: Classifier) -> ModelPruning:
    """Lightning's own callback: 30 % more after each epoch, permanent at the end."""
    layers = [(module.network[0], "weight"), (module.network[2], "weight")]
    return ModelPruning("l1_unstructured", layers, amount=0.3)


QUIET = {"enable_progress_bar": False, "enable_model_summary": False}


def fit(
    module: Classifier, *callbacks: pl.Callback, epochs: int = 3, resume: Path | None = None, **options: Any
) -> pl.Trainer:
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        callbacks=list(callbacks),
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        **{"devices": 1, **QUIET, **options},
    )
    trainer.fit(module, batches(), batches(), ckpt_path=resume, weights_only=True)
    return trainer


def checkpoints(folder: Path) -> ModelCheckpoint:
    return ModelCheckpoint(folder, save_top_k=-1, filename="{step}")


def test_what_lightning_prunes_is_recorded_before_it_becomes_permanent(tmp_path: Path) -> None:
    """Masks of each epoch, with its metrics, though no checkpoint holds one and the trained network has none."""
    module = Classifier()
    recorded = TopostrataCallback("w0", mode="offline", spool=tmp_path)
    fit(module, pruning(module), recorded, checkpoints(tmp_path))
    trail = snapshots(tmp_path, "w0")
    assert [(snapshot.step, snapshot.epoch) for snapshot in trail] == [(8, 1), (16, 2), (24, 3)]
    assert [layer.name for layer in trail[0].topology] == ["network.0.weight", "network.2.weight"]
    assert [snapshot.topology.nnz for snapshot in trail] == [31, 22, 15]
    assert all(set(snapshot.metrics) == {"train_loss", "val_accuracy"} for snapshot in trail)
    assert not any("mask" in name for name in module.state_dict())
    weights = torch.load(tmp_path / "step=24.ckpt", weights_only=True)["state_dict"]
    assert set(weights) == {f"network.{layer}.{name}" for layer in (0, 2) for name in ("weight", "bias")}
    for layer in trail[-1].topology:
        assert ((weights[layer.name] != 0).numpy() == layer.mask.to_csc().toarray().T).all()
    assert status(tmp_path, "w0") == "finished"
    assert head(tmp_path, "w0").config == {"recorded": "after each training epoch"}


def test_a_network_that_is_sparse_from_its_start_is_recorded_before_the_first_step(tmp_path: Path) -> None:
    """Step 0, then every third optimizer step, then the last; the epoch is a fraction between."""
    recorded = TopostrataCallback("w0", every=3, mode="offline", spool=tmp_path, config={"lr": 0.1})
    fit(pruned(), recorded, epochs=2)
    trail = snapshots(tmp_path, "w0")
    assert [snapshot.step for snapshot in trail] == [0, 3, 6, 9, 12, 15, 16]
    assert [snapshot.epoch for snapshot in trail][:3] == [0, 3 / 8, 6 / 8]
    assert trail[-1].epoch == 2
    assert head(tmp_path, "w0").config == {"lr": 0.1, "recorded": "after every 3 optimizer steps"}


def test_steps_are_those_of_the_optimizer_where_gradients_accumulate(tmp_path: Path) -> None:
    """Eight batches, four to a step: two steps an epoch, each recorded once."""
    recorded = TopostrataCallback("w0", every=1, mode="offline", spool=tmp_path)
    fit(pruned(), recorded, epochs=1, accumulate_grad_batches=4)
    assert [snapshot.step for snapshot in snapshots(tmp_path, "w0")] == [0, 1, 2]


class Swapping(pl.Callback):
    """Of each layer two links are dropped after an epoch, and one of them grown again beside another."""

    def __init__(self) -> None:
        self.update: dict[str, dict[str, torch.Tensor]] = {}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.update = {"dropped": {}, "grown": {}}
        for name in ("network.0", "network.2"):
            mask = pl_module.get_submodule(name).weight_mask
            dropped, grown = torch.zeros_like(mask), torch.zeros_like(mask)
            alive, dead = mask.nonzero(), (mask == 0).nonzero()
            for link in alive[:2]:
                dropped[tuple(link)] = 1
            for link in (alive[0], dead[0]):
                grown[tuple(link)] = 1
            mask += grown - dropped
            self.update["dropped"][f"{name}.weight"], self.update["grown"][f"{name}.weight"] = dropped, grown


def test_what_an_update_did_is_recorded_with_its_snapshot(tmp_path: Path) -> None:
    """The trainer's callback says it to ours: of each layer two dropped, two grown, one of them at once."""
    swapping = Swapping()
    options: Any = {"mode": "offline", "spool": tmp_path}
    fit(pruned(), swapping, TopostrataCallback("w0", update=lambda _module: swapping.update, **options))
    counts = {"dropped": 2.0, "grown": 2.0, "regrown_at_once": 1.0}
    told = {"network.0.weight": counts, "network.2.weight": counts}
    assert [snapshot.layer_metrics for snapshot in snapshots(tmp_path, "w0")] == [{}, told, told, told]


@pytest.mark.parametrize("wrong", [lambda _module: 3, lambda _module: {"pruned": []}, lambda module: module.absent])
def test_an_update_that_says_nothing_costs_the_turnover_alone(
    wrong: Any, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Which is said once; the masks are recorded."""
    fit(pruned(), TopostrataCallback("w0", update=wrong, mode="offline", spool=tmp_path), epochs=2)
    assert [snapshot.step for snapshot in snapshots(tmp_path, "w0")] == [0, 8, 16]
    assert sum("step 8 is recorded without its turnover" in record.getMessage() for record in caplog.records) == 1


class Watched(Classifier):
    """It measures by itself how its gradients flow before each step."""

    def __init__(self) -> None:
        super().__init__()
        self.flows: list[float] = []

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        weights = [self.network[0].weight_orig, self.network[2].weight_orig]
        self.flows.append(sum(float(weight.grad.norm()) for weight in weights) / 2)


@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
def test_the_gradient_flow_is_measured_before_the_step(tmp_path: Path, precision: str) -> None:
    """At each second step, summed over the batches of the step, and not clipped yet."""
    torch.manual_seed(0)
    module = Watched()
    for layer in (module.network[0], module.network[2]):
        prune.random_unstructured(layer, "weight", 0.5)
    recorded = TopostrataCallback("w0", gradient_flow=2, mode="offline", spool=tmp_path)
    fit(module, recorded, epochs=2, accumulate_grad_batches=2, gradient_clip_val=1e-3, precision=precision)
    flows = measured(tmp_path, "w0")
    assert [(flow.step, flow.epoch) for flow in flows] == [(0, 0), (2, 0), (4, 1), (6, 1)]
    assert [flow.metrics["egf_2"] for flow in flows] == pytest.approx(module.flows[::2])
    assert min(module.flows) > 2e-3
    assert [snapshot.step for snapshot in snapshots(tmp_path, "w0")] == [0, 4, 8]


def test_the_gradient_flow_takes_the_masks_of_the_source(tmp_path: Path) -> None:
    """Where training keeps them beside a dense model; what fails is said, and training goes on."""
    masks = {"network.0.weight": torch.rand(5, 6) < 0.5, "network.2.weight": torch.rand(3, 5) < 0.5}
    recorded = TopostrataCallback(
        "w0", gradient_flow=8, source=lambda _: masks, orientation="out-in", mode="offline", spool=tmp_path
    )
    fit(Classifier(), recorded, epochs=1)
    (flow,) = measured(tmp_path, "w0")
    assert {name: numbers["active"] for name, numbers in flow.layer_metrics.items() if name in masks} == {
        name: int(mask.sum()) for name, mask in masks.items()
    }
    failing = TopostrataCallback("w1", gradient_flow=8, source=lambda _: 1 / 0, mode="offline", spool=tmp_path)
    fit(Classifier(), failing, epochs=1)
    assert any(kind.startswith("flow") for kind in failing._recording.run.counts.troubles)


class Forwarding(Classifier):
    """A module with a forward pass of its own, whose layers have sizes that leave a choice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.network = nn.Linear(6, 6), nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.network(self.second(self.first(inputs) + inputs).relu())

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log("loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Nothing to log."""


def train_forwarding(spool: Path | None, **options: Any) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The weights and what was logged, of a training that prunes, with the callback or without."""
    torch.manual_seed(0)
    module = Forwarding()
    callbacks = [ModelPruning("l1_unstructured", [(module.first, "weight"), (module.second, "weight")], amount=0.5)]
    if spool is not None:
        callbacks.append(TopostrataCallback("w0", mode="offline", spool=spool))
    trainer = fit(module, *callbacks, epochs=1, **options)
    return dict(module.state_dict()), dict(trainer.callback_metrics)


def assert_forwarding_is_recorded(folder: Path, **options: Any) -> None:
    """The step is taken as often as without the callback: the weights and what is logged are the same to the bit."""
    plain, recorded = train_forwarding(None, **options), train_forwarding(folder, **options)
    for before, after in zip(plain, recorded, strict=True):
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
    (snapshot,) = snapshots(folder, "w0")
    assert {layer.name for layer in snapshot.topology} == {"first", "second", "network"}
    assert snapshot.topology.nnz == 18 + 15 + 15
    assert snapshot.metrics.keys() == recorded[1].keys() == {"loss"}


def test_the_wiring_is_taken_from_the_first_batch(tmp_path: Path) -> None:
    """Before there is a mask."""
    assert_forwarding_is_recorded(tmp_path)


def test_of_several_processes_the_first_records(tmp_path: Path) -> None:
    """Two that train by gloo, where the training step is called as the module's forward pass: one run, each step once.

    In a process of its own, since torch does not train in a fork of one that has trained.
    """
    code = (
        "from pathlib import Path; from tests.torch import test_lightning as t\n"
        f"t.assert_forwarding_is_recorded(Path({str(tmp_path)!r}), devices=2, strategy='ddp_fork')"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert [snapshot.step for snapshot in snapshots(tmp_path, "w0")] == [4]


def test_training_is_the_same_to_the_bit(tmp_path: Path) -> None:
    """With the callback and without it."""
    plain, recorded = pruned(), pruned()
    fit(plain)
    fit(recorded, TopostrataCallback("w0", every=1, mode="offline", spool=tmp_path))
    for name, value in plain.state_dict().items():
        assert torch.equal(value, recorded.state_dict()[name])
    assert not recorded._forward_hooks
    assert not recorded._forward_pre_hooks
    assert len(snapshots(tmp_path, "w0")) == 25


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """The folder of the checkpoints and spools of ``w0``, trained for three epochs."""
    fit(pruned(), TopostrataCallback("w0", mode="offline", spool=tmp_path), checkpoints(tmp_path))
    return tmp_path


def test_a_run_that_begins_at_a_checkpoint_of_another_descends_from_it(trained: Path) -> None:
    """From the last snapshot before the checkpoint; a parent that is stated goes before it."""
    resume = trained / "step=16.ckpt"
    fit(pruned(), TopostrataCallback("w1", mode="offline", spool=trained), resume=resume)
    assert head(trained, "w1").parents == (Parent("w0", 16, "fork"),)
    assert [snapshot.step for snapshot in snapshots(trained, "w1")] == [24]
    fit(pruned(), TopostrataCallback("w2", mode="offline", spool=trained, fork_from="w0@8"), resume=resume)
    assert head(trained, "w2").parents == (Parent("w0", 8, "fork"),)


def test_a_run_goes_on_from_its_own_checkpoint(trained: Path) -> None:
    """The same run, at the steps after the checkpoint; what a run that begins there leaves out is not said again."""
    folder = trained / "again"
    fit(pruned(), TopostrataCallback("w0", mode="offline", spool=folder), epochs=4, resume=trained / "step=16.ckpt")
    assert head(folder, "w0").parents == ()
    assert [snapshot.step for snapshot in snapshots(folder, "w0")] == [24, 32]
    assert snapshots(folder, "w0")[0].metrics == snapshots(trained, "w0")[3].metrics, (
        "the same step, the same to the bit"
    )


def test_a_callback_that_stands_before_the_pruning_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is pruned at the end would be missing; the other callback makes its masks permanent without harm."""
    module = Classifier()
    with caplog.at_level(logging.WARNING, "topostrata.hook"):
        fit(module, TopostrataCallback("w0", mode="offline", spool=tmp_path), pruning(module))
    assert "place it after ModelPruning" in caplog.text
    assert [snapshot.step for snapshot in snapshots(tmp_path, "w0")] == [16, 24]


class Failing(Classifier):
    """Its training ends with an error."""

    def on_train_epoch_end(self) -> None:
        raise RuntimeError("the training failed")


def test_a_training_that_fails_ends_its_run_as_failed(tmp_path: Path) -> None:
    """With what it has recorded."""
    module = Failing()
    with pytest.raises(RuntimeError, match="the training failed"):
        fit(module, pruning(module), TopostrataCallback("w0", mode="offline", spool=tmp_path))
    assert status(tmp_path, "w0") == "failed"
    assert [snapshot.step for snapshot in snapshots(tmp_path, "w0")] == [8]


def test_nothing_raises_into_the_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A source that raises, a network without masks, a place for the spool that is none."""
    (tmp_path / "file").write_text("")

    def source(_module: Any) -> Any:
        raise RuntimeError("no such layer")

    with caplog.at_level(logging.WARNING, "topostrata.hook"):
        fit(pruned(), TopostrataCallback("a", mode="offline", spool=tmp_path, source=source), epochs=1)
        fit(Classifier(), TopostrataCallback("b", mode="offline", spool=tmp_path), epochs=1)
        fit(pruned(), TopostrataCallback("c", mode="offline", spool=tmp_path / "file"), epochs=1)
        fit(pruned(), TopostrataCallback("d", mode="disabled", spool=tmp_path), epochs=1)
    assert {message.split(":")[0] for message in caplog.messages} == {"run a", "run b", "run c"}
    assert "no such layer" in caplog.text
    assert list(tmp_path.glob("*.spool")) == []


def test_a_mistake_in_the_arguments_raises_where_the_callback_is_made() -> None:
    """Not in the midst of training."""
    with pytest.raises(InvalidRefError):
        TopostrataCallback("w0/x")
    for options in (
        {"every": 0},
        {"every": 2.5},
        {"mode": "sometimes"},
        {"source": "network"},
        {"update": 3},
        {"config": 3},
    ):
        with pytest.raises(InvalidInputError, match="expected"):
            TopostrataCallback("w0", **options)


def test_the_callback_can_be_sent_and_copied(tmp_path: Path) -> None:
    """To the processes of a strategy that spawns, before it trains and after."""
    recorded = TopostrataCallback("w0", mode="offline", spool=tmp_path)
    fit(pruned(), pickle.loads(pickle.dumps(recorded)), epochs=1)
    assert [snapshot.step for snapshot in snapshots(tmp_path, "w0")] == [0, 8]
    fit(pruned(), recorded, epochs=1)
    assert pickle.loads(pickle.dumps(recorded)).state_dict() == {"run": "w0", "step": None}
    assert copy.deepcopy(recorded).state_dict() == {"run": "w0", "step": 8}


def test_the_older_package_trains_with_it_too(tmp_path: Path) -> None:
    """``pytorch_lightning``, whose classes are others."""

    class Older(pytorch_lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = pruned().network

        training_step, configure_optimizers = Classifier.training_step, Classifier.configure_optimizers

    recorded = TopostrataCallback("w0", mode="offline", spool=tmp_path)
    trainer = pytorch_lightning.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, callbacks=[recorded], enable_checkpointing=False, **QUIET
    )
    trainer.fit(Older(), batches())
    assert [snapshot.step for snapshot in snapshots(tmp_path, "w0")] == [0, 8]
    assert [layer.name for layer in snapshots(tmp_path, "w0")[0].topology] == ["network.0.weight", "network.2.weight"]
