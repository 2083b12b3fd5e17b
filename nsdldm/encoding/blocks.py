"""Which block of the U-Net predicts each voxel of a subject best."""

import logging
import time

import numpy as np
import pandas as pd

from nsdldm import ridge, stats
from nsdldm.encoding import fits as encoding
from nsdldm.encoding.block_regions import scale_errors
from nsdldm.encoding.variance import draw_signs, flip_signs
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import create_array, load_array

logger = logging.getLogger(__name__)


def list_columns(blocks):
    """Columns of a table of blocks besides i, j and k, the volumes of its map in order.

    Parameters
    ----------
    blocks : sequence of str

    Returns
    -------
    list of str
        winner (index in `blocks` of the one that scores best in training, blank where it does not
        predict test images significantly), p and significant (of its r), p_clear (that the second
        best predicts as well) and clear (after correction over voxels), r_{block} (test images),
        cv_{block} (R² averaged over training folds), ceiling and ncsnr.
    """
    scores = [f"{what}_{block}" for what in ("r", "cv") for block in blocks]
    judged = ["winner", "p", "significant", "p_clear", "clear"]
    return [*judged, *scores, "ceiling", "ncsnr"]


def rank_blocks(cv_scores):
    """Indices of the best and second-best block of each voxel.

    Parameters
    ----------
    cv_scores : array of shape (n_blocks, n_voxels)

    Returns
    -------
    int array of shape (2, n_voxels)
        At equal scores the first block is the better.
    """
    return np.argsort(-cv_scores, axis=0, kind="stable")[:2]


def _pick(predictions, index):
    """The predictions of one block a voxel; shapes (n_blocks, n_test, n_voxels), (n_voxels,)."""
    return np.take_along_axis(predictions, index[None, None], axis=0)[0]


def compare_best(observed, predictions, ranks, signs, memory):
    """Test whether each voxel's best block predicts better than its second best, one-sided.

    Parameters
    ----------
    observed : float32 array of shape (n_test, n_voxels)
        Averaged test trials.
    predictions : float32 array of shape (n_blocks, n_test, n_voxels)
    ranks : int array of shape (2, n_voxels)
        As `rank_blocks` returns them: chosen without these images.
    signs : float32 array of shape (1 + n_flips, n_test)
        As `nsdldm.encoding.variance.draw_signs` returns them.
    memory : int
        Bytes that a batch of voxels may take.

    Returns
    -------
    float64 array of shape (n_voxels,)
        As `nsdldm.encoding.variance.flip_signs`.
    """
    best, second = (_pick(predictions, index) for index in ranks)
    return flip_signs(observed, second, best, signs, memory)


def _fit_blocks(kernels, rows, fitted, n_test, alphas, folds, plan):
    """Test predictions (n_blocks, n_test, n_voxels) and CV scores (n_blocks, n_voxels)."""
    predictions = np.empty((len(kernels), n_test, fitted.shape[1]), np.float32)
    cv_scores = np.empty((len(kernels), fitted.shape[1]))
    for row, (name, path) in enumerate(kernels.items()):
        began = time.monotonic()
        kernel = encoding.load_kernel(path, rows)
        predictions[row], alpha, cv_scores[row] = ridge.fit_ridge(
            *kernel, fitted, alphas, folds, plan
        )
        del kernel
        logger.info("%s: %d voxels in %.0f s", name, len(alpha), time.monotonic() - began)
    return predictions, cv_scores


def _tabulate(blocks, observed, predictions, cv_scores, p_clear):
    """Columns of the table that a block of voxels decides by itself."""
    columns = {"best": rank_blocks(cv_scores)[0], "p_clear": p_clear}
    for name, predicted, cv_score in zip(blocks, predictions, cv_scores, strict=True):
        columns[f"r_{name}"], columns[f"cv_{name}"] = (
            encoding.score(observed, predicted)[0],
            cv_score,
        )
    return pd.DataFrame(columns)


def _finish(table, blocks, n_test, q):
    """Add significance, the winner and whether it is clear; log the counts."""
    r, cv = (table[[f"{what}_{name}" for name in blocks]].to_numpy() for what in ("r", "cv"))
    table["p"] = stats.p_values(r[np.arange(len(r)), table["best"]], n_test)
    table["significant"] = stats.fdr(table["p"], q)
    table["winner"] = table["best"].where(table["significant"])
    table.loc[table["p"].isna(), "p_clear"] = np.nan
    # Corrected over voxels that training images choose: test images would choose those in which
    # the winner happens to predict them well.
    tested = table["p_clear"].where(cv.max(axis=1) > 0)
    table["clear"] = stats.fdr(tested, q) & table["significant"]
    counts = count_winners(table["winner"], blocks)
    listed = ", ".join(f"{name} {count}" for name, count in counts.items())
    message = "%d of %d voxels predicted at FDR %g; won by %s; %d winners are clear"
    found = table["significant"].sum(), len(table), q, listed, table["clear"].sum()
    logger.info(message, *found)
    return table[list_columns(blocks)]


