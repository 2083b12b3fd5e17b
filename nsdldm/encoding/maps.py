"""What all scoring of encoders shares: scores of voxels, warnings, and maps with their tables."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from nsdldm import stats
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import load_volume, save_table, save_volume

logger = logging.getLogger(__name__)

# Warn if this fraction of significant voxels chooses the smallest or largest penalty.
EDGE_SHARE = 0.05


def score(observed: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
    """Compute r and R² of each column.

    Parameters
    ----------
    observed, predicted : float arrays of shape (n, n_voxels)

    Returns
    -------
    dict of float64 array of shape (n_voxels,)
        ``r`` and ``r2``.
    """
    return {"r": stats.correlate(observed, predicted), "r2": stats.r2(observed, predicted)}


def warn_edges(name: str, chosen: pd.Series, penalties: list[float]) -> None:
    """Warn if many voxels chose the smallest or largest of the penalties tried.

    Parameters
    ----------
    name : str
        The fit, for the message.
    chosen : Series of shape (n_significant,)
        The penalty of each significant voxel.
    penalties : list of float
        Penalties tried.
    """
    for edge, where in ((min(penalties), "smallest"), (max(penalties), "largest")):
        share = (chosen == edge).mean() if len(chosen) else 0
        if share > EDGE_SHARE:
            message = "%s: %.0f %% of significant voxels chose the %s alpha, %g; widen the range"
            logger.warning(message, name, 100 * share, where, edge)


def write_maps(
    table: pd.DataFrame,
    mask: Path | str,
    map_path: Path | str,
    table_path: Path | str,
    every: int = 1,
) -> None:
    """Write a table of voxels, and its columns as volumes of a 4-D map.

    Parameters
    ----------
    table : DataFrame
        One row per voxel in C-order of the mask, or one for every n-th voxel.
    mask : path
    map_path, table_path : path
        Outputs: float32 NIfTI, NaN outside the mask; table with i, j and k before the columns of
        `table`.
    every : int
        Rows are every n-th voxel.

    Raises
    ------
    InputError
        The mask has a different number of voxels.
    """
    data, affine = load_volume(mask)
    places = np.argwhere(data > 0)[::every]
    if len(places) != len(table):
        expected = f"a mask of {len(table)} voxels, as were fitted"
        raise InputError(Finding(str(mask), expected, f"{len(places)}", "Make the mask again"))
    volumes = np.full((*data.shape, table.shape[1]), np.nan, np.float32)
    volumes[tuple(places.T)] = table.to_numpy(np.float32)
    save_volume(map_path, volumes, affine)
    voxels = pd.DataFrame(places, columns=["i", "j", "k"])
    save_table(table_path, voxels.join(table))
