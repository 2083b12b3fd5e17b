"""Voxel-wise encoding models of one subject: fits, maps and tables."""

import logging
import time

import numpy as np
import pandas as pd

from nsdldm import ridge, stats
from nsdldm.errors import Finding, InputError
from nsdldm.files import load_array, load_mask, load_table, load_volume, save_table, save_volume
from nsdldm.summary import MAPS

logger = logging.getLogger(__name__)

# Share of significant voxels at an end of the penalties that calls for a wider range.
EDGE_SHARE = 0.05
SCORED_AT_ONCE = 4096


def _check_inputs(kernels, betas, trials, images, mask):
    """Read the tables after comparing all inputs' sizes; every contradiction is reported."""
    shown, seen = load_table(trials), load_table(images)
    shape = len(shown), int(load_mask(mask).sum())
    sizes = [(path, load_array(path).shape, (len(seen),) * 2, images) for path in kernels.values()]
    sizes.append((betas, load_array(betas).shape, shape, f"{trials} and {mask}"))
    findings = [
        Finding(str(path), f"shape {wanted} as in {where}", f"{found}", "Compute it again")
        for path, found, wanted, where in sizes
        if found != wanted
    ]
    if set(shown["nsd_id"]) != set(seen["nsd_id"]):
        remedy = "Tabulate both again"
        findings.append(Finding(str(trials), f"the images of {images}", "others", remedy))
    if (seen["split"] == "test").sum() < 3:
        remedy = "Use sessions that share images with the other subjects"
        findings.append(Finding(str(images), "at least 3 test images", "fewer", remedy))
    if findings:
        raise InputError(*findings)
    return shown, seen


def _read_columns(path, columns):
    """Copy columns of a matrix; a map that is kept open would count as memory of the process."""
    return np.array(load_array(path)[:, columns], np.float32)


def _prepare_targets(betas, columns, trials, images, train_on, zscore):
    """Training and test responses of some voxels, their ncsnr and the number of values filled."""
    nsd_ids, train = trials["nsd_id"].to_numpy(), (trials["split"] == "train").to_numpy()
    values = _read_columns(betas, columns)
    if zscore:
        values = stats.zscore_sessions(values, trials["session"].to_numpy(), train)
        ratio = stats.ncsnr(values, nsd_ids)
    else:
        # Any unit does for a correlation, but missing values are filled by 0, the mean.
        values = stats.center(values, train)
        ratio = np.full(values.shape[1], np.nan, np.float32)
    wanted = {split: group.to_numpy() for split, group in images.groupby("split")["nsd_id"]}
    test, filled_test = stats.average_trials(values, nsd_ids, wanted["test"])
    if train_on == "averages":
        fitted, filled = stats.average_trials(values, nsd_ids, wanted["train"])
    else:
        filled = int(np.isnan(values[train]).sum())
        fitted = np.nan_to_num(values[train])
    return fitted, test, ratio, filled + filled_test


def _prepare_block(betas, block, rows, step, **how):
    """`_prepare_targets` for a block of voxels, a few at a time to save memory."""
    n_voxels = block.stop - block.start
    fitted, test = (np.empty((len(samples), n_voxels), np.float32) for samples in rows)
    ratio, filled = np.empty(n_voxels, np.float32), 0
    for start in range(0, n_voxels, step):
        part = slice(start, min(start + step, n_voxels))
        columns = slice(block.start + part.start, block.start + part.stop)
        fitted[:, part], test[:, part], ratio[part], n = _prepare_targets(betas, columns, **how)
        filled += n
    if filled:
        share = 100 * filled / (len(fitted) + len(test)) / n_voxels
        logger.info("%d missing values (%.2f %%) set to the voxel's mean", filled, share)
    return fitted, test, ratio


def _score(observed, predicted):
    """r and R² of each column, a few columns at a time to save memory."""
    scores = np.empty((2, observed.shape[1]))
    for start in range(0, observed.shape[1], SCORED_AT_ONCE):
        part = slice(start, start + SCORED_AT_ONCE)
        scores[0, part] = stats.correlate(observed[:, part], predicted[:, part])
        scores[1, part] = stats.r2(observed[:, part], predicted[:, part])
    return scores


def _find_rows(trials, images, train_on):
    """The image, as row of the kernels, of each training and each test sample."""
    train = np.flatnonzero(images["split"] == "train")
    if train_on == "trials":
        position = pd.Series(np.arange(len(images)), images["nsd_id"])
        train = position[trials.loc[trials["split"] == "train", "nsd_id"]].to_numpy()
    return train, np.flatnonzero(images["split"] == "test")


def _log_plan(plan, rows, n_voxels):
    """Say what will be fitted and what memory it will take."""
    sizes = (len(rows[0]), len(rows[1]), n_voxels, plan["voxels"])
    logger.info("%d training and %d test samples; %d voxels, %d in a call", *sizes)
    where = f" and {plan['device_peak'] / 1e9:.1f} GB on the GPU" if plan["device_peak"] else ""
    message = "predicted peak memory %.1f GB%s (batches of %d voxels and %d alphas)"
    logger.info(message, plan["peak"] / 1e9, where, plan["targets"], plan["alphas"])


def _fit(path, rows, fitted, alphas, folds, plan):
    """Predictions of the test samples from one kernel, and the alphas chosen."""
    kernel, (train, test) = load_array(path), rows
    parts = [np.array(kernel[np.ix_(samples, train)]) for samples in (train, test)]
    del kernel
    return ridge.fit_ridge(*parts, fitted, alphas, folds, plan)[:2]


