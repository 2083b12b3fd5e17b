"""Score encoders of feature spaces by their predictions of the test images."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from nsdldm import stats
from nsdldm.encoding.cells import Collector, find_cells
from nsdldm.encoding.maps import score, warn_edges, write_maps
from nsdldm.encoding.predictions import Predictions
from nsdldm.encoding.summary import MAPS

logger = logging.getLogger(__name__)


def score_encoders(
    *,
    predictions: Path | str,
    responses: Path | str,
    mask: Path | str,
    regions: dict[str, Path | str],
    maps: dict[str, Path | str],
    tables: dict[str, Path | str],
    sums: Path | str,
    fdr: float,
    min_ncsnr: float = 0,
    every: int = 1,
) -> None:
    """Score how well feature spaces predict the test images in every voxel of a subject.

    Predictions are compared with responses averaged over test trials. r is tested one-sided against
    the correlation of independent Gaussian vectors of the same length, with FDR control over
    voxels.

    Parameters
    ----------
    predictions : path
        As `nsdldm.encoding.fits.fit_encoders` writes them.
    responses : path
        As `nsdldm.responses.prepare_responses` writes them.
    mask : path
        NIfTI mask of the voxels; their C-order is that of the responses.
    regions : dict of path
        Masks of the regions for `sums`.
    maps, tables : dict of path
        Output for each space: a float32 NIfTI whose volumes are `nsdldm.encoding.summary.MAPS`, NaN
        off the mask, and a table with a row per voxel in C-order of the mask (i, j, k and these).
    sums : path
        Output: each test image's contribution to r, called ``r:{space}``, as
        `nsdldm.encoding.cells.load_sums` reads it.
    fdr : float
        False discovery rate.
    min_ncsnr : float
        Minimum ncsnr of the voxels in `sums`; 0 takes all.
    every : int
        Controls are fitted in every n-th voxel only, and these voxels have sums of their own.

    Raises
    ------
    InputError
        Inputs contradict each other.
    """
    fitted = Predictions(predictions)
    known = fitted.open_responses(responses)
    shares = Collector(find_cells(mask, regions, every), known.test_ids, min_ncsnr)
    for space in tables:
        voxels = _score(space, fitted, known, shares, fdr)
        write_maps(voxels, mask, maps[space], tables[space], fitted.every)
    shares.save(sums)


def _score(space, fitted, known, shares, fdr):
    """The table of one space, whose contributions to r are added to the shares."""
    parts = []
    for block, columns in fitted.blocks():
        observed, model = known.read_test(columns), fitted.read(space, block)
        parts.append(pd.DataFrame(score(observed, model.predictions) | {"alpha": model.alphas}))
        added = stats.share_r(observed, model.predictions)
        shares.add(f"r:{space}", columns, added, known.ncsnr[columns])
    voxels = pd.concat(parts, ignore_index=True)
    voxels.loc[voxels["r"].isna(), "alpha"] = np.nan
    voxels["p"] = stats.p_values(voxels["r"], len(known.test_ids))
    voxels["significant"] = stats.fdr(voxels["p"], fdr)
    chosen = voxels.loc[voxels["significant"], "alpha"]
    found = f"{space}: {len(chosen)} of {len(voxels)} voxels predicted at FDR {fdr:g}"
    logger.info("%s, median r %.3f", found, voxels["r"].median())
    warn_edges(space, chosen, fitted.penalties)
    columns = slice(0, known.n_voxels, fitted.every)
    return voxels.assign(ceiling=known.ceiling[columns], ncsnr=known.ncsnr[columns])[list(MAPS)]
