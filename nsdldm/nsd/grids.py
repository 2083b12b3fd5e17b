"""Check that volumes are on the same grid, and reorient volumes whose axes differ.

This is the only module that compares grids: by shape and, if headers give them, by the directions
of the axes, voxel sizes and origin. Equal shapes alone prove nothing: a volume stored from right to
left has the same shape as one stored from left to right.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import load_image

logger = logging.getLogger(__name__)

# Tolerance of directions and voxel sizes, as a fraction of a voxel: far more than float32 rounding,
# and a tenth of a voxel across a brain.
MOST_SKEW = 1e-3
# Tolerance of origins, as a fraction of a voxel.
MOST_SHIFT = 0.5
# Axes of the release's volumes and of its HDF5 betas, which have no header.
AXES = ("R", "A", "S")
RESAMPLE = (
    "Resample it onto that grid, labels to the nearest voxel, as by "
    "nibabel.processing.resample_from_to(volume, reference, order=0)"
)


@dataclass(frozen=True, eq=False)
class Grid:
    """The position of a volume's voxels in space.

    Parameters
    ----------
    path : str
        The volume, to name it.
    shape : tuple of int
        (X, Y, Z).
    affine : array of shape (4, 4), optional
        From voxel indices (from 0) to millimetres; None if the header does not give it.
    zooms : tuple of float
        Sides of a voxel in millimetres.
    """

    path: str
    shape: tuple
    affine: np.ndarray | None = None
    zooms: tuple = (1.0, 1.0, 1.0)

    def __str__(self):
        if self.affine is None:
            return f"{self.shape} voxels"
        rows = "; ".join(" ".join(f"{number:.6g}" for number in row) for row in self.affine[:3])
        return (
            f"{self.shape} voxels, axes {'-'.join(nib.aff2axcodes(self.affine))}, affine [{rows}]"
        )


def find_grid(path: Path | str, image: nib.Nifti1Image | nib.Nifti2Image) -> Grid:
    """Find the position of an image's voxels.

    Parameters
    ----------
    path : str or Path
        To name it.
    image : nibabel.Nifti1Image or Nifti2Image

    Returns
    -------
    Grid
        Without affine, and with a line in the log, if the header's sform and qform codes are 0.

    Raises
    ------
    InputError
        The affine places no voxels in space.
    """
    shape = tuple(map(int, image.shape[:3]))
    if not (image.header["sform_code"] or image.header["qform_code"]):
        logger.info("%s: sform and qform code 0, so only its shape can be compared", path)
        return Grid(str(path), shape, None, image.header.get_zooms()[:3])
    if not np.isfinite(image.affine).all() or abs(np.linalg.det(image.affine)) < 1e-6:
        expected, found = "an affine that places voxels in space", "one that does not"
        raise InputError(Finding(str(path), expected, found, "Use the file of the release"))
    return Grid(str(path), shape, image.affine, image.header.get_zooms()[:3])


def compare_grids(grid: Grid, reference: Grid) -> Finding | None:
    """Compare a volume's grid with that of another.

    Parameters
    ----------
    grid, reference : Grid

    Returns
    -------
    Finding or None
        None if they agree, as far as both headers tell.
    """
    misfit, shift = _find_misfit(grid, reference)
    if misfit is None:
        return None
    remedy = "Use files of the same subject and space (func1pt8mm or func1mm)"
    if misfit == "axes":
        remedy = RESAMPLE
        if _find_misfit(turn_grid(grid), turn_grid(reference))[0] is None:
            remedy += ", or set `reorient` to true, which turns axes that run the other way"
    elif misfit == "origin":
        remedy = f"{RESAMPLE}, or correct the origin in its header, {shift} voxels away"
    expected = f"the grid of {reference.path} ({reference})"
    return Finding(grid.path, expected, str(grid), remedy)


def _find_misfit(grid, reference):
    """Which of axes, shape or origin differs, or None, and the distance between origins."""
    shape = None if grid.shape == reference.shape else "shape"
    if grid.affine is None or reference.affine is None:
        return shape, None
    between = np.linalg.inv(reference.affine) @ grid.affine
    shift = ", ".join(f"{number:.3g}" for number in between[:3, 3])
    if np.abs(between[:3, :3] - np.eye(3)).max() > MOST_SKEW:
        return "axes", shift
    far = np.abs(between[:3, 3]).max() > MOST_SHIFT
    return shape or ("origin" if far else None), shift


def turn_grid(grid: Grid) -> Grid:
    """Reorient a grid so that its axes run R, A, S; without affine, return it unchanged.

    See `turn` for the data.
    """
    if grid.affine is None:
        return grid
    turns = nib.io_orientation(grid.affine)
    shape = tuple(grid.shape[axis] for axis in np.argsort(turns[:, 0]))
    affine = grid.affine @ nib.orientations.inv_ornt_aff(turns, grid.shape)
    return Grid(grid.path, shape, affine, nib.affines.voxel_sizes(affine))


def turn(data: np.ndarray, grid: Grid) -> tuple[np.ndarray, Grid]:
    """Reorient a volume so that its axes run R, A, S, without any resampling.

    Parameters
    ----------
    data : array of shape (X, Y, Z), of any type
    grid : Grid

    Returns
    -------
    data : array of the same type
    grid : Grid
    """
    if grid.affine is None:
        return data, grid
    turns = nib.io_orientation(grid.affine)
    if not np.array_equal(turns, [[0, 1], [1, 1], [2, 1]]):
        logger.info("%s: turned from axes %s", grid.path, "-".join(nib.aff2axcodes(grid.affine)))
    return nib.apply_orientation(data, turns), turn_grid(grid)


def check_axes(grid: Grid, betas: Path | str) -> None:
    """Refuse a volume whose axes differ from those of HDF5 betas, which have no header.

    Parameters
    ----------
    grid : Grid
    betas : str or Path
        A file of betas, to name it.

    Raises
    ------
    InputError
    """
    if grid.affine is not None and nib.aff2axcodes(grid.affine) != AXES:
        expected = f"axes to the right, front and top (R-A-S) like those of {betas}"
        remedy = "Set `reorient` to true, which turns axes, or store it so"
        raise InputError(Finding(grid.path, expected, str(grid), remedy))


def load_masks(paths: dict[str, Path | str]) -> tuple[dict[str, np.ndarray], Grid]:
    """Read masks written by `nsdldm.support.files.save_volume`, which must be on the same grid.

    Parameters
    ----------
    paths : dict of path

    Returns
    -------
    masks : dict of bool array of shape (X, Y, Z)
    grid : Grid
        Of the first.

    Raises
    ------
    InputError
        A file is missing, damaged, or on a different grid from the first.
    """
    images = {name: load_image(path) for name, path in paths.items()}
    grids = [find_grid(paths[name], image) for name, image in images.items()]
    findings = [compare_grids(grid, grids[0]) for grid in grids]
    if any(findings):
        raise InputError(*filter(None, findings))
    return {name: np.asanyarray(image.dataobj) > 0 for name, image in images.items()}, grids[0]
