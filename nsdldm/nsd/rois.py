"""Regions of interest as masks on the functional grid."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np

from nsdldm.nsd.grids import compare_grids, find_grid, turn
from nsdldm.nsd.labels import ALL, RIBBON, find_labels, parse_roi, read_label_table
from nsdldm.nsd.whole import round_whole
from nsdldm.support.errors import INTACT, Finding, InputError, reading
from nsdldm.support.files import load_image, save_volume

if TYPE_CHECKING:
    from nsdldm.nsd.grids import Grid

logger = logging.getLogger(__name__)

# A brain in voxels of half a millimetre. No more is allocated just because a header claims it.
MOST_VOXELS = 2**26
NEAREST = "Resample labels to the nearest voxel, and store them as integers"


def read_volume(path: Path | str, reorient: bool = False) -> tuple[np.ndarray, Grid]:
    """Read a small three-dimensional volume of the release.

    Parameters
    ----------
    path : str or Path
        Such as ``ncsnr.nii.gz``.
    reorient : bool
        Reorient its axes to those of the release: R, A, S.

    Returns
    -------
    data : array of shape (X, Y, Z)
        Of the type stored.
    grid : nsdldm.nsd.grids.Grid

    Raises
    ------
    InputError
        The file is missing, damaged, not three-dimensional, or does not hold real numbers.
    """
    with reading(path, "a NIfTI volume", small=True):
        image = nib.load(path)
        shape, dtype = tuple(map(int, image.shape)), image.get_data_dtype()
    # Python's integers do not overflow.
    if len(shape) != 3 or not 0 < math.prod(shape) <= MOST_VOXELS or dtype.kind not in "iuf":
        expected = f"three dimensions of numbers, at most {MOST_VOXELS:,}"
        remedy = "Use the file of the release"
        raise InputError(Finding(str(path), expected, f"{dtype} of shape {shape}", remedy))
    with reading(path, "a NIfTI volume", small=True):
        image = load_image(path, INTACT)
    data, grid = np.asanyarray(image.dataobj), find_grid(path, image)
    return turn(data, grid) if reorient else (data, grid)


def read_labels(path: Path | str, reorient: bool = False) -> tuple[np.ndarray, Grid]:
    """Read an atlas.

    Parameters
    ----------
    path, reorient
        As `read_volume`; such as ``streams.nii.gz``.

    Returns
    -------
    labels : int32 array of shape (X, Y, Z)
        -1 is outside the cortical ribbon, 0 is unlabelled cortex, 1 and above are labels; atlases
        drawn in the volume have no -1. Values within 1e-3 of a whole number are rounded to it.
    grid : nsdldm.nsd.grids.Grid

    Raises
    ------
    InputError
        As `read_volume`, or labels are not whole numbers.
    """
    data, grid = read_volume(path, reorient)
    with reading(path, "labels that are whole numbers", NEAREST):
        return round_whole(data, "the label"), grid


def make_masks(
    *,
    atlases: dict[str, Path | str],
    tables: dict[str, Path | str],
    rois: dict[str, list[str]],
    outputs: dict[str, Path | str],
    reference: Path | str | None = None,
    ncsnr: Path | str | None = None,
    min_ncsnr: float | None = None,
    reorient: bool = False,
) -> None:
    """Write the mask of each region.

    A region is the union of its parts: voxels where the atlas equals the label, is at least 0 for
    ``ribbon``, or is above 0 for ``all``.

    Parameters
    ----------
    atlases : dict of str to path
        Volume of each atlas.
    tables : dict of str to path
        Label table of each atlas that has one; labels given by number need none.
    rois : dict of str to list of str
        Parts (``atlas:label``) of each region.
    outputs : dict of str to path
        The mask of each region, a uint8 NIfTI of shape (X, Y, Z) on the grid of `reference`.
    reference : path, optional
        The volume whose grid the others must match; by default the first atlas.
    ncsnr : str or Path, optional
        The volume of noise-ceiling signal-to-noise ratios; needed for `min_ncsnr`.
    min_ncsnr : float, optional
        Voxels below this, or without a value, are left out of every region.
    reorient : bool
        Reorient volumes whose axes differ from the release's.

    Raises
    ------
    InputError
        Volumes are on different grids, labels are not whole numbers or missing from their table, or
        a region has no voxels.
    """
    volumes = {atlas: read_labels(path, reorient) for atlas, path in atlases.items()}
    grids = [grid for _, grid in volumes.values()]
    if reference is not None:
        grids.insert(0, read_volume(reference, reorient)[1])
    if min_ncsnr is not None:
        noise, grid = read_volume(ncsnr, reorient)
        grids.append(grid)
    # A header without orientation cannot be the reference for one that has it.
    known = next((grid for grid in grids if grid.affine is not None), grids[0])
    findings = [compare_grids(grid, known) for grid in grids]
    if any(findings):
        raise InputError(*filter(None, findings))
    labels = {atlas: read_label_table(path) for atlas, path in tables.items()}
    for name, output in outputs.items():
        mask = _combine(name, rois[name], volumes, labels, atlases, tables)
        if min_ncsnr is not None:
            mask = _drop_noisy(name, mask, noise, ncsnr, min_ncsnr)
        logger.info("%s: %d voxels", name, mask.sum())
        save_volume(output, mask, known.affine, known.zooms)


def _combine(name, parts, volumes, labels, atlases, tables):
    """Union of a region's parts, bool of shape (X, Y, Z)."""
    masks = []
    for atlas, label in parse_roi(name, parts):
        numbers = find_labels(label, labels.get(atlas), name, tables.get(atlas))
        data = volumes[atlas][0]
        if label == RIBBON:
            if not (data < 0).any():
                remedy = "Take the ribbon from an atlas of the surface, such as streams"
                expected = "a cortical ribbon, with -1 off it"
                raise InputError(Finding(str(atlases[atlas]), expected, "no -1", remedy))
            masks.append(data >= 0)
        else:
            masks.append(data > 0 if label == ALL else np.isin(data, numbers))
        if not masks[-1].any():
            logger.warning("%s: no voxel of %s:%s in this subject", name, atlas, label)
    mask = np.logical_or.reduce(masks)
    if not mask.any():
        where = ", ".join(sorted({str(atlases[atlas]) for atlas, _ in parse_roi(name, parts)}))
        expected = f"voxels of {' or '.join(parts)}"
        remedy = f"Define `rois`.{name} by labels that this subject has"
        raise InputError(Finding(where, expected, "none", remedy))
    return mask


def _drop_noisy(name, mask, ncsnr, path, min_ncsnr):
    """Remove voxels below a noise-ceiling signal-to-noise ratio, or without one, from a mask."""
    kept = mask & (ncsnr >= min_ncsnr)
    if not kept.any():
        best = np.nanmax(ncsnr[mask], initial=0)
        expected = f"voxels of {name} with ncsnr of at least {min_ncsnr:g}"
        remedy = "Lower `min_ncsnr`"
        raise InputError(Finding(str(path), expected, f"{best:.3g} at most", remedy))
    return kept
