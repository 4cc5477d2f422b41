"""The examples run, on a folder like a user's."""

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_own_loop_trains_and_tells_its_losses(shapes: Path) -> None:
    command = [sys.executable, EXAMPLES / "own_loop.py", shapes, "--steps", "3", "--classes-per-batch", "4", "--image-size", "32"]
    told = subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout
    (line,) = told.splitlines()
    assert line.startswith("step 3: J_m ")
    assert "λ" in line
