"""docs/api.md is a tour that works: each of its commands is run against a service."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.reference_runs import Shell, served

DOCS = Path(__file__).resolve().parents[3] / "docs"

pytestmark = pytest.mark.checkout


def test_the_tour_works(shell: Shell, tmp_path: Path) -> None:
    """Every command of every block answers as the page says, in its order."""
    if shutil.which("curl") is None:
        pytest.skip("expected curl, found none")
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    commands = [command for block in blocks for command in re.split(r"(?<!\\)\n", block) if command.strip()]
    assert len(commands) > 15
    backup = tmp_path / "backup.zip"
    assert shell.run("export", str(backup)).returncode == 0
    store = tmp_path / "archive"
    restored = Shell(store)
    assert restored.run("import", str(backup)).returncode == 0
    assert restored.run("verify").returncode == 0
    with served(store) as client:
        answers = [run(command, str(client.base_url), tmp_path) for command in commands]
        check(client, commands, answers)
    restored.run("engine", "stop", "--force")


def run(command: str, url: str, folder: Path) -> str:
    """What a command prints."""
    done = subprocess.run(
        ["bash", "-c", command], env={"URL": url, "PATH": "/usr/bin:/bin"}, cwd=folder, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


def check(client: httpx.Client, commands: list[str], answers: list[str]) -> None:
    """Only the last command fails, and each that writes left what it says."""
    for command, answer in zip(commands[:-1], answers[:-1], strict=True):
        if " -o " not in command:
            assert "code" not in json.loads(answer), (command, answer)
    assert json.loads(answers[-1])["code"] == "not-found"
    assert json.loads(answers[-2])["rows"] == [["finished"]]
    run = client.get("/v1/runs/w9").json()
    assert (run["tags"], run["status"], run["snapshots"]) == (["tour"], "finished", 1)
