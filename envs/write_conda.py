"""Write the conda files of the rules from the pinned versions: ``python envs/write_conda.py``."""

import re
from pathlib import Path

ENVS = Path(__file__).resolve().parent

# Rules that draw or tabulate are not made stale by another torch, hence two environments.
CONTENTS = {"analysis": ("analysis",), "torch": ("analysis", "torch")}


def read_pins(path=ENVS / "requirements.txt"):
    """Read the pinned versions by section.

    Returns
    -------
    dict of list of str
        ``name==version`` lines of each ``# [section]``.
    """
    pins, section = {}, None
    for line in path.read_text().splitlines():
        heading = re.match(r"# \[(\w+)\]", line)
        if heading:
            section = heading.group(1)
            pins[section] = []
        elif "==" in line:
            pins[section].append(line.strip())
    return pins


def compose_env(name, pins):
    """Compose the text of one conda file."""
    lines = [pin for section in CONTENTS[name] for pin in pins[section]]
    packages = "".join(f"      - {line}\n" for line in lines)
    return (
        "# Written by envs/write_conda.py from envs/requirements.txt; do not edit.\n"
        f"name: nsdldm-{name}\nchannels:\n  - conda-forge\n  - nodefaults\n"
        f"dependencies:\n  - python=3.11\n  - pip\n  - pip:\n{packages}"
    )


if __name__ == "__main__":
    for name in CONTENTS:
        (ENVS / f"{name}.yaml").write_text(compose_env(name, read_pins()))
