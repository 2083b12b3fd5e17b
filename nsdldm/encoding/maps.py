"""What judges of encoders share: scores of voxels, warnings, and maps with their tables."""

import logging

import numpy as np
import pandas as pd

from nsdldm import stats
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import load_volume, save_table, save_volume

logger = logging.getLogger(__name__)

# Share of significant voxels at an end of the penalties that calls for a wider range.
EDGE_SHARE = 0.05


def score(observed, predicted):
    """r and R² of each column.

    Parameters
    ----------
    observed, predicted : arrays of shape (n, n_voxels)

    Returns
    -------
    dict of float64 array of shape (n_voxels,)
        ``r`` and ``r2``.
    """
    return {"r": stats.correlate(observed, predicted), "r2": stats.r2(observed, predicted)}


def warn_edges(name, chosen, penalties):
    """Warn where many of the penalties chosen are the smallest or largest of those tried.

    Parameters
    ----------
    name : str
        What was fitted.
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


def write_maps(table, mask, map_path, table_path, every=1):
    """Write a table of voxels, and its columns as volumes of a 4-D map.

    Parameters
    ----------
    table : DataFrame
        One row per voxel, in the C-order of the mask, or per every so many voxels.
    mask : path
    map_path, table_path : path
        float32 NIfTI, NaN off the mask; table with i, j, k before the columns of `table`.

    Raises
    ------
    InputError
        The mask has another number of voxels.
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
