"""Summaries of encoders by region. Imports are light, since tables and figures need no networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nsdldm.nsd.grids import load_masks
from nsdldm.support.files import load_table, save_table

# Volumes of an encoder's 4-D map, in order, and columns of its table besides i, j and k.
MAPS = ("r", "r2", "p", "significant", "ceiling", "ncsnr", "alpha")


def summarize_encoding(
    *,
    subject: str,
    tables: dict[str, Path | str],
    masks: dict[str, Path | str],
    min_ncsnr: Sequence[float] = (0,),
) -> pd.DataFrame:
    """Summarise one subject's encoding models by region.

    Parameters
    ----------
    subject : str
    tables : dict of path
        The table of each feature space, as `nsdldm.encoding.scores.score_encoders` writes it.
    masks : dict of path
        The mask of each region, on the grid of the tables; voxels without a model are ignored.
    min_ncsnr : sequence of float
        Minimum ncsnr of the voxels summarised, one row for each value; 0 takes all voxels.

    Returns
    -------
    DataFrame
        Columns subject, feature, roi, min_ncsnr, median_r, median_ceiling, n_voxels and
        share_significant (NaN without voxels).
    """
    inside, _ = load_masks(masks)
    rows = []
    for feature, path in tables.items():
        table = load_table(path)
        voxels = tuple(table[axis] for axis in "ijk")
        for roi, mask in inside.items():
            for least in min_ncsnr:
                chosen = table[mask[voxels] & ((table["ncsnr"] >= least) | (least == 0))]
                row = {"subject": subject, "feature": feature, "roi": roi, "min_ncsnr": least}
                row["median_r"] = chosen["r"].median()
                row["median_ceiling"] = chosen["ceiling"].median()
                row["n_voxels"] = len(chosen)
                row["share_significant"] = chosen["significant"].mean()
                rows.append(row)
    return pd.DataFrame(rows)


def tabulate_encoding(
    *,
    tables: dict[tuple[str, str], Path | str],
    masks: dict[tuple[str, str], Path | str],
    output: Path | str,
    min_ncsnr: list[float],
) -> None:
    """Summarise all subjects' encoding models by region.

    Parameters
    ----------
    tables : dict of path
        Keys (subject, feature): tables as `nsdldm.encoding.scores.score_encoders` writes them.
    masks : dict of path
        Keys (subject, roi): masks.
    output : path
        Table with the columns of `summarize_encoding`.
    min_ncsnr : list of float
        Minimum ncsnr of the voxels summarised, one row for each value; 0 takes all voxels.
    """
    parts = []
    for subject in dict.fromkeys(subject for subject, _ in tables):
        own_tables, own_masks = (
            {name: path for (owner, name), path in paths.items() if owner == subject}
            for paths in (tables, masks)
        )
        parts.append(
            summarize_encoding(
                subject=subject, tables=own_tables, masks=own_masks, min_ncsnr=min_ncsnr
            )
        )
    save_table(output, pd.concat(parts, ignore_index=True))
