"""Lineage over REST."""

from __future__ import annotations

import httpx

from tests.reference_runs import Shell


def test_lineage_is_that_of_the_command_line(shell: Shell, rest: httpx.Client) -> None:
    """Of one run and of all, kinship, inferred ancestry and timelines have the same JSON."""
    assert rest.get("/v1/runs/w2/lineage").json() == shell.json("lineage", "w2")
    assert rest.get("/v1/lineage").json() == shell.json("lineage")
    kinship = rest.get("/v1/lineage/common", params={"a": "w4", "b": "w2"}).json()
    assert kinship == shell.json("lineage", "w4", "--with", "w2")
    inferred = rest.get("/v1/lineage/inferred", params={"refs": "w*@0", "root": "w0"}).json()
    assert inferred == shell.json("lineage", "--infer", "w*@0", "--root", "w0") | {"name": ""}
    assert inferred["units"] == "in-place"
    stated = rest.get("/v1/lineage/inferred", params={"refs": "w*@0", "units": "renamed"}).json()
    assert stated == shell.json("lineage", "--infer", "w*@0", "--units", "renamed") | {"name": ""}
    assert (stated["units_by"], stated["alignment"]) == ("caller", "overlap")
    assert rest.get("/v1/runs/w0/timeline").json() == shell.json("timeline", "w0")
