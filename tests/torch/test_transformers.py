"""The callback in trainings by Hugging Face's ``Trainer`` itself, and the hook beside accelerate and peft."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from torch.nn.utils import parametrize, prune
from transformers import PretrainedConfig, PreTrainedModel, Trainer, TrainerCallback, TrainingArguments

import topostrata as ts
from tests.torch.spools import head, measured, snapshots, status
from topostrata.errors import InvalidInputError, InvalidRefError
from topostrata.integrations.transformers import TopostrataCallback
from topostrata.runs import Parent

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft's, of transformers


class Classifier(nn.Module):
    """Two layers whose sizes tell their order; it computes its loss itself."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        logits = self.fc2(self.fc1(inputs).relu())
        return (
            {"logits": logits}
            if labels is None
            else {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}
        )


def examples(count: int = 64) -> list[dict[str, torch.Tensor]]:
    """Eight batches of eight."""
    torch.manual_seed(1)
    return [{"inputs": torch.randn(6), "labels": torch.tensor(k % 3)} for k in range(count)]


def pruned() -> Classifier:
    """A network that is sparse from its start."""
    torch.manual_seed(0)
    model = Classifier()
    for layer in (model.fc1, model.fc2):
        prune.random_unstructured(layer, "weight", 0.5)
    return model


def accuracy(predicted: Any) -> dict[str, float]:
    return {"accuracy": float((predicted.predictions.argmax(1) == predicted.label_ids).mean())}


def fit(
    folder: Path, model: nn.Module, *callbacks: TrainerCallback, resume: Path | None = None, **options: Any
) -> None:
    arguments = TrainingArguments(
        str(folder),
        **{
            "num_train_epochs": 2,
            "per_device_train_batch_size": 8,
            "eval_strategy": "epoch",
            "logging_strategy": "epoch",
            "save_strategy": "no",
            "report_to": [],
            "use_cpu": True,
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
            **options,
        },
    )
    trainer = Trainer(
        model,
        arguments,
        train_dataset=examples(),
        eval_dataset=examples(16),
        callbacks=list(callbacks),
        compute_metrics=accuracy,
    )
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))


def test_each_epoch_is_recorded_with_what_the_trainer_logs_and_evaluates(tmp_path: Path) -> None:
    """Which comes after the end of the epoch: the snapshot waits for it. Measured times differ each time and stay away."""
    fit(tmp_path, pruned(), TopostrataCallback("w0", mode="offline", spool=tmp_path))
    trail = snapshots(tmp_path, "w0")
    assert [(snapshot.step, snapshot.epoch) for snapshot in trail] == [(0, 0), (8, 1), (16, 2)]
    assert trail[0].metrics == {}
    for snapshot in trail[1:]:
        assert set(snapshot.metrics) == {"loss", "grad_norm", "learning_rate", "eval_loss", "eval_accuracy"}
    assert [layer.name for layer in trail[0].topology] == ["fc1.weight", "fc2.weight"]
    assert status(tmp_path, "w0") == "finished"
    assert head(tmp_path, "w0").config == {"recorded": "after each epoch"}


class Swapping(TrainerCallback):
    """Of the first layer two links are dropped after an epoch, and one of them grown again beside another."""

    def __init__(self) -> None:
        self.update: dict[str, dict[str, torch.Tensor]] = {}

    def on_epoch_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        mask = model.fc1.weight_mask
        dropped, grown = torch.zeros_like(mask), torch.zeros_like(mask)
        alive, dead = mask.nonzero(), (mask == 0).nonzero()
        for link in alive[:2]:
            dropped[tuple(link)] = 1
        for link in (alive[0], dead[0]):
            grown[tuple(link)] = 1
        mask += grown - dropped
        self.update = {"dropped": {"fc1.weight": dropped}, "grown": {"fc1.weight": grown}}


def test_what_an_update_did_is_recorded_with_its_snapshot(tmp_path: Path) -> None:
    """The trainer's callback says it to ours, for the one layer that it changes; of the other nothing is known."""
    swapping = Swapping()
    recorded = TopostrataCallback("w0", update=lambda _model: swapping.update, mode="offline", spool=tmp_path)
    fit(tmp_path, pruned(), swapping, recorded)
    told = {"fc1.weight": {"dropped": 2.0, "grown": 2.0, "regrown_at_once": 1.0}}
    assert [snapshot.layer_metrics for snapshot in snapshots(tmp_path, "w0")] == [{}, told, told]


