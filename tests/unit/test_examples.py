"""The examples of the documentation do what they say."""

import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
EXAMPLES = PROJECT / "docs/examples"


def test_examples_are_short():
    lengths = {path.name: len(path.read_text().splitlines()) for path in EXAMPLES.glob("*.py")}
    assert len(lengths) == 3
    assert max(lengths.values()) <= 40


def test_one_encoder_from_arrays():
    """Voxels that respond have a signal of variance 80 / 81 and noise of variance 1."""
    command = [sys.executable, EXAMPLES / "fit_encoder.py"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, check=True)
    found, median, false = re.search(r"(\d+) of .* r (\S+), and (\d+)", run.stdout).groups()
    assert int(found) >= 98
    # Fitted without error r would be 0.70.
    assert 0.55 < float(median) < 0.7
    # At FDR 0.05 about 5 of 105.
    assert int(false) < 15
