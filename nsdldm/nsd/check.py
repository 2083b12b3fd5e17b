"""Check the contents of a subject's files before anything is computed from them.

The preflight looks only at names. This opens every file, reads headers and small files completely,
and compares what the files say about each other. It takes seconds for a subject with 40 sessions.
"""

import gzip
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd

from nsdldm.nsd.betas import check_betas, open_hdf5, open_nifti
from nsdldm.nsd.captions import read_captions
from nsdldm.nsd.grids import check_axes, compare_grids, find_grid
from nsdldm.nsd.labels import find_labels, parse_roi, read_label_table
from nsdldm.nsd.layout import TRIALS_PER_SESSION
from nsdldm.nsd.remote import is_remote, open_ranges
from nsdldm.nsd.rois import read_labels, read_volume
from nsdldm.nsd.stimuli import open_stimuli, outside_stimuli
from nsdldm.nsd.surfaces import read_morph, read_patch, read_surface, read_transform
from nsdldm.nsd.trials import compare_accounts, read_design, read_responses, read_stim_info
from nsdldm.support.errors import Finding, InputError, reading
from nsdldm.support.files import save_table

logger = logging.getLogger(__name__)

# Minimum fraction of vertices that must lie in the volume, and of those in mid-cortex that must lie
# in its ribbon. Nearly all do; if a volume is stored back to front or upside down, at most two
# thirds.
IN_VOLUME, IN_RIBBON = 0.9, 0.7
MORPHS = ("sulc", "curv", "thickness", "area")


class ReleaseFiles(NamedTuple):
    """The release's files of a subject, except for its regions.

    Parameters
    ----------
    responses, design, stim_info, stimuli : str or Path
        ``responses.tsv``, ``nsd_expdesign.mat``, ``nsd_stim_info_merged.csv``,
        ``nsd_stimuli.hdf5``.
    captions : list of path
        COCO's caption files.
    betas : list of path
        The betas of each session. Like `stimuli`, these may be addresses of objects; only headers
        are read.
    transforms : dict of str to list of path
        By hemisphere, the transforms to the cortical depths.
    surfaces : dict of str to dict of str to path
        By hemisphere and name: ``flat`` is a patch, ``sulc`` and ``curv`` are values per vertex,
        other names are surfaces.
    """

    responses: str | Path
    design: str | Path
    stim_info: str | Path
    stimuli: str | Path
    captions: list
    betas: list
    transforms: dict
    surfaces: dict


def check_release(
    *,
    subject: str,
    sessions: list[int],
    files: ReleaseFiles,
    atlases: dict[str, Path],
    tables: dict[str, Path],
    rois: dict[str, list[str]],
    report: Path,
    ncsnr: Path | None = None,
    reorient: bool = False,
    storage: dict | None = None,
) -> None:
    """Check a subject's files; report everything that is wrong, or write what was found.

    Parameters
    ----------
    subject : str
        subj01 to subj08.
    sessions : list of int
        From 1.
    files : ReleaseFiles
    atlases, tables : dict of str to path
        Volume and label table of each atlas.
    rois : dict of str to list of str
        Parts (``atlas:label``) of each region.
    report : str or Path
        Output, a table with columns path, what and value.
    ncsnr : str or Path, optional
    reorient : bool
        Reorient atlases and ncsnr whose axes differ from the release's.
    storage : dict, optional
        How to read a bucket, as `nsdldm.nsd.remote.connect` takes it.

    Raises
    ------
    InputError
        With all findings: missing or damaged files; betas, atlases or ncsnr on different grids;
        labels missing from the tables; trials that contradict the betas or the design; images
        without picture or caption; surfaces whose vertices do not match.
    """
    rows, findings = [], []
    volume = _check_volumes(rows, findings, atlases, ncsnr, reorient)
    grid = volume[1] if volume else None
    _check_betas(rows, findings, files.betas, sessions, grid, storage)
    _check_labels(rows, findings, tables, rois)
    images = _check_trials(rows, findings, subject, sessions, *files[:3])
    _check_images(rows, findings, images, files.stimuli, files.captions, storage)
    for hemi in files.transforms:
        check_vertices(rows, findings, files.transforms[hemi], files.surfaces[hemi])
    if volume:
        _check_places(findings, files.transforms, *volume)
    if findings:
        raise InputError(*findings)
    save_table(report, pd.DataFrame(rows, columns=["path", "what", "value"]))
    logger.info("%s: %d files fit together", subject, len({path for path, _, _ in rows}))


def _catch(findings, function, *arguments, **named):
    """Call a function; if it finds something wrong, add that to `findings` and return None."""
    try:
        return function(*arguments, **named)
    except InputError as error:
        findings += error.findings
        return None


