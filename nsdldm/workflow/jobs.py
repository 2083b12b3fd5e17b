"""The environment that jobs inherit."""

from __future__ import annotations

import os
from pathlib import Path

from nsdldm.workflow.arguments import tell_jobs

# By default glibc returns freed memory so early that networks take fresh pages for every layer, a
# tenth of the demo's time. Elsewhere these do nothing.
SETTINGS = {"MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "268435456"}
# transformers' bars of weights being loaded.
SETTINGS |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}
# What libraries say of optional packages, and of weights that this package checks itself.
SETTINGS |= {"TRANSFORMERS_VERBOSITY": "error", "DIFFUSERS_VERBOSITY": "error"}


def prepare_jobs(project: Path) -> None:
    """Set the environment of all jobs that this process starts.

    Jobs use the package next to the Snakefile, whose digests they have, whichever is installed, and
    their messages name arguments by their keys in the configuration. What is set already stays.

    Parameters
    ----------
    project : path
        Folder of the Snakefile.
    """
    paths = filter(None, [str(project), os.getenv("PYTHONPATH")])
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    tell_jobs()
