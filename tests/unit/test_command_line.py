"""How the command line ends."""

from __future__ import annotations

import subprocess
import sys

INTERRUPTED = """
import sys
from topostrata.service.cli import main
@main.app.command()
def stop() -> None:
    raise KeyboardInterrupt
sys.argv = ["topostrata", "stop"]
main.main()
"""


def test_an_interrupted_verb_says_how_to_go_on() -> None:
    """Ctrl-C: 130, as a shell has it, one line on stderr, nothing on stdout."""
    ran = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (130, "")
    assert ran.stderr == "interrupted; what the archive was told already is not done again\n"
