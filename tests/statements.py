"""How the tests tell a statement that writes from one that reads."""

from __future__ import annotations

import re

WRITING = re.compile(r"\b(CREATE|MERGE|SET|DELETE|REMOVE)\b")
