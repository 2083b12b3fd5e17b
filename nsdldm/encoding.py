"""Voxel-wise encoders: predict the response of every voxel to images from their features."""

import logging

import numpy as np
import pandas as pd

from nsdldm.files import load_array, load_mask, load_table, load_volume, save_table, save_volume
from nsdldm.logs import progress
from nsdldm.ridge import fit_ridge, group_folds, plan_batches, set_device
from nsdldm.stats import (
    average_trials,
    control_fdr,
    correlate,
    estimate_ncsnr,
    noise_ceiling,
    p_values,
    r2_score,
    zscore_sessions,
)
from nsdldm.summary import MAPS

logger = logging.getLogger(__name__)


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
    """Fit an encoder of each feature space to every voxel and score it on the test images.

    Responses are z-scored by session with the statistics of training trials, models are fitted to
    training images and scored on the averaged trials of test images. All feature spaces share the
    folds.

    Parameters
    ----------
    kernels : dict of str to path
        By feature, as `nsdldm.ridge.compute_kernels` writes them.
    betas : str or Path
        float32 ``.npy`` of shape (n_trials, n_voxels), voxels in C-order of the mask; read in
        batches of voxels.
    trials, images : str or Path
        Tables as `nsdldm.nsd.trials.tabulate_trials` writes them.
    mask : str or Path
    maps : dict of str to path
        Outputs by feature: NIfTI of shape (X, Y, Z, 7), float32, the volumes named by
        `nsdldm.summary.MAPS`: Pearson r and R2 on test images, one-sided p of r, significance
        (0 or 1), ceiling of r, ncsnr of the responses as modelled, alpha; NaN off the mask.
    tables : dict of str to path
        Outputs by feature: a row a voxel, columns i, j, k (0-based) and those of the maps.
    alphas : list of float
    n_folds : int
    fdr : float
        False discovery rate over the voxels of a feature space (Benjamini & Hochberg).
    train_on : {"averages", "trials"}
        Fit to the average of an image's trials, or to single trials.
    zscore : bool
        Without it there is no ceiling: it is defined for z-scored responses.
    memory_gb : float
    device : {"auto", "cpu", "cuda"}
    seed : int
        Of the folds.
    """
    set_device(device)
    trials, images = load_table(trials), load_table(images)
    betas, inside = load_array(betas), load_mask(mask)
    design = _make_design(trials, images, train_on)
    folds = group_folds(design["groups"], n_folds, seed)
    batches = plan_batches(
        n_train=len(design["rows"]),
        n_test=len(design["test"]),
        n_voxels=betas.shape[1],
        n_alphas=len(alphas),
        n_folds=n_folds,
        memory_gb=memory_gb,
    )
    logger.info(
        "%d voxels, %d training samples, %d test images; batches of %d voxels; predicted peak of "
        "the fit %.2f GB",
        betas.shape[1],
        len(design["rows"]),
        len(design["test"]),
        batches["voxels"],
        batches["bytes"] / 1e9,
    )
    scores = {name: np.full((betas.shape[1], len(MAPS)), np.nan) for name in kernels}
    grams = {name: _cut_kernel(path, design) for name, path in kernels.items()}
    starts = range(0, betas.shape[1], batches["voxels"])
    for start in progress(starts, len(starts), "batches of voxels"):
        columns = slice(start, start + batches["voxels"])
        train, test, ncsnr = _prepare_responses(betas[:, columns], trials, design, zscore)
        ceiling = noise_ceiling(ncsnr, design["repeats"])
        for name, (gram, gram_test) in grams.items():
            predicted, best = fit_ridge(
                gram, gram_test, train, alphas=alphas, folds=folds, batches=batches
            )
            r = correlate(predicted, test)
            p = p_values(r, len(test))
            parts = {"r": r, "r2": r2_score(test, predicted), "p": p, "alpha": best}
            for key, values in (parts | {"ceiling": ceiling, "ncsnr": ncsnr}).items():
                scores[name][columns, MAPS.index(key)] = values
    for name, values in scores.items():
        values[:, MAPS.index("significant")] = control_fdr(values[:, MAPS.index("p")], fdr)
        _warn_of_edges(name, values, alphas)
        _save(values, inside, load_volume(mask)[1], maps[name], tables[name])


