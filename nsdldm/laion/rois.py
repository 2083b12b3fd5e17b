"""Regions of LAION-fMRI as masks on the functional grid."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nsdldm.laion.layout import ANATOMY, EVERY
from nsdldm.laion.trials import mark_seen, read_metadata
from nsdldm.nsd.grids import compare_grids
from nsdldm.nsd.rois import read_volume
from nsdldm.nsd.surfaces import read_transform
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import save_volume

logger = logging.getLogger(__name__)


def mark_ribbon(transforms: Sequence[Path | str], shape: tuple[int, int, int]) -> np.ndarray:
    """Mark the voxels that the cortex passes through.

    Parameters
    ----------
    transforms : sequence of path
        Coordinates of the vertices at each depth; see `nsdldm.nsd.surfaces.read_transform`.
    shape : tuple of three int

    Returns
    -------
    bool array of shape (X, Y, Z)
        The voxel nearest to a vertex at any of the depths.
    """
    ribbon = np.zeros(shape, bool)
    for path in transforms:
        places = read_transform(path)
        places = np.floor(places[np.isfinite(places).all(axis=1)] + 0.5).astype(int)
        inside = ((places >= 0) & (places < shape)).all(axis=1)
        ribbon[tuple(places[inside].T)] = True
    return ribbon


def read_ncsnr(ceiling: Path | str, metadata: Path | str, subject: str) -> np.ndarray:
    """Read the noise-ceiling signal-to-noise ratio from a noise ceiling.

    The ceiling is 100 ncsnr^2 / (ncsnr^2 + m) percent, with m the mean over images of one by the
    number of trials, over all sessions whichever are used.

    Parameters
    ----------
    ceiling : str or Path
        ``..._desc-NoiseceilingAllrep_statmap.nii.gz``.
    metadata : str or Path
        Says how often images are shown; see `nsdldm.laion.trials.read_metadata`.
    subject : str
        Such as sub-01.

    Returns
    -------
    float64 array of shape (X, Y, Z)
        0 where there is no ceiling.

    Raises
    ------
    InputError
        The file cannot be used, or is not in percent.
    """
    percent, _ = read_volume(ceiling)
    highest = np.nanmax(percent, initial=0)
    if not 1 < highest <= 100:
        expected, remedy = "a noise ceiling in percent, up to 100", "Use the release's file"
        raise InputError(Finding(str(ceiling), expected, f"{highest:.3g} at most", remedy))
    share = np.clip(np.nan_to_num(percent.astype(np.float64)) / 100, 0, 0.999)
    known = read_metadata(metadata)
    m = (1 / known["repeats"][mark_seen(known, subject)]).mean()
    return np.sqrt(m * share / (1 - share))


def make_masks(
    *,
    rois: dict[str, list[str]],
    volumes: dict[str, Path | str],
    transforms: Sequence[Path | str],
    reference: Path | str,
    outputs: dict[str, Path | str],
    metadata: Path | str | None = None,
    subject: str | None = None,
    min_ncsnr: float | None = None,
) -> None:
    """Write the mask of each region.

    Parameters
    ----------
    rois : dict of str to list of str
        Parts of each region: ``category:label``, ``category:all`` or ``anatomy:ribbon``.
    volumes : dict of str to path
        The mask of each ``category:label``, above 0 inside.
    transforms : sequence of path
        For the ribbon; see `mark_ribbon`.
    reference : str or Path
        A noise ceiling on the grid of the betas, which the masks must match.
    outputs : dict of str to path
        uint8 NIfTI of each region.
    metadata : str or Path, optional
    subject : str, optional
        Both needed for `min_ncsnr`.
    min_ncsnr : float, optional
        Voxels below this are left out of every region; see `read_ncsnr`.

    Raises
    ------
    InputError
        A file cannot be used or is on another grid, or a region has no voxels.
    """
    _, grid = read_volume(reference)
    kept = True
    if min_ncsnr is not None:
        kept = read_ncsnr(reference, metadata, subject) >= min_ncsnr
    marked = {}
    for part, path in volumes.items():
        data, own = read_volume(path)
        if misfit := compare_grids(own, grid):
            raise InputError(misfit)
        marked[part] = data > 0
    for name, parts in rois.items():
        masks = []
        for part in parts:
            category, label = part.split(":")
            if category == ANATOMY:
                masks.append(mark_ribbon(transforms, grid.shape))
            else:
                prefix = f"{category}:" if label == EVERY else part
                masks += [mask for key, mask in marked.items() if key.startswith(prefix)]
        mask = np.logical_or.reduce(masks) & kept
        if not mask.any():
            expected, remedy = f"voxels of {' or '.join(parts)}", "Define it by other labels"
            if min_ncsnr is not None:
                remedy += ", or lower `min_ncsnr`"
            raise InputError(Finding(f"`rois`.{name}", expected, "none", remedy))
        logger.info("%s: %d voxels", name, mask.sum())
        save_volume(outputs[name], mask, grid.affine, grid.zooms)