def _check_volumes(rows, findings, atlases, ncsnr, reorient):
    """Grid and labels of the first readable atlas, or None; the others must agree with it."""
    volumes = [_catch(findings, read_labels, path, reorient) for path in atlases.values()]
    volumes = list(filter(None, volumes))
    first = volumes[0] if volumes else None
    if ncsnr:
        volumes += filter(None, [_catch(findings, read_volume, ncsnr, reorient)])
    grids = [grid for _, grid in volumes]
    rows += [(grid.path, "shape", "x".join(map(str, grid.shape))) for grid in grids]
    findings += filter(None, (compare_grids(grid, grids[0]) for grid in grids))
    return first


def _check_betas(rows, findings, betas, sessions, grid, storage):
    """Open each session; without a grid, that of the first session is used."""
    if len(betas) != len(sessions):
        remedy = "Give the betas of each session"
        found = f"{len(betas)} files"
        findings.append(Finding("betas", f"{len(sessions)} sessions", found, remedy))
    if grid is not None and betas and str(betas[0]).endswith(".hdf5"):
        _catch(findings, check_axes, grid, betas[0])
    for path in betas:
        inspect = _inspect_hdf5 if str(path).endswith(".hdf5") else _inspect_nifti
        shape = _catch(findings, inspect, path, grid, storage)
        if shape is not None:
            rows.append((path, "shape", "x".join(map(str, shape))))


def _inspect_hdf5(path, grid, storage):
    """Shape (X, Y, Z, trials) of a session's HDF5 file; HDF5 itself refuses a truncated one."""
    with open_hdf5(path, storage) as dataset:
        shape = dataset.shape[::-1]
        check_betas(path, shape, dataset.dtype, grid.shape if grid else shape[:3])
        with reading(path, "betas"):
            dataset[:, -1, -1, -1]
    return shape


def _inspect_nifti(path, grid, storage):
    """Shape of a session's NIfTI file; the length recorded at the end of the gzip must be right."""
    with open_nifti(path, storage) as image:
        shape, dtype, start = image.shape, image.get_data_dtype(), image.dataobj.offset
        own = find_grid(path, image)
    check_betas(path, shape, dtype, grid.shape if grid else shape[:3])
    if grid and (finding := compare_grids(own, grid)):
        raise InputError(finding)
    needed = start + 2 * int(np.prod(shape, dtype=np.int64))
    with reading(path, "a whole file"), open_ranges(path, storage) as stream:
        held = _count_bytes(path, stream, needed)
    if held < needed:
        raise InputError(_cut_short(path, f"{needed} bytes in all", f"{held}"))
    return shape


def _count_bytes(path, stream, needed):
    """Decompressed size of a file; the required size if the file seems right."""
    if not str(path).endswith(".gz"):
        return stream.seek(0, 2)
    stream.seek(-4, 2)
    noted = int.from_bytes(stream.read(4), "little")
    # The recorded length is modulo 4 GiB and covers one member. Only a wrong one needs the slow
    # check, which would fetch a whole object: there, truncation is found when the session is
    # masked.
    if noted == needed % 2**32 or is_remote(path):
        return needed
    stream.seek(0)
    with gzip.open(stream) as unpacked:
        return unpacked.seek(needed)


def _cut_short(path, expected, found):
    return Finding(str(path), expected, found, "Replace it by an intact copy")


def _check_labels(rows, findings, tables, rois):
    """Each region's labels must be in their tables."""
    known = {atlas: _catch(findings, read_label_table, path) for atlas, path in tables.items()}
    rows += [(tables[atlas], "labels", len(labels)) for atlas, labels in known.items() if labels]
    for name, parts in rois.items():
        for atlas, label in _catch(findings, parse_roi, name, parts) or []:
            # An unreadable table has already been reported.
            if atlas not in tables or known[atlas] is not None:
                labels = known.get(atlas), name, tables.get(atlas)
                _catch(findings, find_labels, label, *labels)


def _check_trials(rows, findings, subject, sessions, responses, design, stim_info):
    """The images shown (coco_id by 0-based nsd_id), or None if the sources are unusable."""
    table = _catch(findings, read_responses, responses)
    plan = _catch(findings, read_design, design, subject)
    info = _catch(findings, read_stim_info, stim_info, subject)
    if table is None or plan is None or info is None:
        return None
    findings += compare_accounts(
        subject=subject,
        sessions=sessions,
        table=table,
        planned=plan[0],
        shared=plan[1],
        stim_info=info,
        responses=responses,
        design=design,
        info=stim_info,
    )
    rows.append((responses, "trials of the sessions", TRIALS_PER_SESSION * len(sessions)))
    rows.append((design, "planned trials", len(plan[0])))
    rows.append((stim_info, "images", len(info)))
    images = np.unique(table.loc[table["session"].isin(sessions), "nsd_id"])
    return info["coco_id"].reindex(images)


