"""The five reference runs in an archive, as its first user puts them there: the command line on it, and REST."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

import topostrata

RUNS = ("w0", "w1", "w2", "w3", "w4")
STEPS = (0, 10, 50)


def environment() -> dict[str, str]:
    """Of a process with the sources that these tests have, wherever the interpreter's own installation of them lies."""
    return os.environ | {"PYTHONPATH": str(Path(topostrata.__file__).parents[1])}


class Shell:
    """`topostrata` as a command, on one archive."""

    def __init__(self, store: Path) -> None:
        self.store = store

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "topostrata.service.cli.main", *arguments, "--store", str(self.store)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment())

    def json(self, *arguments: str) -> Any:
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def fails(self, *arguments: str, code: int = 1) -> str:
        done = self.run(*arguments)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        return done.stderr


def push_reference_runs(store: Path, reference_directory: Path) -> Shell:
    """Push the five runs as the README says, each descended from the one before."""
    shell = Shell(store)
    for k, run in enumerate(RUNS):
        descent = ["--parent", f"w{k - 1}@first", "--how", "perturbation"] if k else []
        pushed = shell.json("push", str(reference_directory / f"e5_s0_{run}"), "--run", run, "--tag", "set", *descent)
        assert pushed["run"] == run
        assert pushed["added"] == list(STEPS)
        assert pushed["unchanged"] == []
        assert 50_000 < pushed["connections"] < 60_000
    return shell


@contextmanager
def served(store: Path, **settings: object) -> Iterator[httpx.Client]:
    """A client of `topostrata serve` on an archive, with these settings."""
    with service(store, **settings) as (client, _):
        yield client


@contextmanager
def service(store: Path, *options: str, **settings: object) -> Iterator[tuple[httpx.Client, subprocess.Popen[str]]]:
    """`topostrata serve` on an archive, with these options and settings: a client of it, and the process."""
    place = ["--port", "0", "--store", str(store)]
    command = [sys.executable, "-m", "topostrata.service.cli.main", "serve", *place, *options]
    variables = environment() | {f"TOPOSTRATA_{name.upper()}": str(value) for name, value in settings.items()}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=variables) as server:
        assert server.stderr is not None
        line = server.stderr.readline()
        assert line.startswith("serving http://127.0.0.1:"), line
        assert server.stderr.readline().startswith("TOPOSTRATA_API_HOSTS ")
        assert server.stderr.readline().startswith("the page: http://127.0.0.1:")
        try:
            with httpx.Client(base_url=line.split()[1].removesuffix("/v1/runs"), timeout=60) as client:
                yield client, server
        finally:
            server.terminate()
            server.wait(30)
