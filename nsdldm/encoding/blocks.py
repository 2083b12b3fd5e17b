"""Find the U-Net block that predicts each voxel of a subject best."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from nsdldm import stats
from nsdldm.encoding.block_regions import RegionErrors
from nsdldm.encoding.flips import draw_signs, flip_signs
from nsdldm.encoding.maps import write_maps
from nsdldm.encoding.predictions import Predictions
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import load_mask

if TYPE_CHECKING:
    from nsdldm.encoding.flips import FlipTest

logger = logging.getLogger(__name__)


def list_columns(blocks: Sequence[str]) -> list[str]:
    """Columns of a table of blocks besides i, j and k, the volumes of its map in order.

    Parameters
    ----------
    blocks : sequence of str

    Returns
    -------
    list of str
        winner (index in `blocks` of the best block in training, blank where it does not predict
        test images significantly), p and significant (of its r), p_clear (of the null hypothesis
        that the second best predicts as well) and clear (after correction over voxels), r_{block}
        (test images), cv_{block} (R² averaged over training folds), ceiling and ncsnr.
    """
    scores = [f"{what}_{block}" for what in ("r", "cv") for block in blocks]
    judged = ["winner", "p", "significant", "p_clear", "clear"]
    return [*judged, *scores, "ceiling", "ncsnr"]


def rank_blocks(cv_scores: np.ndarray) -> np.ndarray:
    """Indices of the best and second-best block of each voxel.

    Parameters
    ----------
    cv_scores : float array of shape (n_blocks, n_voxels)

    Returns
    -------
    int array of shape (2, n_voxels)
        In a tie, the first block counts as better.
    """
    return np.argsort(-cv_scores, axis=0, kind="stable")[:2]


def compare_best(
    observed: np.ndarray, predictions: np.ndarray, ranks: np.ndarray, signs: np.ndarray
) -> np.ndarray:
    """Test whether each voxel's best block predicts better than its second best, one-sided.

    Parameters
    ----------
    observed : float32 array of shape (n_test, n_voxels)
        Averaged test trials.
    predictions : float32 array of shape (n_blocks, n_test, n_voxels)
    ranks : int array of shape (2, n_voxels)
        As `rank_blocks` returns them: chosen without these images.
    signs : float32 array of shape (1 + n_flips, n_test)
        As `nsdldm.encoding.flips.draw_signs` returns them.

    Returns
    -------
    float64 array of shape (n_voxels,)
        As `nsdldm.encoding.flips.flip_signs`.
    """
    best, second = (
        np.take_along_axis(predictions, index[None, None], axis=0)[0] for index in ranks
    )
    return flip_signs(observed, second, best, signs)


def _tabulate(blocks, observed, predictions, cv_scores, signs):
    """Columns of the table that can be computed for a block of voxels by itself."""
    ranks = rank_blocks(cv_scores)
    columns = {"best": ranks[0], "p_clear": compare_best(observed, predictions, ranks, signs)}
    for name, predicted, cv_score in zip(blocks, predictions, cv_scores, strict=True):
        columns[f"r_{name}"] = stats.correlate(observed, predicted)
        columns[f"cv_{name}"] = cv_score
    return pd.DataFrame(columns)


def _finish(table, blocks, n_test, q):
    """Add significance, the winner and whether it is clear; log the counts."""
    r, cv = (table[[f"{what}_{name}" for name in blocks]].to_numpy() for what in ("r", "cv"))
    table["p"] = stats.p_values(r[np.arange(len(r)), table["best"]], n_test)
    table["significant"] = stats.fdr(table["p"], q)
    table["winner"] = table["best"].where(table["significant"])
    table.loc[table["p"].isna(), "p_clear"] = np.nan
    # Correct over voxels chosen with training images: test images would select those in which the
    # winner happens to predict them well.
    tested = table["p_clear"].where(cv.max(axis=1) > 0)
    table["clear"] = stats.fdr(tested, q) & table["significant"]
    counts = count_winners(table["winner"], blocks)
    listed = ", ".join(f"{name} {count}" for name, count in counts.items())
    message = "%d of %d voxels predicted at FDR %g; won by %s; %d winners are clear"
    found = table["significant"].sum(), len(table), q, listed, table["clear"].sum()
    logger.info(message, *found)
    return table[list_columns(blocks)]


def count_winners(winner: pd.Series | np.ndarray, blocks: Sequence[str]) -> dict[str, int]:
    """Count the voxels that each block wins.

    Parameters
    ----------
    winner : Series or float array of shape (n_voxels,)
        Index in `blocks`; NaN where there is none.
    blocks : sequence of str

    Returns
    -------
    dict of int
        Counts by block, and "none".
    """
    winner = np.asarray(winner, np.float64)
    counts = {name: int((winner == index).sum()) for index, name in enumerate(blocks)}
    return counts | {"none": int(np.isnan(winner).sum())}


def choose_blocks(
    *,
    predictions: Path | str,
    models: dict[str, dict[str, str]],
    responses: Path | str,
    mask: Path | str,
    regions: dict[str, Path | str],
    maps: dict[str, Path | str],
    tables: dict[str, Path | str],
    errors: dict[str, Path | str],
    test: FlipTest,
) -> None:
    """Find the block whose model predicts each voxel of a subject best, at each step.

    The winner has the best R² averaged over the folds of the training images. The test images play
    no part in that choice; they are used to test it. The winner's r is tested one-sided, with FDR
    control over voxels; where it is not significant, the winner is blank. A winner is clear where
    the second best predicts the test images worse, by a sign-flip test on the images' differences
    of squared errors with FDR control over the voxels that the winner predicts in training.

    Parameters
    ----------
    predictions : path
        As `nsdldm.encoding.fits.fit_encoders` writes them.
    models : dict of dict of str
        For each step, the name of each block's model; their order defines the indices of blocks.
    responses, mask : path
        As `nsdldm.encoding.scores.score_encoders` takes them.
    regions : dict of path
        Masks of the regions over which `errors` are averaged.
    maps, tables, errors : dict of path
        Output for each step: a float32 NIfTI whose volumes are `list_columns` of the blocks, NaN
        off the mask; a table with a row per voxel in C-order of the mask (i, j, k and these); and
        a table of errors as `nsdldm.encoding.block_regions.RegionErrors` writes it.
    test : nsdldm.encoding.flips.FlipTest
        Both tests use its false discovery rate.

    Raises
    ------
    InputError
        There are fewer than two blocks, or inputs contradict each other.
    """
    fitted = Predictions(predictions)
    known = fitted.open_responses(responses)
    inside = load_mask(mask)
    members = {roi: load_mask(path)[inside] for roi, path in regions.items()}
    signs = draw_signs(test.flips, len(known.test_ids), test.seed)
    for step, own in models.items():
        if len(own) < 2:
            raise InputError(Finding("`models`", "two or more", str(list(own)), "Add another"))
        sums = RegionErrors(members, list(own), known.test_ids)
        voxels = _compare(own, fitted, known, signs, sums)
        voxels = _finish(voxels, list(own), len(known.test_ids), test.fdr)
        write_maps(voxels, mask, maps[step], tables[step])
        sums.save(errors[step])


def _compare(models, fitted, known, signs, sums):
    """Columns of the table that voxels decide by themselves; adds to the sums of errors."""
    parts = []
    for block, columns in fitted.blocks():
        observed = known.read_test(columns)
        read = [fitted.read(name, block) for name in models.values()]
        predicted, cv_scores = (np.stack([each[i] for each in read]) for i in (0, 2))
        parts.append(_tabulate(models, observed, predicted, cv_scores, signs))
        sums.add(columns, observed, predicted, cv_scores)
    voxels = pd.concat(parts, ignore_index=True)
    return voxels.assign(ceiling=known.ceiling, ncsnr=known.ncsnr)