@pytest.mark.parametrize(
    ("options", "metrics"),
    [
        ({"eval_strategy": "no", "logging_strategy": "no"}, set()),
        ({"eval_strategy": "no"}, {"loss", "grad_norm", "learning_rate"}),
        ({"logging_strategy": "no"}, {"eval_loss", "eval_accuracy"}),
        (
            {"logging_strategy": "steps", "logging_steps": 8, "eval_strategy": "no"},
            {"loss", "grad_norm", "learning_rate"},
        ),
    ],
)
def test_a_snapshot_waits_for_no_metrics_that_do_not_come(
    tmp_path: Path, options: dict[str, Any], metrics: set[str]
) -> None:
    """Without evaluations, without logs, and where the last step has logged already."""
    fit(tmp_path, pruned(), TopostrataCallback("w0", mode="offline", spool=tmp_path), **options)
    trail = snapshots(tmp_path, "w0")
    assert [snapshot.step for snapshot in trail] == [0, 8, 16]
    assert all(set(snapshot.metrics) == metrics for snapshot in trail[1:])


def test_so_many_optimizer_steps_and_the_last(tmp_path: Path) -> None:
    """Of gradients that accumulate over two batches, too; metrics are those of their step alone."""
    recorded = TopostrataCallback("w0", every=3, mode="offline", spool=tmp_path)
    fit(tmp_path, pruned(), recorded, gradient_accumulation_steps=2, logging_strategy="steps", logging_steps=2)
    trail = snapshots(tmp_path, "w0")
    assert [snapshot.step for snapshot in trail] == [0, 3, 6, 8]
    assert [set(snapshot.metrics) for snapshot in trail[1:]] == [
        set(),
        {"loss", "grad_norm", "learning_rate"},
        {"loss", "grad_norm", "learning_rate", "eval_loss", "eval_accuracy"},
    ]


class Mask(nn.Module):
    """A parametrization that masks."""

    def __init__(self, mask: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * self.mask


class Sparsifier(TrainerCallback):
    """In the order of sparsimony's callback: masks change in place at the optimizer's step and end with the training."""

    def __init__(self, model: Classifier) -> None:
        self.layers = [model.fc1, model.fc2]
        for layer in self.layers:
            parametrize.register_parametrization(layer, "weight", Mask(torch.rand_like(layer.weight) < 0.5))

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        for layer in self.layers:
            mask = layer.parametrizations.weight[0].mask
            mask.copy_(mask.flatten().roll(1).view_as(mask))

    def on_train_end(self, *_: Any, **__: Any) -> None:
        for layer in self.layers:
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)


@pytest.mark.parametrize("first", [True, False])
def test_masks_are_read_between_their_change_and_their_end(tmp_path: Path, first: bool) -> None:
    """A sparsifier that steps with the optimizer and squashes at the end, before the callback and after it."""
    torch.manual_seed(0)
    model = Classifier()
    sparsifier = Sparsifier(model)
    begin = model.fc1.parametrizations.weight[0].mask.clone()
    recorded = TopostrataCallback("w0", every=1, mode="offline", spool=tmp_path)
    fit(tmp_path, model, *([sparsifier, recorded] if first else [recorded, sparsifier]))
    trail = snapshots(tmp_path, "w0")
    assert [snapshot.step for snapshot in trail] == list(range(17))
    for snapshot in trail:
        expected = begin.flatten().roll(snapshot.step).view_as(begin).T.numpy()
        assert (snapshot.topology["fc1.weight"].mask.to_csc().toarray() == expected).all()
    assert not parametrize.is_parametrized(model)


class Watching(TrainerCallback):
    """It measures by itself how the gradients flow before each step."""

    def __init__(self) -> None:
        self.flows: list[float] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        weights = [model.fc1.weight_orig, model.fc2.weight_orig]
        self.flows.append(sum(float(weight.grad.norm()) for weight in weights) / 2)


def test_the_gradient_flow_is_measured_before_the_step(tmp_path: Path) -> None:
    """At each third step, summed over the batches of the step, as the trainer has clipped it."""
    watching = Watching()
    recorded = TopostrataCallback("w0", gradient_flow=3, mode="offline", spool=tmp_path)
    fit(tmp_path, pruned(), watching, recorded, gradient_accumulation_steps=2, max_grad_norm=1e-3)
    flows = measured(tmp_path, "w0")
    assert [flow.step for flow in flows] == [0, 3, 6]
    assert [flow.metrics["egf_2"] for flow in flows] == pytest.approx(watching.flows[::3])
    assert max(watching.flows) < 1e-3


def test_training_is_the_same_to_the_bit(tmp_path: Path) -> None:
    """With the callback and without it."""
    plain, recorded = pruned(), pruned()
    fit(tmp_path, plain)
    fit(tmp_path, recorded, TopostrataCallback("w0", every=1, mode="offline", spool=tmp_path))
    for name, value in plain.state_dict().items():
        assert torch.equal(value, recorded.state_dict()[name])


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """The folder of the checkpoints and the spool of ``w0``, trained for two epochs."""
    fit(tmp_path, pruned(), TopostrataCallback("w0", mode="offline", spool=tmp_path), save_strategy="epoch")
    return tmp_path


loads_checkpoints = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6),
    reason="transformers loads checkpoints with torch 2.6 or later alone",
)


