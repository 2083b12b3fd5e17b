"""Summaries of encoders by region. Light imports: figures and tables need no networks."""

import logging

import numpy as np
import pandas as pd

from nsdldm.files import load_mask, load_table, save_table

logger = logging.getLogger(__name__)

# Volumes of a map of an encoder, in this order; the table has the same columns.
MAPS = ("r", "r2", "p", "significant", "ceiling", "ncsnr", "alpha")


def summarize_encoding(*, subject, tables, masks, min_ncsnr=0):
    """Summarise one subject's encoders by region.

    Parameters
    ----------
    subject : str
    tables : dict of str to path
        By feature, as written by `nsdldm.encoding.fit_encoders`.
    masks : dict of str to path
        By region; voxels outside the tables do not count.
    min_ncsnr : float
        Only voxels with at least this noise-ceiling signal-to-noise ratio count; 0 takes all.

    Returns
    -------
    DataFrame
        A row a feature and region: subject, feature, roi, median_r, median_ceiling, n_voxels,
        share_significant. Medians are NaN for regions without voxels.
    """
    regions = {roi: load_mask(path) for roi, path in masks.items()}
    rows = []
    for feature, path in tables.items():
        table = load_table(path)
        voxels = tuple(table[["i", "j", "k"]].to_numpy().T)
        enough = (table["ncsnr"].to_numpy() >= min_ncsnr) | (min_ncsnr == 0)
        for roi, mask in regions.items():
            chosen = table[mask[voxels] & enough]
            rows.append(
                {
                    "subject": subject,
                    "feature": feature,
                    "roi": roi,
                    "median_r": chosen["r"].median(),
                    "median_ceiling": chosen["ceiling"].median(),
                    "n_voxels": len(chosen),
                    "share_significant": chosen["significant"].mean() if len(chosen) else np.nan,
                }
            )
    return pd.DataFrame(rows)


def tabulate_encoding(*, tables, masks, output, min_ncsnr):
    """Write the summaries of all subjects.

    Parameters
    ----------
    tables : dict of (str, str) to path
        By subject and feature.
    masks : dict of (str, str) to path
        By subject and region.
    output : str or Path
        Table with the columns of `summarize_encoding` and min_ncsnr.
    min_ncsnr : list of float
        One set of rows for each.
    """
    parts = []
    for subject in dict.fromkeys(subject for subject, _ in tables):
        own = [
            {name: path for (owner, name), path in paths.items() if owner == subject}
            for paths in (tables, masks)
        ]
        for least in min_ncsnr:
            part = summarize_encoding(subject=subject, tables=own[0], masks=own[1], min_ncsnr=least)
            parts.append(part.assign(min_ncsnr=least))
    save_table(output, pd.concat(parts, ignore_index=True))
