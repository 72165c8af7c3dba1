"""What the documents show with torch works as they show it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

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
    *_, tracing = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    model = Block()
    masks = {name: weight != 0 for name, weight in model.named_parameters() if weight.dim() == 2}
    names: dict[str, Any] = {"model": model, "example": torch.zeros(2, 5), "masks": masks}
    exec(f"import topostrata as ts\n{tracing}", names)
    assert [space.size for space in names["wiring"].spaces] == [5, 8, 6, 3]
    assert names["topology"].nnz == 5 * 8 + 8 * 6 + 6 * 8 + 8 * 3
