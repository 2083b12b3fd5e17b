"""Regions of interest as masks on the functional grid."""

import logging
import math

import nibabel as nib
import numpy as np

from nsdldm.errors import Finding, InputError, reading
from nsdldm.files import load_volume, save_volume
from nsdldm.nsd.labels import find_label, parse_roi, read_label_table

logger = logging.getLogger(__name__)

# A brain in voxels of half a millimetre. More is not allocated on a header's word.
MOST_VOXELS = 2**26


def read_volume(path):
    """Read a small three-dimensional volume of the release.

    Parameters
    ----------
    path : str or Path
        Such as ``streams.nii.gz`` or ``ncsnr.nii.gz``.

    Returns
    -------
    data : array of shape (X, Y, Z)
        As stored. In atlases -1 is off the cortical ribbon, 0 unlabelled cortex, 1 and above a
        label; the atlases drawn in the volume have no -1.
    affine : array of shape (4, 4)

    Raises
    ------
    InputError
        The file is missing, damaged, not three-dimensional, or not of real numbers.
    """
    remedy = "Use the file of the release"
    with reading(path, "a NIfTI volume", small=True):
        image = nib.load(path)
        shape, dtype = tuple(map(int, image.shape)), image.get_data_dtype()
    # Python's integers do not overflow.
    if len(shape) != 3 or not 0 < math.prod(shape) <= MOST_VOXELS or dtype.kind not in "iuf":
        expected = f"three dimensions of numbers, at most {MOST_VOXELS:,}"
        raise InputError(Finding(str(path), expected, f"{dtype} of shape {shape}", remedy))
    with reading(path, "a NIfTI volume", small=True):
        data, affine = load_volume(path, remedy="Replace it by an intact copy")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-6:
        expected, found = "an affine that places voxels in space", "one that does not"
        raise InputError(Finding(str(path), expected, found, remedy))
    return data, affine


def different_grid(path, shape, reference, grid):
    """Describe a volume that is not on the grid of another.

    Parameters
    ----------
    path, reference : str or Path
        The volume and the other.
    shape, grid : tuple of int
        Their shapes (X, Y, Z).

    Returns
    -------
    Finding
    """
    remedy = "Use files of the same subject and space (func1pt8mm or func1mm)"
    expected = f"the grid {tuple(grid)} of {reference}"
    return Finding(str(path), expected, f"{tuple(shape)}", remedy)


def make_masks(*, atlases, tables, rois, outputs, ncsnr=None, min_ncsnr=None):
    """Write the mask of each region.

    A region is the union of its parts: where the atlas equals the label, or is 0 or more for
    ``ribbon``.

    Parameters
    ----------
    atlases, tables : dict of str to path
        Volume and label table of each atlas.
    rois : dict of str to list of str
        Parts (``atlas:label``) of each region.
    outputs : dict of str to path
        The mask of each region, a uint8 NIfTI of shape (X, Y, Z).
    ncsnr : str or Path, optional
        The volume of noise-ceiling signal-to-noise ratios; needed for `min_ncsnr`.
    min_ncsnr : float, optional
        Voxels below this, or without a value, are left out of every region.

    Raises
    ------
    InputError
        Volumes on different grids, a label that its table lacks, a region without voxels.
    """
    volumes = {atlas: read_volume(path) for atlas, path in atlases.items()}
    first = next(iter(atlases))
    shape, affine = volumes[first][0].shape, volumes[first][1]
    paths = dict(atlases)
    if min_ncsnr is not None:
        volumes[None], paths[None] = read_volume(ncsnr), ncsnr
    findings = [
        different_grid(paths[key], data.shape, atlases[first], shape)
        for key, (data, _) in volumes.items()
        if data.shape != shape
    ]
    if findings:
        raise InputError(*findings)
    labels = {atlas: read_label_table(path) for atlas, path in tables.items()}
    for name, output in outputs.items():
        mask = _combine(name, rois[name], volumes, labels, atlases, tables)
        if min_ncsnr is not None:
            mask = _drop_noisy(name, mask, volumes[None][0], ncsnr, min_ncsnr)
        logger.info("%s: %d voxels", name, mask.sum())
        save_volume(output, mask, affine)


def _combine(name, parts, volumes, labels, atlases, tables):
    """Union of a region's parts, bool of shape (X, Y, Z)."""
    masks = []
    for atlas, label in parse_roi(name, parts):
        number = find_label(label, labels[atlas], name, tables[atlas])
        data = volumes[atlas][0]
        if number is None:
            if not (data < 0).any():
                remedy = "Take the ribbon from an atlas of the surface, such as streams"
                expected = "a cortical ribbon, with -1 off it"
                raise InputError(Finding(str(atlases[atlas]), expected, "no -1", remedy))
            masks.append(data >= 0)
        else:
            masks.append(data == number)
        if not masks[-1].any():
            logger.warning("%s: no voxel of %s:%s in this subject", name, atlas, label)
    mask = np.logical_or.reduce(masks)
    if not mask.any():
        where = ", ".join(sorted({str(atlases[atlas]) for atlas, _ in parse_roi(name, parts)}))
        expected = f"voxels of {' or '.join(parts)}"
        remedy = f"Define rois.{name} by labels that this subject has"
        raise InputError(Finding(where, expected, "none", remedy))
    return mask


def _drop_noisy(name, mask, ncsnr, path, min_ncsnr):
    """Leave voxels below a noise-ceiling signal-to-noise ratio, or without one, out of a mask."""
    kept = mask & (ncsnr >= min_ncsnr)
    if not kept.any():
        best = np.nanmax(ncsnr[mask], initial=0)
        expected = f"voxels of {name} with ncsnr of at least {min_ncsnr:g}"
        remedy = "Lower min_ncsnr"
        raise InputError(Finding(str(path), expected, f"{best:.3g} at most", remedy))
    return kept