@loads_checkpoints
@pytest.mark.parametrize("restore", [True, False])
def test_a_run_that_begins_at_a_checkpoint_of_another_descends_from_it(trained: Path, restore: bool) -> None:
    """From its snapshot at the checkpoint, whether or not the trainer is told to restore its callbacks."""
    state = json.loads((trained / "checkpoint-8" / "trainer_state.json").read_text())
    assert state["stateful_callbacks"]["topostrata"] == {"run": "w0", "step": 8}
    fit(
        trained,
        pruned(),
        TopostrataCallback("w1", mode="offline", spool=trained),
        resume=trained / "checkpoint-8",
        restore_callback_states_from_checkpoint=restore,
    )
    assert head(trained, "w1").parents == (Parent("w0", 8, "fork"),)
    assert [snapshot.step for snapshot in snapshots(trained, "w1")] == [16]


@loads_checkpoints
def test_a_run_goes_on_from_its_own_checkpoint(trained: Path) -> None:
    """The same run; a step that both trainings took has the same masks and metrics, so that it is no fork."""
    folder = trained / "again"
    fit(trained, pruned(), TopostrataCallback("w0", mode="offline", spool=folder), resume=trained / "checkpoint-8")
    assert head(folder, "w0").parents == ()
    (again,), (*_, before) = snapshots(folder, "w0"), snapshots(trained, "w0")
    assert (again.step, again.topology, again.metrics) == (16, before.topology, before.metrics)


def test_nothing_raises_into_the_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A source that raises, a network without masks, a place for the spool that is none."""
    (tmp_path / "file").write_text("")

    def source(_model: Any) -> Any:
        raise RuntimeError("no such layer")

    with caplog.at_level(logging.WARNING, "topostrata.hook"):
        fit(tmp_path, pruned(), TopostrataCallback("a", mode="offline", spool=tmp_path, source=source))
        fit(tmp_path, Classifier(), TopostrataCallback("b", mode="offline", spool=tmp_path))
        fit(tmp_path, pruned(), TopostrataCallback("c", mode="offline", spool=tmp_path / "file"))
        fit(tmp_path, pruned(), TopostrataCallback("d", mode="disabled", spool=tmp_path))
    assert {record.getMessage().split(":")[0] for record in caplog.records if record.name == "topostrata.hook"} == {
        "run a",
        "run b",
        "run c",
    }
    assert list(tmp_path.glob("*.spool")) == []


def test_a_mistake_in_the_arguments_raises_where_the_callback_is_made() -> None:
    """Not in the midst of training."""
    with pytest.raises(InvalidRefError):
        TopostrataCallback("w0/x")
    for options in ({"every": 0}, {"mode": "sometimes"}, {"source": "network"}, {"update": 3}):
        with pytest.raises(InvalidInputError, match="expected"):
            TopostrataCallback("w0", **options)


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_models_that_accelerate_prepares_are_read(tmp_path: Path, precision: str) -> None:
    """As the plain model, in a plain loop of theirs, where another precision wraps its forward pass."""
    AcceleratorState._reset_state(reset_partial_state=True)  # a process has one
    accelerator = Accelerator(cpu=True, mixed_precision=precision)
    model = pruned()
    prepared, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), 0.1))
    with ts.init("w0", mode="offline", spool=tmp_path) as run:
        for step in range(2):
            accelerator.backward(prepared(torch.ones(4, 6), torch.tensor([0, 1, 2, 0]))["loss"])
            optimizer.step()
            run.log(prepared, step=step)
    expected = ts.Topology.from_masks(
        {"fc1.weight": model.fc1.weight_mask, "fc2.weight": model.fc2.weight_mask}, orientation="out-in"
    )
    assert [snapshot.topology for snapshot in snapshots(tmp_path, "w0")] == [expected, expected]


class Tiny(PreTrainedModel):
    """The classifier as a model that peft takes."""

    config_class = PretrainedConfig

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.fc1, self.fc2 = nn.Linear(6, 5), nn.Linear(5, 3)

    forward = Classifier.forward


def test_a_network_with_adapters_of_peft_is_read(tmp_path: Path) -> None:
    """The masks of the frozen layers, by the wiring that is traced with the adapters in it."""
    torch.manual_seed(0)
    model = Tiny(PretrainedConfig())
    prune.random_unstructured(model.fc1, "weight", 0.5)
    mask = model.fc1.weight_mask.clone()
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["fc2"]))
    wiring = ts.trace(adapted, {"inputs": torch.zeros(2, 6)})
    recorded = TopostrataCallback("w0", mode="offline", spool=tmp_path, wiring=wiring)
    fit(tmp_path, adapted, recorded)
    trail = snapshots(tmp_path, "w0")
    assert [snapshot.step for snapshot in trail] == [0, 8, 16]
    (name,) = [layer.name for layer in trail[0].topology if layer.name.endswith("fc1")]
    assert trail[-1].topology[name].mask.nnz == int(mask.sum())
