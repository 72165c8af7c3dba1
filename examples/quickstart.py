"""From masks to answers in Python: push a small history, ask how far apart, what survived, who descends from whom."""

from __future__ import annotations

import sys
import tempfile

import numpy as np

import topostrata as ts


def rewire(mask: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Move a share of the connections to cells that are free."""
    flat = mask.ravel().copy()
    used, free = np.flatnonzero(flat), np.flatnonzero(~flat)
    moved = round(share * used.size)
    flat[rng.choice(used, moved, replace=False)] = False
    flat[rng.choice(free, moved, replace=False)] = True
    return flat.reshape(mask.shape)


def main(store: str) -> None:
    rng = np.random.default_rng(0)
    # Rows are source units, columns target units; the weights of torch.nn.Linear are the transpose.
    masks = [rng.random((20, 30)) < 0.2, rng.random((30, 4)) < 0.5]
    with ts.open(store) as archive:
        for step in range(5):
            archive.push("first", step, ts.Topology.from_masks(masks), metrics={"loss": 1.0 / (step + 1)})
            masks = [rewire(mask, 0.1, rng) for mask in masks]
        archive.create_run("second", parents=[ts.Parent("first", 2, "fork")])
        archive.push("second", 3, archive.topology("first@2"))

        print("distance", archive.nnstd("first@0", "first@last", alignment="identity").nnstd)
        for layer in archive.evolution("first", 0, 4).layers:
            print(layer.name, f"{layer.survived} of {layer.alive_from} connections survived")
        print("descent", archive.lineage("second").edges)
        oldest = archive.cypher("MATCH (:Neuron)-[c:CONNECTS]->(:Neuron) WHERE c.died_step IS NULL RETURN count(c)")
        print("alive", oldest.rows[0][0])


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
