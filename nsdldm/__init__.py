"""Decode and explain seen images with a latent diffusion model and the Natural Scenes Dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from nsdldm.results import Subject

__version__ = "0.2.0"


def load(results: Path | str, subject: str) -> Subject:
    """Open the results of a finished run.

    Parameters
    ----------
    results : str or Path
        Folder of the results.
    subject : str
        Such as subj01.

    Returns
    -------
    nsdldm.results.Subject
        Reads nothing before it is asked for.

    Raises
    ------
    InputError
        There are no results of this subject.
    """
    # Not an import: what jobs run does not depend on it.
    from importlib import import_module

    return import_module("nsdldm.results").Subject(results, subject)
