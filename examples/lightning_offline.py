"""A Lightning training on a node without a network: its callback records offline, ``topostrata sync`` sends it later.

python examples/lightning_offline.py [STORE]

Lightning's own ``ModelPruning`` prunes after each epoch and makes its masks permanent at the end; the callback has read
them by then. STORE is the directory of an archive; the digits are scikit-learn's.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelPruning
from sklearn.datasets import load_digits
from torch import nn

import topostrata as ts
from topostrata.integrations.lightning import TopostrataCallback

EPOCHS = 4


class Digits(pl.LightningModule):
    """Three layers, whose wiring is traced from the first batch."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 10))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:  # noqa: ARG002 - Lightning's signature
        pixels, classes = batch
        odds = self.network(pixels)
        loss = nn.functional.cross_entropy(odds, classes)
        self.log_dict(
            {"loss": loss, "accuracy": (odds.argmax(1) == classes).float().mean()}, on_step=False, on_epoch=True
        )
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)


def train(spool: Path) -> None:
    pl.seed_everything(0)
    digits = load_digits()
    pixels = torch.tensor(digits.data / 16, dtype=torch.float32)
    data = torch.utils.data.TensorDataset(pixels, torch.tensor(digits.target))
    module = Digits()
    pruning = ModelPruning("l1_unstructured", [(module.network[k], "weight") for k in (0, 2, 4)], amount=0.4)
    recorded = TopostrataCallback("pruned-digits", tags=["pruned"], mode="offline", spool=spool)
    trainer = pl.Trainer(
        max_epochs=EPOCHS, accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=[pruning, recorded]
    )
    trainer.fit(module, torch.utils.data.DataLoader(data, 64, shuffle=True))


def main(store: str) -> None:
    with tempfile.TemporaryDirectory() as spool:
        train(Path(spool))
        sync = [sys.executable, "-m", "topostrata.service.cli.main", "sync", spool, "--store", store]
        subprocess.run(sync, check=True)  # on the command line: topostrata sync SPOOL --store STORE
    with ts.open(store) as archive:
        for snapshot in archive.snapshots("pruned-digits"):
            print(f"{snapshot.id}: {snapshot.nnz} connections, accuracy {snapshot.metrics['accuracy']:.3f}")
        distance = archive.nnstd("pruned-digits@first", "pruned-digits@last", alignment="identity")
        print(f"NNSTD of the first and the last: {distance.nnstd:.3f}")
    print(f"go on: topostrata survival pruned-digits --store {store}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
