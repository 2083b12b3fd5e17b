"""Files and regions of a simulated LAION-fMRI release. No heavy imports, for the Snakefile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nsdldm.laion import layout
from nsdldm.nsd.layout import HEMISPHERES

# Beside the release's own folders, since its divisions come with its software.
SPLIT = "splits/" + layout.SPLIT
DERIVATIVES_DESCRIPTION = layout.GLM + "/" + layout.DESCRIPTION
# Surfaces, by the names of the simulated NSD.
SURFACES = {"white": "white", "pial": "pial", "inflated": "inflated", layout.REGISTERED: "sphere"}
# Regions, by category, as unions of an atlas' labels of the simulated NSD.
REGIONS = {
    "laion": {
        "laiongeneral": ("nsdgeneral", ("nsdgeneral",)),
        "laionEVC": ("streams", ("early",)),
        "laionventral": ("streams", ("ventral",)),
        "laionlateral": ("streams", ("lateral",)),
        "laiondorsal": ("streams", ("parietal",)),
    },
    "retinotopy": {
        name: ("prf-visualrois", (name,))
        for name in ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4")
    },
    "face": {name.replace("-", ""): ("floc-faces", (name,)) for name in ("OFA", "FFA-1", "FFA-2")},
    "body": {"EBA": ("floc-bodies", ("EBA",)), "FBA": ("floc-bodies", ("FBA-1", "FBA-2"))},
    "place": {
        "OPA": ("floc-places", ("OPA",)),
        "PPA": ("floc-places", ("PPA",)),
        "MPA": ("floc-places", ("RSC",)),
    },
    "character": {
        name.replace("-", ""): ("floc-words", (name,)) for name in ("VWFA-1", "VWFA-2", "mfs-words")
    },
}
# The region that a subject lacks.
LACKING = {"sub-03": "FFA2", "sub-05": "VWFA2", "sub-06": "FBA", "sub-07": "MPA"}
# Fewest repeats of the images behind a noise ceiling.
CEILINGS = {"4rep": 4, "12rep": 12, "Allrep": 2}


def shared_files(root: Path | str, subjects: Sequence[str]) -> dict[str, str]:
    """Name the files that `nsdldm.demo.laion.simulate_shared` writes.

    Parameters
    ----------
    root : str or Path
        Root of the release.
    subjects : sequence of str
        Such as sub-01.

    Returns
    -------
    dict of str to str
        Keys description, derivatives, participants, stimuli, metadata and captions, and
        ``{pool}/{name}`` of each division.
    """
    files = {
        "description": layout.DESCRIPTION,
        "derivatives": DERIVATIVES_DESCRIPTION,
        "participants": layout.PARTICIPANTS,
        "stimuli": layout.STIMULI,
        "metadata": layout.METADATA,
        "captions": layout.CAPTIONS,
    }
    for pool in (layout.SHARED_POOL, *subjects):
        for name in layout.SPLITS:
            files[f"{pool}/{name}"] = SPLIT.format(pool=pool, name=name)
    return {key: f"{root}/{path}" for key, path in files.items()}


def subject_files(root: Path | str, subject: str, sessions: int) -> dict[str, str]:
    """Name the files that `nsdldm.demo.laion_subject.simulate_subject` writes.

    Parameters
    ----------
    root : str or Path
        Root of the release.
    subject : str
        Such as sub-01.
    sessions : int
        Number of sessions.

    Returns
    -------
    dict of str to str
        Keys such as trials_session01, betas_session01, Noiseceiling12rep, R2mean,
        retinotopy/V1v and lh.white.
    """

    def path(template, **values):
        return f"{root}/" + template.format(subject=subject, **values)

    files = {}
    for session in range(1, sessions + 1):
        for key, template in {
            "trials": layout.TRIALS,
            "sidecar": layout.TRIALS_SIDECAR,
            "betas": layout.BETAS,
            "R2": layout.SESSION_R2,
            "ceiling": layout.SESSION_CEILING,
        }.items():
            files[f"{key}_session{session:02d}"] = path(template, session=session)
    for repeats in CEILINGS:
        files[f"Noiseceiling{repeats}"] = path(layout.CEILING, repeats=repeats)
    files["R2mean"] = path(layout.R2)
    for category, regions in REGIONS.items():
        for label in regions:
            if label != LACKING.get(subject):
                files[f"{category}/{label}"] = path(layout.ROI, category=category, label=label)
    for hemi in HEMISPHERES:
        for name in (*SURFACES, "sulc"):
            files[f"{hemi}.{name}"] = path(layout.SURFACE, hemi=hemi, name=name)
    return files


def list_common(files: dict[str, str]) -> list[str]:
    """Name the files that all subjects have, by their keys in `subject_files`."""
    lacking = {*LACKING.values()}
    return [key for key in files if key.partition("/")[2] not in lacking]