def _finish(name, table, alphas, n_test, q):
    """Add significance to a table of scores and log what matters about it."""
    table.loc[table["r"].isna(), "alpha"] = np.nan
    table["p"] = stats.p_values(table["r"], n_test)
    table["significant"] = stats.fdr(table["p"], q)
    chosen = table.loc[table["significant"], "alpha"]
    found = f"{name}: {len(chosen)} of {len(table)} voxels predicted at FDR {q:g}"
    logger.info("%s, median r %.3f", found, table["r"].median())
    for edge, where in ((min(alphas), "smallest"), (max(alphas), "largest")):
        share = (chosen == edge).mean() if len(chosen) else 0
        if share > EDGE_SHARE:
            message = "%s: %.0f %% of significant voxels chose the %s alpha, %g; widen the range"
            logger.warning(message, name, 100 * share, where, edge)
    return table


def _write(table, mask, map_path, table_path):
    """Write a feature's 4-D map and table, given its columns in the C-order of the mask."""
    data, affine = load_volume(mask)
    inside = data > 0
    volumes = np.full((*inside.shape, len(MAPS)), np.nan, np.float32)
    volumes[inside] = table[list(MAPS)].to_numpy(np.float32)
    save_volume(map_path, volumes, affine)
    voxels = pd.DataFrame(np.argwhere(inside), columns=["i", "j", "k"])
    save_table(table_path, voxels.join(table[list(MAPS)]))


def fit_encoders(
    *,
    kernels,
    betas,
    trials,
    images,
    mask,
    maps,
    tables,
    alphas,
    n_folds,
    fdr,
    train_on,
    zscore,
    memory_gb,
    device,
    seed,
):
    """Predict every voxel of a subject from each feature space, and score held-out images.

    One kernel ridge regression a voxel and space, with an intercept and a penalty chosen by
    cross-validation over training images, the same folds for all. Scored are predictions of the
    test images' averaged trials. r is tested one-sided against the correlation of independent
    Gaussian vectors of that length, with a false discovery rate over the voxels of a space.

    Parameters
    ----------
    kernels : dict of path
        Gram matrix of each space, as `nsdldm.ridge.compute_kernels` writes it.
    betas : path
        float32 ``.npy`` of shape (n_trials, n_voxels), percent signal change, NaN where invalid;
        never read at once.
    trials, images : path
        ``trials.tsv`` (a row a trial, in the order of `betas`) and ``images.tsv`` (a row an image,
        in the order of the kernels).
    mask : path
        NIfTI mask with n_voxels voxels; their C-order is the order of `betas`.
    maps, tables : dict of path
        Output for each space: a float32 NIfTI whose volumes are `nsdldm.summary.MAPS`, NaN off
        the mask, and a table with a row a voxel in C-order of the mask (i, j, k and these).
    alphas : list of float
        Penalties tried; kernels have a mean diagonal of 1.
    n_folds : int
    fdr : float
        False discovery rate.
    train_on : "averages" or "trials"
        Fit to each image's averaged trials or to single trials.
    zscore : bool
        z-score each session by its training trials; without, no noise ceiling is known.
    memory_gb : float
        Memory the process may use, in units of 1e9 bytes; sets the batches.
    device : "auto", "cpu" or "cuda"
    seed : int
        Shuffles images over folds.

    Raises
    ------
    InputError
        Inputs that contradict each other, or too little memory.
    """
    shown, seen = _check_inputs(kernels, betas, trials, images, mask)
    ridge.set_device(device)
    rows = _find_rows(shown, seen, train_on)
    n_voxels = load_array(betas).shape[1]
    plan = ridge.plan_batches(
        *map(len, rows), n_voxels, len(alphas), n_folds, memory_gb, ridge.free_device_memory()
    )
    _log_plan(plan, rows, n_voxels)
    folds = ridge.group_folds(rows[0], n_folds, seed)

    scores = {name: np.empty((3, n_voxels)) for name in kernels}
    ratio = np.empty(n_voxels, np.float32)
    # Preparing takes up to 48 bytes a trial and voxel.
    step = max(1, plan["spare"] // (48 * len(shown)))
    how = {"trials": shown, "images": seen, "train_on": train_on, "zscore": zscore}
    for start in range(0, n_voxels, plan["voxels"]):
        block = slice(start, min(start + plan["voxels"], n_voxels))
        fitted, observed, ratio[block] = _prepare_block(betas, block, rows, step, **how)
        for name, path in kernels.items():
            began = time.monotonic()
            predicted, chosen = _fit(path, rows, fitted, alphas, folds, plan)
            scores[name][:, block] = *_score(observed, predicted), chosen
            seconds = time.monotonic() - began
            logger.info("%s: voxels to %d of %d in %.0f s", name, block.stop, n_voxels, seconds)

    repeats = seen["nsd_id"].map(shown["nsd_id"].value_counts()).to_numpy()[rows[1]]
    known = {"ncsnr": ratio, "ceiling": stats.noise_ceiling(ratio, repeats)}
    for name in kernels:
        table = pd.DataFrame(dict(zip(("r", "r2", "alpha"), scores[name], strict=True)) | known)
        table = _finish(name, table, alphas, len(rows[1]), fdr)
        _write(table, mask, maps[name], tables[name])