def _make_design(trials, images, train_on):
    """What is fitted to what.

    Returns
    -------
    dict
        rows: image of each training sample; groups: the same, for the folds; test: test images;
        all as rows of `images`. repeats: trials of each test image. train_on.
    """
    train = images["split"].to_numpy() == "train"
    index = np.searchsorted(images["nsd_id"], trials["nsd_id"])
    rows = np.flatnonzero(train) if train_on == "averages" else index[train[index]]
    return {
        "train_on": train_on,
        "rows": rows,
        "groups": rows,
        "test": np.flatnonzero(~train),
        "repeats": images["n_trials"].to_numpy()[~train],
        "images": images["nsd_id"].to_numpy(),
        "train_trials": train[index],
    }


def _cut_kernel(path, design):
    """The kernel between training samples, and between test images and training samples."""
    kernel = load_array(path)
    rows, test = design["rows"], design["test"]
    return np.ascontiguousarray(kernel[rows][:, rows]), np.ascontiguousarray(kernel[test][:, rows])


def _prepare_responses(betas, trials, design, zscore):
    """z-score and average the responses of some voxels.

    Returns
    -------
    train : float32 array of shape (n_samples, n_voxels)
    test : float32 array of shape (n_test, n_voxels)
    ncsnr : float array of shape (n_voxels,)
        Of the responses as modelled; NaN where they are not z-scored.
    """
    sessions, nsd_ids = trials["session"].to_numpy(), trials["nsd_id"].to_numpy()
    betas = np.array(betas, np.float32)
    ncsnr = np.full(betas.shape[1], np.nan)
    if zscore:
        betas = zscore_sessions(betas, sessions, design["train_trials"])
        ncsnr = estimate_ncsnr(betas, nsd_ids)
    averages = average_trials(betas, nsd_ids, design["images"])
    train = averages[design["rows"]]
    if design["train_on"] == "trials":
        train = betas[design["train_trials"]]
    test = averages[design["test"]]
    missing = np.isnan(train).sum() + np.isnan(test).sum()
    if missing:
        share = missing / (train.size + test.size)
        logger.info("%.2f %% of responses have no data and count as the mean", 100 * share)
    mean = np.nan_to_num(np.nanmean(train, axis=0)) if not zscore else np.float32(0)
    return np.where(np.isnan(train), mean, train), np.where(np.isnan(test), mean, test), ncsnr


def _warn_of_edges(name, values, alphas):
    """Say so if the best alpha may lie beyond the grid."""
    alpha = values[values[:, MAPS.index("significant")] == 1, MAPS.index("alpha")]
    share = (
        np.isin(np.float32(alpha), np.float32([min(alphas), max(alphas)])).mean()
        if len(alpha)
        else 0
    )
    if share > 0.05:
        logger.warning(
            "%s: %.0f %% of significant voxels have an alpha at an edge of the grid (%g to %g); "
            "widen encoding.alphas",
            name,
            100 * share,
            min(alphas),
            max(alphas),
        )
    r = values[:, MAPS.index("r")]
    logger.info("%s: median r %.3f, %d significant voxels", name, np.nanmedian(r), len(alpha))


def _save(values, inside, affine, volume, table):
    """Write the scores of one feature space as volumes and as a table."""
    data = np.full((*inside.shape, len(MAPS)), np.nan, np.float32)
    data[inside] = values
    save_volume(volume, data, affine)
    columns = dict(zip(("i", "j", "k"), np.nonzero(inside), strict=True))
    columns |= dict(zip(MAPS, values.T, strict=True))
    columns["significant"] = columns["significant"].astype(int)
    save_table(table, pd.DataFrame(columns))
