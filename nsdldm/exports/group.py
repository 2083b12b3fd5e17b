"""Maps over subjects on the average brain."""

from __future__ import annotations

import os
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from nsdldm.exports.brains import AVERAGE, average
from nsdldm.exports.gifti import write_values
from nsdldm.exports.sidecars import describe_derivatives, write_json
from nsdldm.support.bids import SIDES, name_space, name_subject
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import save_table
from nsdldm.support.listing import list_files


def average_maps(
    *,
    subjects: list[str],
    folders: list[Path | str],
    task: str,
    spaces: list[str],
    output: Path | str,
) -> None:
    """Write maps over subjects on the average brain.

    Parameters
    ----------
    subjects : list of str
    folders : list of path
        What `nsdldm.exports.maps.export_maps` wrote for each.
    task : str
    spaces : list of str
        Feature spaces whose r is averaged.
    output : str or Path
        Folder: for each space and hemisphere the mean of r over subjects, and the number of
        subjects in whom it is significant; a sidecar for both hemispheres.

    Raises
    ------
    InputError
        A subject lacks a map, or has another number of vertices.
    """
    output = Path(output)
    describe_derivatives(output, "Maps of encoders over subjects")
    for space in spaces:
        rest = f"stat-r_desc-{name_space(space)}_statmap"
        titles = f"mean r of {space}", f"subjects of {len(subjects)}"
        sources = []
        for hemi, side in SIDES.items():
            brain = f"task-{task}_hemi-{side}_space-{AVERAGE}"
            found = [_find(folder, f"*_{brain}_den-*_{rest}.func.gii") for folder in folders]
            density, values = _read(found)
            mean = average([own[0] for own in values])
            count = np.isfinite([own[1] for own in values]).sum(axis=0)
            limits = {titles[0]: _limit(mean), titles[1]: (0.0, float(len(subjects)))}
            path = output / f"{brain}_{density}_{rest}.func.gii"
            write_values(path, hemi, dict(zip(titles, (mean, count), strict=True)), limits)
            sources += [os.path.relpath(own, output) for own in found]
        content = {
            "Description": "r of held-out images: mean over subjects; number of subjects in whom "
            "it is significant",
            "Units": "arbitrary",
            "Maps": [*titles],
            "SpatialReference": AVERAGE,
            "Density": f"{density.removeprefix('den-')} vertices per hemisphere",
            "Sources": sources,
        }
        write_json(output / f"task-{task}_space-{AVERAGE}_{density}_{rest}.json", content)
    save_table(
        output / "participants.tsv",
        pd.DataFrame({"participant_id": [*map(name_subject, subjects)]}),
    )


def _limit(values):
    """Limits of the colour scale of r."""
    highest = float(np.nanmax(values, initial=0))
    return 0.0, highest if highest > 0 else 1.0


def _find(folder, pattern):
    """The file of a subject."""
    found = list_files(folder, pattern)
    if not found:
        raise InputError(Finding(str(folder), f"a file {pattern}", "none", "Export its maps again"))
    return found[0]


def _read(paths):
    """The density, and arrays of shape (n_maps, n_vertices) of each subject."""
    values = [np.stack([array.data for array in nib.load(path).darrays]) for path in paths]
    sizes = sorted({own.shape[1] for own in values})
    if len(sizes) != 1:
        expected, remedy = "subjects with one density of fsaverage", "Export their maps again"
        raise InputError(Finding(str(paths[0]), expected, f"{sizes} vertices", remedy))
    return re.search("den-[^_]+", paths[0].name).group(), values
