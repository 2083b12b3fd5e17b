"""Renew the pinned versions: ``python envs/lock.py``, as ``make lock`` does.

Finds the newest versions of the packages named in envs/requirements.txt, outside [needs], that go
together, and of all that they need; rewrites the file with the same sections and then the conda
files. Nothing is installed. torch stays as pinned unless another version is given, since results
and hardware depend on it most. Read the difference and run the tests before you commit it.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ENVS = Path(__file__).resolve().parent
NEEDS = "# [needs]"
# What torch brings for one accelerator or another belongs to the build that a machine chose.
OF_TORCH = ("nvidia-", "cuda-", "triton")
# Parts of every virtual environment.
OF_PYTHON = ("pip", "setuptools", "wheel")
OURS = ("nsdldm",)


def list_names(text):
    """Packages that the sections other than [needs] name, in order.

    Parameters
    ----------
    text : str
        Of envs/requirements.txt.

    Returns
    -------
    list of str
    """
    return re.findall(r"^([\w.-]+)==", text.partition(NEEDS)[0], re.MULTILINE)


def renew(text, versions):
    """Put other versions into envs/requirements.txt.

    Parameters
    ----------
    text : str
        Of the file.
    versions : dict of str to str
        Versions of all packages of an environment, by name.

    Returns
    -------
    str
        The same sections with these versions; [needs] has all packages that the others do not
        name, sorted, but those of Python and of torch's build, and this project's.
    """
    found = {_normalise(name): version.partition("+")[0] for name, version in versions.items()}
    named, _, rest = text.partition(NEEDS)
    heading = NEEDS + rest.partition("\n")[0]
    names = list_names(text)
    needed = sorted(set(found) - set(names) - set(OF_PYTHON) - set(OURS))
    needed = [name for name in needed if not name.startswith(OF_TORCH)]
    pinned = re.sub(
        r"^([\w.-]+)==.*$",
        lambda match: f"{match.group(1)}=={found[match.group(1)]}",
        named,
        flags=re.MULTILINE,
    )
    return pinned + "\n".join([heading, *(f"{name}=={found[name]}" for name in needed), ""])


def _normalise(name):
    """A package's name as the file has it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_report(report):
    """Versions in pip's report of an installation.

    Parameters
    ----------
    report : dict

    Returns
    -------
    dict of str to str
    """
    packages = [item["metadata"] for item in report["install"]]
    return {package["name"]: package["version"] for package in packages}


def resolve(requirements):
    """Ask pip for versions that go together, in a fresh environment, without installing them.

    Parameters
    ----------
    requirements : list of str
        As pip takes them.

    Returns
    -------
    dict of str to str
    """
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        pip = [folder / "venv/bin/python", "-m", "pip"]
        subprocess.run([*pip, "install", "--quiet", "--upgrade", "pip"], check=True)
        report = folder / "report.json"
        ask = [*pip, "install", "--quiet", "--dry-run", "--ignore-installed", "--report", report]
        subprocess.run([*ask, *requirements], check=True)
        return read_report(json.loads(report.read_text()))


def main():
    """Rewrite the pins and what follows them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--torch", help="another version of torch")
    torch = parser.parse_args().torch
    path = ENVS / "requirements.txt"
    text = path.read_text()
    torch = torch or re.search(r"^torch==(.*)$", text, re.MULTILINE).group(1)
    names = [name for name in list_names(text) if name != "torch"]
    path.write_text(renew(text, resolve([*names, f"torch=={torch}"])))
    subprocess.run([sys.executable, ENVS / "write_conda.py"], check=True)


if __name__ == "__main__":
    main()
