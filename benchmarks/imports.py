"""Seconds that each adapter spends on imports, and the large libraries among them.

    PYTHONPATH=. python benchmarks/imports.py

starts a process for each adapter of workflow_scripts, which imports and does nothing, twice; the
second time counts.
"""

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
LARGE = (
    *("pandas", "scipy", "sklearn", "torch", "himalaya", "nibabel", "nilearn", "matplotlib"),
    *("transformers", "diffusers"),
)
CODE = """
import runpy, sys, time
began = time.perf_counter()
runpy.run_path({script!r})
print(time.perf_counter() - began, *{{name.partition(".")[0] for name in sys.modules}})
"""


def measure(script):
    """Seconds of a process' imports, and the large libraries that it imported."""
    command = [sys.executable, "-c", CODE.format(script=str(script))]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT)
    seconds, *modules = result.stdout.split()
    return float(seconds), [name for name in LARGE if name in modules]


def main():
    """Print a row for each adapter, slowest first."""
    found = {}
    for script in sorted((PROJECT / "workflow_scripts").glob("*.py")):
        measure(script)
        found[script.stem] = measure(script)
    print("| adapter | seconds | imports |\n|---|---|---|")
    for name, (seconds, modules) in sorted(found.items(), key=lambda item: -item[1][0]):
        print(f"| `{name}` | {seconds:.1f} | {', '.join(modules)} |")


if __name__ == "__main__":
    main()
