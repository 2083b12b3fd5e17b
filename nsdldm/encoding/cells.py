"""Contributions of every test image to a score, summed over parts of the cortex, for intervals.

The interval of a score depends on how much it varies with images and with voxels. There are too
many voxels to keep, so scoring keeps sums over small parts: the voxels of a cube that lie in the
same regions.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from nibabel.affines import voxel_sizes
from scipy.sparse import csr_array

from nsdldm.support.errors import REMAKE, reading
from nsdldm.support.files import load_mask, load_volume, replacing

# Neighbouring voxels share noise, so the bootstrap draws cubes of about this edge, not voxels.
CUBE_MM = 10.0


class Cells(NamedTuple):
    """Parts of a subject's cortex, the same for all fits.

    Parameters
    ----------
    number : int array of shape (n_voxels,)
        The cell of each voxel, in C-order of the mask.
    cubes : int array of shape (n_cells, 3)
        The cube that each cell lies in.
    inside : bool array of shape (n_cells, n_regions)
    regions : tuple of str
    """

    number: np.ndarray
    cubes: np.ndarray
    inside: np.ndarray
    regions: tuple


class CellSums(NamedTuple):
    """What `Collector` wrote.

    Parameters
    ----------
    sums : dict of float32 array of shape (n_images, n_cells)
        Contributions to each score, summed over the voxels of each cell.
    counts : dict of int array of shape (n_cells,)
        Number of these voxels.
    nsd_ids : int array of shape (n_images,)
        Test images.
    cubes, inside, regions
        As those of `Cells`.
    """

    sums: dict
    counts: dict
    nsd_ids: np.ndarray
    cubes: np.ndarray
    inside: np.ndarray
    regions: tuple


def find_cells(mask: Path | str, regions: dict[str, Path | str], every: int = 1) -> Cells:
    """Divide a cortex into cells.

    Parameters
    ----------
    mask : path
    regions : dict of path
        Masks on the same grid.
    every : int
        Controls are fitted in every n-th voxel only, and these voxels lie in cells of their own.

    Returns
    -------
    Cells
    """
    data, affine = load_volume(mask)
    voxels = np.argwhere(data > 0)
    edge = np.maximum(1, np.rint(CUBE_MM / voxel_sizes(affine))).astype(int)
    member = [load_mask(path)[tuple(voxels.T)] for path in regions.values()]
    chosen = np.arange(len(voxels)) % every == 0
    kinds, number = np.unique(
        np.column_stack([voxels // edge, chosen, *member]), axis=0, return_inverse=True
    )
    return Cells(number.reshape(-1), kinds[:, :3], kinds[:, 4:] > 0, tuple(regions))


class Collector:
    """Adds up contributions to scores, one block of voxels at a time.

    Parameters
    ----------
    cells : Cells
    nsd_ids : int array of shape (n_images,)
        Test images, in the order of contributions.
    min_ncsnr : float
        Minimum ncsnr of the voxels counted; 0 counts all.
    """

    def __init__(self, cells, nsd_ids, min_ncsnr):
        self.cells, self.nsd_ids, self.min_ncsnr = cells, np.asarray(nsd_ids), min_ncsnr
        self.sums, self.counts = {}, {}

    def add(
        self, name: str, voxels: slice | np.ndarray, contributions: np.ndarray, ncsnr: np.ndarray
    ) -> None:
        """Add the voxels of a block.

        Parameters
        ----------
        name : str
            Of the score.
        voxels : slice or int array of shape (n_block,)
            Their positions in the order of the mask.
        contributions : float array of shape (n_images, n_block)
            Not finite where a voxel has no score.
        ncsnr : float array of shape (n_block,)
        """
        n_cells = len(self.cells.cubes)
        counted = np.isfinite(contributions).all(axis=0)
        counted &= (ncsnr >= self.min_ncsnr) | (self.min_ncsnr == 0)
        where = self.cells.number[voxels][counted]
        member = csr_array(
            (np.ones(len(where), np.float32), (np.arange(len(where)), where)),
            shape=(len(where), n_cells),
        )
        shape = len(self.nsd_ids), n_cells
        self.sums.setdefault(name, np.zeros(shape, np.float32))
        self.sums[name] += (member.T @ contributions[:, counted].T).T
        self.counts.setdefault(name, np.zeros(n_cells, np.int32))
        self.counts[name] += np.bincount(where, minlength=n_cells).astype(np.int32)

    def save(self, path: Path | str) -> None:
        """Write what was collected; `load_sums` reads it."""
        arrays = {
            "names": np.array(list(self.sums)),
            "sums": np.stack(list(self.sums.values())),
            "counts": np.stack(list(self.counts.values())),
            "nsd_ids": self.nsd_ids,
            "regions": np.array(self.cells.regions),
        }
        with replacing(path) as part, part.open("wb") as file:
            np.savez_compressed(file, **arrays, cubes=self.cells.cubes, inside=self.cells.inside)


def load_sums(path: Path | str) -> CellSums:
    """Read what a `Collector` wrote.

    Parameters
    ----------
    path : path

    Returns
    -------
    CellSums

    Raises
    ------
    InputError
        The file is missing, damaged or of another kind.
    """
    with reading(path, "sums of test images by cells of the cortex", REMAKE):
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
        names = found["names"].tolist()
        return CellSums(
            dict(zip(names, found["sums"], strict=True)),
            dict(zip(names, found["counts"], strict=True)),
            *(found[name] for name in ("nsd_ids", "cubes", "inside")),
            tuple(found["regions"].tolist()),
        )
