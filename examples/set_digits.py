"""SET on handwritten digits in plain NumPy, recorded as it trains: ``ts.init``, ``run.log`` and its gradient flow.

python examples/set_digits.py [STORE]

STORE is a directory, ``neo4j://`` of a server or ``http://`` of a Topostrata service. The digits are scikit-learn's.
"""

from __future__ import annotations

import sys
import tempfile

import numpy as np
from sklearn.datasets import load_digits

import topostrata as ts

HIDDEN, EPSILON, ZETA, EPOCHS, RATE = 100, 8, 0.3, 5, 0.1


def sparse(sources: int, targets: int, rng: np.random.Generator) -> np.ndarray:
    """An Erdos-Renyi mask with EPSILON * (sources + targets) connections on average."""
    return rng.random((sources, targets)) < EPSILON * (sources + targets) / (sources * targets)


def rewire(mask: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> None:
    """Take the weakest connections out and let as many grow at free places (Mocanu et al. 2018)."""
    alive = np.flatnonzero(mask)
    weakest = alive[np.argsort(np.abs(weights.flat[alive]))[: round(ZETA * alive.size)]]
    mask.flat[weakest] = False
    grown = rng.choice(np.flatnonzero(~mask), weakest.size, replace=False)
    mask.flat[grown] = True
    weights[~mask] = 0
    weights.flat[grown] = rng.normal(0, 0.05, grown.size)


def main(store: str) -> None:
    rng = np.random.default_rng(0)
    pixels, classes = load_digits(return_X_y=True)
    pixels, wanted = pixels / 16, np.eye(10)[classes]
    masks = [sparse(64, HIDDEN, rng), sparse(HIDDEN, 10, rng)]
    weights = [rng.normal(0, 0.3, mask.shape) * mask for mask in masks]

    with ts.init("set-digits", config={"zeta": ZETA, "epsilon": EPSILON}, tags=["set"], store=store) as run:
        for epoch in range(EPOCHS):
            for batch in np.array_split(rng.permutation(len(pixels)), 60):
                hidden = np.maximum(pixels[batch] @ weights[0], 0)
                odds = np.exp(hidden @ weights[1])
                slope = (odds / odds.sum(axis=1, keepdims=True) - wanted[batch]) / len(batch)
                backward = (slope @ weights[1].T) * (hidden > 0)
                gradients = [pixels[batch].T @ backward, hidden.T @ slope]
                for k, mask in enumerate(masks):
                    weights[k] -= RATE * gradients[k] * mask
            run.log_gradient_flow(gradients, masks, step=epoch)  # of the epoch's last batch
            answers = np.argmax(np.maximum(pixels @ weights[0], 0) @ weights[1], axis=1)
            run.log(masks, step=epoch, metrics={"accuracy": np.mean(answers == classes)})
            for mask, weight in zip(masks, weights, strict=True):
                rewire(mask, weight, rng)

    if "://" not in store:
        with ts.open(store) as archive:
            for snapshot in archive.snapshots("set-digits"):
                print(snapshot.id, snapshot.nnz, f"accuracy {snapshot.metrics['accuracy']:.2f}")
            for entry in archive.metrics("set-digits", metric="egf_2"):
                print(f"EGF at step {entry.step}: {entry.metrics['egf_2']:.4f}")
            last = archive.evolution("set-digits", 0, EPOCHS - 1)
            print("survived", [f"{layer.name} {layer.survived} of {layer.alive_from}" for layer in last.layers])


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