def _check_images(rows, findings, images, stimuli, captions, storage):
    """Each image shown must have a picture and a caption."""
    n_images = _catch(findings, _count_stimuli, stimuli, storage)
    if n_images is not None:
        rows.append((stimuli, "pictures", n_images))
    if images is None:
        return
    if n_images is not None:
        outside = images.index[(images.index < 0) | (images.index >= n_images)]
        if len(outside):
            findings.append(outside_stimuli(stimuli, outside, n_images))
    found = _catch(findings, read_captions, captions, images.dropna())
    if found is not None:
        rows += [(path, "images with captions, in all files", len(found)) for path in captions]


def _count_stimuli(path, storage):
    with open_stimuli(path, storage) as dataset:
        return len(dataset)


def check_vertices(
    rows: list[tuple],
    findings: list[Finding],
    transforms: Sequence[Path | str],
    surfaces: Mapping[str, Path | str],
) -> None:
    """Check that all files of a hemisphere have the same vertices; a patch has a subset of them.

    Parameters
    ----------
    rows : list of tuple
        Path, what and value; rows are added.
    findings : list of Finding
        Findings are added.
    transforms : sequence of path
        Of the cortical depths.
    surfaces : mapping of str to path
        By name; flat is a patch, and sulc, curv, thickness and area are values of the vertices.
    """
    counts = {}
    for path in transforms:
        counts[path] = _catch(findings, _count_transform, path)
    for name, path in surfaces.items():
        if name != "flat":
            counts[path] = _catch(findings, _count_surface, name, path)
    counts = {path: count for path, count in counts.items() if count is not None}
    rows += [(path, "vertices", count) for path, count in counts.items()]
    if not counts:
        return
    common = max(counts.values(), key=list(counts.values()).count)
    remedy = "Use transforms and surfaces of the same subject"
    for path, count in counts.items():
        if count != common:
            expected = f"{common} vertices like the other files of the hemisphere"
            findings.append(Finding(str(path), expected, str(count), remedy))
    patch = _catch(findings, read_patch, surfaces["flat"]) if "flat" in surfaces else None
    if patch is not None:
        rows.append((surfaces["flat"], "vertices", len(patch[0])))
        if patch[0].max() >= common:
            expected = f"a patch of a surface with {common} vertices"
            found = f"vertex {patch[0].max()}"
            findings.append(Finding(str(surfaces["flat"]), expected, found, remedy))


def _count_transform(path):
    """Vertices of a transform, from its header."""
    with reading(path, "an MGH file"):
        shape = tuple(map(int, nib.load(path).shape))
    if len(shape) != 4 or shape[1:] != (1, 1, 3):
        remedy = "Use the file of the release"
        raise InputError(Finding(str(path), "shape (n, 1, 1, 3)", f"{shape}", remedy))
    return shape[0]


def _check_places(findings, transforms, labels, grid):
    """Transforms have no header: check that vertices lie in the volume, on their side, in the
    ribbon."""
    sides, remedy = {}, "Use transforms and atlases of the same subject and space, as released"
    for hemi, paths in transforms.items():
        # Unreadable files and wrong shapes have already been reported.
        places = {path: _catch([], read_transform, path) for path in paths}
        places = {path: found for path, found in places.items() if found is not None}
        for path, coords in places.items():
            found = _miss(coords, labels, path == paths[len(paths) // 2])
            if found:
                expected = f"places in the volume of {grid.path} ({grid})"
                findings.append(Finding(str(path), expected, found, remedy))
        if places:
            sides[hemi] = np.nanmedian(np.concatenate(list(places.values()))[:, 0])
    rightward = 1 if grid.affine is None else np.sign(grid.affine[0, 0])
    if len(sides) == 2 and rightward * (sides["lh"] - sides["rh"]) > 1:
        expected = f"the left hemisphere left of the right one in {grid.path} ({grid})"
        found = "it right of the other"
        findings.append(Finding(str(transforms["lh"][0]), expected, found, remedy))


def _miss(coords, labels, middle):
    """How the vertices of a depth miss a volume, or None; in mid-cortex, also the ribbon."""
    coords = coords[np.isfinite(coords).all(axis=1)]
    inside = ((coords >= -0.5) & (coords <= np.array(labels.shape) - 0.5)).all(axis=1)
    if len(coords) and inside.mean() < IN_VOLUME:
        return f"{inside.mean():.0%} of the vertices there"
    voxels = tuple(np.rint(np.clip(coords[inside], 0, np.array(labels.shape) - 1)).astype(int).T)
    ribbon = labels >= 0
    if middle and len(coords) and not ribbon.all() and ribbon[voxels].mean() < IN_RIBBON:
        return f"{ribbon[voxels].mean():.0%} of the vertices in its cortical ribbon"
    return None


def _count_surface(name, path):
    """Vertices of a surface or of its values, read completely to find a truncated file."""
    return len(read_morph(path)) if name in MORPHS else len(read_surface(path)[0])
