"""Writes tests/data/compressed-tensors with compressed-tensors 0.9.4, the last that packs bits: see PROVENANCE.md there.

No environment of the project has it: ``uv pip install --target DIR --no-deps compressed-tensors==0.9.4``, then
``PYTHONPATH=DIR python tests/torch/golden_bitmasks.py`` in the environment of ``make test-torch``.
"""

from __future__ import annotations

from pathlib import Path

import torch
from compressed_tensors.compressors.sparse_compressors.sparse_24_bitmask import Sparse24BitMaskTensor
from compressed_tensors.compressors.sparse_compressors.sparse_bitmask import BitmaskTensor
from safetensors.torch import save_file


def weight(rows: int, columns: int, k: int) -> torch.Tensor:
    """The weights whose rule tests/unit/ingest/test_formats_packed.py knows too."""
    at = torch.arange(rows * columns).reshape(rows, columns)
    return torch.where((at * 7 + k) % 3 == 0, at % 5 + 1, 0).to(torch.bfloat16)


if __name__ == "__main__":
    folder = Path(__file__).resolve().parents[1] / "data" / "compressed-tensors"
    plain = [
        BitmaskTensor.from_dense(weight(5, 11, 0)).dict("fc1.weight"),
        BitmaskTensor.from_dense(weight(3, 5, 1)).dict("fc2.weight"),
    ]
    save_file({key: part for parts in plain for key, part in parts.items()}, folder / "bitmask.safetensors")
    halves = [
        Sparse24BitMaskTensor.from_dense(weight(4, 16, 0), "2:4").dict("fc1.weight", device="cpu"),
        Sparse24BitMaskTensor.from_dense(weight(8, 4, 1), "2:4").dict("fc2.weight", device="cpu"),
    ]
    save_file({key: part for parts in halves for key, part in parts.items()}, folder / "sparse-24-bitmask.safetensors")
