"""Which datasets there are, and who is in each. Standard library only.

A dataset has a form, which decides the rules that read it (``rules/{form}.smk``). What these rules
write is the same for all, so that nothing after them knows the dataset.
"""

from __future__ import annotations

from nsdldm.laion import layout as laion
from nsdldm.nsd import layout as nsd

FORMS = {
    "demo": "nsd",
    "nsd": "nsd",
    "laion-demo": "laion",
    "laion-fmri": "laion",
    "arrays": "arrays",
}
SIMULATED = ("demo", "laion-demo")
DATASETS = tuple(FORMS)
# Folders of results/ that are not a subject's, and words that stand for several subjects.
TAKEN = ("demo", "figures", "joint", "maps", "report", "tables")


def list_people(dataset: str) -> tuple[str, ...] | None:
    """Name everyone in a dataset.

    Parameters
    ----------
    dataset : str
        One of `DATASETS`.

    Returns
    -------
    tuple of str or None
        None for a dataset of one's own, whose subjects the configuration names.
    """
    return {"nsd": nsd.SUBJECTS, "laion": laion.SUBJECTS}.get(FORMS[dataset])
