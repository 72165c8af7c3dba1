"""What the documents show with torch works as they show it."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from transformers import Trainer, TrainingArguments

import topostrata as ts
from tests.torch import test_lightning, test_scsdc, test_transformers
from tests.torch.spools import head, snapshots
from topostrata.store.embedded import stop

PYTHON = re.MULTILINE | re.DOTALL
ROOT = Path(__file__).resolve().parents[2]


class Block(nn.Module):
    """A stream that a branch reads and enters again."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.outer, self.head = (
            nn.Linear(5, 8),
            nn.Linear(8, 6),
            nn.Linear(6, 8),
            nn.Linear(8, 3),
        )

    def forward(self, x: torch.Tensor) -> Any:
        stream = torch.relu(self.stem(x))
        return self.head(stream + self.outer(torch.relu(self.inner(stream))))


def test_the_readme_traces_a_model() -> None:
    """The two lines of README.md give a residual network its wiring and its masks their places."""
    *_, tracing = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), PYTHON)
    model = Block()
    masks = {name: weight != 0 for name, weight in model.named_parameters() if weight.dim() == 2}
    names: dict[str, Any] = {"model": model, "example": torch.zeros(2, 5), "masks": masks}
    exec(f"import topostrata as ts\n{tracing}", names)
    assert [space.size for space in names["wiring"].spaces] == [5, 8, 6, 3]
    assert names["topology"].nnz == 5 * 8 + 8 * 6 + 6 * 8 + 8 * 3


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The blocks of docs/hook.md by the titles of their sections; what they record goes into a spool in the directory."""
    monkeypatch.setenv("TOPOSTRATA_SPOOL", str(tmp_path))
    monkeypatch.setenv("TOPOSTRATA_MODE", "offline")
    text = (ROOT / "docs" / "hook.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)
    blocks = {section.split("\n")[0]: re.search(r"^```python\n(.*?)^```", section, PYTHON) for section in sections}
    return {title: block[1] for title, block in blocks.items() if block is not None}


def test_the_plain_loop_of_the_hooks_page_records(shown: dict[str, str], tmp_path: Path) -> None:
    """Of 150 steps the first and the hundredth after it."""
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    prune.random_unstructured(model[0], "weight", 0.5)
    names = {
        "ts": ts,
        "model": model,
        "criterion": nn.CrossEntropyLoss(),
        "optimizer": torch.optim.SGD(model.parameters(), 0.1),
        "batches": [(torch.randn(4, 6), torch.tensor([0, 1, 2, 0])) for _ in range(150)],
    }
    exec(shown["A plain loop"], names)
    assert [snapshot.step for snapshot in snapshots(tmp_path, "rigl-seed-7")] == [0, 100]
    assert set(snapshots(tmp_path, "rigl-seed-7")[0].metrics) == {"loss"}


@pytest.mark.filterwarnings("ignore:.*num_workers.*", "ignore:`isinstance:FutureWarning")
def test_the_lightning_block_of_the_hooks_page_records(shown: dict[str, str], tmp_path: Path) -> None:
    """What Lightning's own callback prunes."""
    module = test_lightning.Classifier()
    names = {
        "module": module,
        "pruning": test_lightning.pruning(module),
        "training_batches": test_lightning.batches(),
        "validation_batches": test_lightning.batches(),
        "Trainer": partial(
            pl.Trainer, accelerator="cpu", logger=False, default_root_dir=tmp_path / "out", **test_lightning.QUIET
        ),
    }
    exec(shown["Lightning"], names)
    assert [snapshot.step for snapshot in snapshots(tmp_path, "set-seed-3")] == [8, 16]
    assert head(tmp_path, "set-seed-3").tags == ("set",)


def test_the_hugging_face_block_of_the_hooks_page_records(shown: dict[str, str], tmp_path: Path) -> None:
    """The start and the end, where the training is shorter than what lies between two snapshots."""
    names = {
        "model": test_transformers.pruned(),
        "examples": test_transformers.examples(),
        "arguments": TrainingArguments(
            str(tmp_path / "out"), num_train_epochs=1, report_to=[], use_cpu=True, save_strategy="no", disable_tqdm=True
        ),
        "Trainer": Trainer,
    }
    exec(shown["Hugging Face"], names)
    assert [snapshot.step for snapshot in snapshots(tmp_path, "pruned-bert-1")] == [0, 8]


def test_the_experiments_page_compares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its block trains a study and prints the table; here with fewer pairs and epochs."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", text, PYTHON)
    for long, short in (("(32, 64)", "(6,)"), ("256", "12"), ("(0, 1, 2)", "(0,)"), ("epochs=20", "epochs=1")):
        assert long in block
        block = block.replace(long, short)
    names: dict[str, Any] = {"data": test_scsdc.clouds()}
    exec(block.replace("processes=2", "processes=1"), names)
    assert [cell.pairs for cell in names["table"].cells] == [1] * 6
    stop(tmp_path / "archive", force=True)


@pytest.mark.parametrize(
    ("example", "lines"),
    [
        ("lottery_ticket", ["ticket-3 is a fork of ticket-2@3", "NNSTD of ticket-0@1 and ticket-3@4: 0."]),
        ("rigl_digits", ["NNSTD of the two at step 0: 0.000", "NNSTD of the two at step 400: 0."]),
        ("lightning_offline", ["pruned-digits@116: 591 connections", "NNSTD of the first and the last: 0."]),
    ],
)
def test_an_example_ends_with_its_runs_in_the_archive(example: str, lines: list[str], tmp_path: Path) -> None:
    """Their distance and descent come out of it."""
    store = tmp_path / "archive"
    command = [sys.executable, str(ROOT / "examples" / f"{example}.py"), str(store)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, cwd=tmp_path)
    stop(store, force=True)
    assert ran.returncode == 0, ran.stderr
    assert all(line in ran.stdout for line in lines), ran.stdout
    assert "go on: topostrata" in ran.stdout
