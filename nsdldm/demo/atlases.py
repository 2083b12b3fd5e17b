"""Atlases of the simulated release. No heavy imports, for the Snakefile."""

from __future__ import annotations

from nsdldm.nsd.labels import find_labels, parse_roi
from nsdldm.support.errors import Finding, InputError

# The numbers of NSD's streams atlas.
STREAMS = {
    "early": 1,
    "midventral": 2,
    "midlateral": 3,
    "midparietal": 4,
    "ventral": 5,
    "lateral": 6,
    "parietal": 7,
}
# Those of single subjects, which the average brain has no table of.
DRAWN = {
    "prf-visualrois": ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4"),
    "floc-bodies": ("EBA", "FBA-1", "FBA-2", "mTL-bodies"),
    "floc-faces": ("OFA", "FFA-1", "FFA-2", "mTL-faces", "aTL-faces"),
    "floc-places": ("OPA", "PPA", "RSC"),
    "floc-words": ("OWFA", "VWFA-1", "VWFA-2", "mfs-words", "mTL-words"),
}
LABELS = {
    "streams": STREAMS,
    "nsdgeneral": {"nsdgeneral": 1},
    "control": {"frontal": 1},
    **{
        atlas: {name: number for number, name in enumerate(names, 1)}
        for atlas, names in DRAWN.items()
    },
}
# In the order of the files that all subjects share.
AVERAGED = sorted({*LABELS} - {*DRAWN})


def check_regions(rois: dict[str, list[str]]) -> list[Finding]:
    """List regions that the simulated release cannot have.

    Parameters
    ----------
    rois : dict of str to list of str
        Parts (``atlas:label``) of each region.

    Returns
    -------
    list of Finding
        Empty if all atlases and labels are among `LABELS`.
    """
    findings = []
    for name, parts in rois.items():
        try:
            pairs = parse_roi(name, parts)
        except InputError as error:
            findings += error.findings
            continue
        for atlas in dict.fromkeys(atlas for atlas, _ in pairs if atlas not in LABELS):
            expected = f"an atlas of the simulated release ({', '.join(LABELS)})"
            remedy = "Use one of these, or the release itself"
            findings.append(Finding(f"`rois`.{name}", expected, atlas, remedy))
        for atlas, label in pairs:
            if atlas in LABELS:
                findings += _find_missing(label, atlas, name)
    return findings


def _find_missing(label, atlas, name):
    """A finding, as a list, if an atlas lacks a label."""
    labels = {0: "Unknown"} | {number: known for known, number in LABELS[atlas].items()}
    try:
        find_labels(label, labels, name, f"the atlas {atlas} of the simulated release")
    except InputError as error:
        return list(error.findings)
    return []
