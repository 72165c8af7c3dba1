"""What the graph has of a layer's connections, read back as lifetimes."""

from __future__ import annotations

import numpy as np

from topostrata.ingest import transform
from topostrata.runs import RunLayer
from topostrata.store.graph import GraphStore

ALIVE = NO_KEY = -1
NO_LIFE = (-1, -1, -1)  # cell, born and died step of a relationship that lacks what a connection must have


def projected_lifetimes(store: GraphStore, layer: RunLayer) -> tuple[transform.Lifetimes, transform.Cells]:
    """What the graph has of a layer, in complete and in half-written steps, and the key of each connection."""
    lives: list[tuple[int, int, int, int]] = []
    for group in store.read("projection/lifetimes", run=layer.run, layer=layer.name, space=layer.source.name):
        for target, tap, born, died, key in group["lifetimes"]:
            if None in (group["source"], target, tap, born):
                lives.append((*NO_LIFE, int(transform.alive_keys(layer.id, np.array([-1]))[0])))
            else:
                cell = int(layer.shape.cells_of(group["source"], target, tap))
                lives.append((cell, born, ALIVE if died is None else died, NO_KEY if key is None else key))
    lives.sort()
    columns = np.array(lives, dtype=np.int64).reshape(-1, 4).T
    return transform.Lifetimes(columns[0], columns[1], columns[2]), columns[3]