def count_winners(winner, blocks):
    """Count the voxels that each block wins.

    Parameters
    ----------
    winner : Series or array of shape (n_voxels,)
        Index in `blocks`; NaN where there is none.
    blocks : sequence of str

    Returns
    -------
    dict of int
        By the names of the blocks, and "none".
    """
    winner = np.asarray(winner, np.float64)
    counts = {name: int((winner == index).sum()) for index, name in enumerate(blocks)}
    return counts | {"none": int(np.isnan(winner).sum())}


def choose_blocks(
    *,
    kernels,
    betas,
    trials,
    images,
    mask,
    map,
    table,
    errors,
    alphas,
    n_folds,
    fdr,
    flips,
    train_on,
    zscore,
    memory_gb,
    device,
    seed,
):
    """Find the block whose model predicts each voxel of a subject best.

    The models are those of `nsdldm.encoding.fits.fit_encoders`, a block each. The winner has the
    best R² averaged over the folds of the training images. Test images, which have no part in that
    choice, say whether it holds: its r is tested one-sided, with a false discovery rate over
    voxels; where it is not significant, the winner is blank. A winner is clear where the second
    best predicts the test images worse: tested by flipping the signs of the images' differences of
    squared errors, with a false discovery rate over the voxels that the winner predicts in
    training.

    Parameters
    ----------
    kernels : dict of path
        Gram matrix of each block, as `nsdldm.ridge.compute_kernels` writes it with the same number
        of components; their order numbers the blocks.
    betas, trials, images, mask : path
        As `nsdldm.encoding.fits.fit_encoders` takes them.
    map, table, errors : path
        Output: a float32 NIfTI whose volumes are `list_columns(kernels)`, NaN off the mask; a
        table with a row a voxel in C-order of the mask (i, j, k and these); and a float16 ``.npy``
        of shape (n_blocks, n_test, n_voxels) as `nsdldm.encoding.block_regions.scale_errors` makes
        it.
    alphas : list of float
        Penalties tried; kernels have a mean diagonal of 1.
    n_folds : int
    fdr : float
        False discovery rate, of both tests.
    flips : int
        Random sign flips.
    train_on : "averages" or "trials"
    zscore : bool
    memory_gb : float
        Memory the process may use, in units of 1e9 bytes; sets the batches.
    device : "auto", "cpu" or "cuda"
    seed : int
        Shuffles images over folds, and flips signs.

    Raises
    ------
    InputError
        Fewer than two blocks, inputs that contradict each other, or too little memory.
    """
    blocks = list(kernels)
    if len(blocks) < 2:
        raise InputError(Finding("trajectories.blocks", "two or more", str(blocks), "Add another"))
    shown, seen = encoding.check_inputs(kernels, betas, trials, images, mask)
    ridge.set_device(device)
    rows = encoding.find_rows(shown, seen, train_on)
    n_voxels, n_test = load_array(betas).shape[1], len(rows[1])
    # All blocks' predictions, and copies of the best and the second.
    held = len(blocks) + 2
    plan = encoding.plan_fits(rows, n_voxels, len(alphas), n_folds, memory_gb, held)
    folds = ridge.group_folds(rows[0], n_folds, seed)
    signs = draw_signs(flips, n_test, seed)
    parts, ratio = [], np.empty(n_voxels, np.float32)
    how = shown, seen, rows, plan, train_on, zscore
    with create_array(errors, (len(blocks), n_test, n_voxels), np.float16) as kept:
        for block, fitted, observed, known in encoding.prepare_blocks(betas, *how):
            ratio[block] = known
            models = _fit_blocks(kernels, rows, fitted, n_test, alphas, folds, plan)
            ranks = rank_blocks(models[1])
            p_clear = compare_best(observed, models[0], ranks, signs, plan["spare"])
            parts.append(_tabulate(blocks, observed, *models, p_clear))
            for number, scaled in enumerate(scale_errors(observed, models[0])):
                kept[number, :, block] = scaled

    noise = encoding.describe_noise(ratio, shown, seen)
    voxels = pd.concat(parts, ignore_index=True).assign(**noise)
    encoding.write_maps(_finish(voxels, blocks, n_test, fdr), mask, map, table)
