"""Partition the variance of each voxel between two feature spaces.

The unique variance of a space is R² of the joint model minus R² of the model of the other space
alone, on averaged test trials. This is variance partitioning for two spaces (Lescroart et al. 2015,
Frontiers in Computational Neuroscience 9, 135).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from nsdldm import stats
from nsdldm.encoding.cells import Collector, find_cells
from nsdldm.encoding.flips import draw_signs, flip_signs
from nsdldm.encoding.maps import score, warn_edges, write_maps
from nsdldm.encoding.predictions import Predictions, name_pair

if TYPE_CHECKING:
    from nsdldm.encoding.flips import FlipTest

logger = logging.getLogger(__name__)

# With a noise ceiling below this (1 % of the variance), a normalised value is mere noise.
LEAST_CEILING = 0.1


def list_columns(pair: tuple[str, str]) -> list[str]:
    """Columns of a pair's table besides i, j and k, which are the volumes of its map in order.

    Parameters
    ----------
    pair : (str, str)
        Names of the two spaces, a and b.

    Returns
    -------
    list of str
        r, r2, p and significant (of the joint model), cv (its R² in training cross-validation),
        tested (whether unique variance was tested: cv above 0), r2_{a}, r2_{b} (each alone), then
        for both spaces unique_, p_unique_ and significant_, then ceiling, ncsnr,
        unique_{a}_normalised, unique_{b}_normalised, weight (of a in the joint model) and alpha.
    """
    both = [
        f"{what}_{space}" for what in ("r2", "unique", "p_unique", "significant") for space in pair
    ]
    normalised = [f"unique_{space}_normalised" for space in pair]
    joint = ["r", "r2", "p", "significant", "cv", "tested"]
    return [*joint, *both, "ceiling", "ncsnr", *normalised, "weight", "alpha"]


def _score_pair(pair, observed, joint, singles, signs):
    """Columns of a pair's table for a block of voxels, and each image's contribution to unique
    variance.

    The latter is one array per space.
    """
    columns = score(observed, joint.predictions) | {"cv": joint.cv_scores}
    columns |= {"weight": joint.weights, "alpha": joint.alphas}
    shares = {}
    for space, other in (pair, pair[::-1]):
        single = singles[other].predictions
        columns[f"r2_{other}"] = stats.r2(observed, single)
        p = flip_signs(observed, single, joint.predictions, signs)
        columns[f"p_unique_{space}"] = np.where(np.isnan(columns["r2"]), np.nan, p)
        shares[space] = stats.share_gain(observed, single, joint.predictions)
    return pd.DataFrame(columns), shares


def judge_unique(table: pd.DataFrame, pair: tuple[str, str], q: float) -> pd.DataFrame:
    """Test the unique variance of both spaces where the joint model can be expected to predict.

    Most cortical voxels do not respond to pictures, and with few test images a correction over all
    of them leaves no power. Only voxels that the joint model predicts in training cross-validation
    are tested. The test images play no part in that choice, so the test keeps its level.

    Parameters
    ----------
    table : DataFrame
        With a row per voxel: cv and p_unique_{space}.
    pair : (str, str)
    q : float
        False discovery rate over the voxels tested.

    Returns
    -------
    DataFrame
        tested and significant_{space}.
    """
    tested = (table["cv"] > 0) & table[f"p_unique_{pair[0]}"].notna()
    significant = {space: stats.fdr(table[f"p_unique_{space}"].where(tested), q) for space in pair}
    columns = {f"significant_{space}": found for space, found in significant.items()}
    return pd.DataFrame({"tested": tested} | columns)


def _say_floor(n_tested, test):
    """Warn if there are so few flips that a small number of voxels can hardly pass the
    correction."""
    needed = int(np.ceil(n_tested / ((1 + test.flips) * test.fdr)))
    if needed > 1:
        message = "with %d flips at least %d of %d voxels must reach the smallest p to pass FDR %g"
        logger.warning(message, test.flips, needed, n_tested, test.fdr)


def _finish(pair, table, n_test, penalties, q):
    """Add unique variance, its normalised form and significance, and log the counts."""
    table["p"] = stats.p_values(table["r"], n_test)
    table["significant"] = stats.fdr(table["p"], q)
    table.loc[table["r2"].isna(), ["weight", "alpha"]] = np.nan
    table = table.join(judge_unique(table, pair, q))
    ceiling = table["ceiling"].where(table["ceiling"] >= LEAST_CEILING)
    for space, other in (pair, pair[::-1]):
        unique = table["r2"] - table[f"r2_{other}"]
        table[f"unique_{space}"] = unique
        table[f"unique_{space}_normalised"] = unique / ceiling**2
        found = table[f"significant_{space}"].sum(), table["tested"].sum(), len(table), q
        message = "%s: unique variance of %s in %d of %d voxels tested, of %d, at FDR %g"
        logger.info(message, name_pair(pair), space, *found)
    either = table[f"significant_{pair[0]}"] | table[f"significant_{pair[1]}"]
    warn_edges(name_pair(pair), table.loc[either, "alpha"], penalties)
    return table[list_columns(pair)]


def partition_variance(
    *,
    predictions: list[Path | str],
    base: Path | str,
    responses: Path | str,
    mask: Path | str,
    regions: dict[str, Path | str],
    maps: dict[str, Path | str],
    tables: dict[str, Path | str],
    sums: Path | str,
    test: FlipTest,
    fitted: dict[str, str] | None = None,
    min_ncsnr: float | None = 0,
    every: int = 1,
) -> None:
    """Partition the variance of every voxel of a subject between z and each space of a family.

    Unique variance is tested one-sided by flipping the signs of the images' differences of squared
    errors, with the same flips for all voxels and pairs, and with FDR control over the voxels that
    the joint model predicts in training (`judge_unique`). p is reported for all voxels.

    Parameters
    ----------
    predictions : list of path
        As `nsdldm.encoding.fits.fit_encoders` writes them: together those of all spaces, including
        joint models.
    base : path
        Likewise, those of z.
    responses, mask, regions, min_ncsnr, every
        As `nsdldm.encoding.scores.score_encoders` takes them.
    maps, tables : dict of path
        Output for each pair (a, b): a float32 NIfTI whose volumes are `list_columns(pair)`, NaN off
        the mask, and a table with a row per voxel in C-order of the mask (i, j, k and these).
        Normalised values are divided by the squared noise ceiling, and blank where that is unknown
        or below 1 %.
    sums : path
        Output: each test image's contribution to unique variance, called ``{a}+{b}:{space}``, as
        `nsdldm.encoding.cells.load_sums` reads it.
    test : nsdldm.encoding.flips.FlipTest
    fitted : dict of str to str, optional
        The names of spaces in `predictions`, where they differ from their own.

    Raises
    ------
    InputError
        Inputs contradict each other.
    """
    files, alone, fitted = list(map(Predictions, predictions)), Predictions(base), fitted or {}
    for file in (*files[1:], alone):
        file.open_responses(responses)
    holders = {name: file for file in files for name in file.names}
    known, first = files[0].open_responses(responses), files[0]
    signs = draw_signs(test.flips, len(known.test_ids), test.seed)
    shares = Collector(find_cells(mask, regions, every), known.test_ids, min_ncsnr)
    found = {pair: [] for pair in tables}
    for block, columns in first.blocks():
        observed = known.read_test(columns)
        bases = {a: alone.read(a, columns) for a, _ in tables}
        for a, b in tables:
            own = fitted.get(b, b)
            singles = {a: bases[a], b: holders[own].read(own, block)}
            both = name_pair((a, own))
            table, added = _score_pair(
                (a, b), observed, holders[both].read(both, block), singles, signs
            )
            found[a, b].append(table)
            for space, each in added.items():
                name = f"{name_pair((a, b))}:{space}"
                shares.add(name, columns, each, known.ncsnr[columns])
    columns = slice(0, known.n_voxels, first.every)
    noise, n_tested = {"ncsnr": known.ncsnr[columns], "ceiling": known.ceiling[columns]}, 0
    for pair, parts in found.items():
        table = pd.concat(parts, ignore_index=True).assign(**noise)
        table = _finish(pair, table, len(known.test_ids), first.penalties, test.fdr)
        n_tested = max(n_tested, table["tested"].sum())
        write_maps(table, mask, maps[pair], tables[pair], first.every)
    _say_floor(n_tested, test)
    shares.save(sums)
