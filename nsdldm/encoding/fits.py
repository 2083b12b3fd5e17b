"""Voxel-wise encoding models of one subject: fits, maps and tables."""

import logging
import math
import time

import numpy as np
import pandas as pd

from nsdldm import responses, ridge, stats
from nsdldm.encoding.cells import Collector, find_cells
from nsdldm.encoding.summary import MAPS
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import (
    load_array,
    load_mask,
    load_table,
    load_volume,
    save_table,
    save_volume,
)

logger = logging.getLogger(__name__)

# Share of significant voxels at an end of the penalties that calls for a wider range.
EDGE_SHARE = 0.05
SCORED_AT_ONCE = 4096


def check_inputs(kernels, betas, trials, images, mask):
    """Read the tables after comparing all inputs' sizes; every contradiction is reported.

    Parameters
    ----------
    kernels, betas, trials, images, mask
        As `fit_encoders` takes them.

    Returns
    -------
    trials, images : DataFrame

    Raises
    ------
    InputError
    """
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
        values = responses.zscore_sessions(values, trials["session"].to_numpy(), train)
        ratio = responses.ncsnr(values, nsd_ids)
    else:
        # Any unit does for a correlation, but missing values are filled by 0, the mean.
        values = responses.center(values, train)
        ratio = np.full(values.shape[1], np.nan, np.float32)
    wanted = {split: group.to_numpy() for split, group in images.groupby("split")["nsd_id"]}
    test, filled_test = responses.average_trials(values, nsd_ids, wanted["test"])
    if train_on == "averages":
        fitted, filled = responses.average_trials(values, nsd_ids, wanted["train"])
    else:
        filled = int(np.isnan(values[train]).sum())
        fitted = np.nan_to_num(values[train])
    return fitted, test, ratio, int(filled_test.sum() + np.sum(filled))


def _prepare_block(betas, block, rows, step, every, **how):
    """`_prepare_targets` for a block of voxels, a few at a time to save memory."""
    n_voxels = block.stop - block.start
    fitted, test = (np.empty((len(samples), n_voxels), np.float32) for samples in rows)
    ratio, filled = np.empty(n_voxels, np.float32), 0
    for start in range(0, n_voxels, step):
        part = slice(start, min(start + step, n_voxels))
        first, last = block.start + part.start, block.start + part.stop - 1
        columns = slice(every * first, every * last + 1, every)
        fitted[:, part], test[:, part], ratio[part], n = _prepare_targets(betas, columns, **how)
        filled += n
    if filled:
        share = 100 * filled / (len(fitted) + len(test)) / n_voxels
        logger.info("%d missing values (%.2f %%) set to the voxel's mean", filled, share)
    return fitted, test, ratio


def score(observed, predicted):
    """r and R² of each column, a few columns at a time to save memory.

    Parameters
    ----------
    observed, predicted : arrays of shape (n, n_voxels)

    Returns
    -------
    float64 array of shape (2, n_voxels)
    """
    scores = np.empty((2, observed.shape[1]))
    for start in range(0, observed.shape[1], SCORED_AT_ONCE):
        part = slice(start, start + SCORED_AT_ONCE)
        scores[0, part] = stats.correlate(observed[:, part], predicted[:, part])
        scores[1, part] = stats.r2(observed[:, part], predicted[:, part])
    return scores


def find_rows(trials, images, train_on):
    """The image, as row of the kernels, of each training and each test sample.

    Parameters
    ----------
    trials, images : DataFrame
    train_on : "averages" or "trials"

    Returns
    -------
    train, test : int arrays of shape (n_train,) and (n_test,)
    """
    train = np.flatnonzero(images["split"] == "train")
    if train_on == "trials":
        position = pd.Series(np.arange(len(images)), images["nsd_id"])
        train = position[trials.loc[trials["split"] == "train", "nsd_id"]].to_numpy()
    return train, np.flatnonzero(images["split"] == "test")


def _plan_beside(rows, beside, held, memory_gb, *sizes):
    """`ridge.plan_batches` with memory for more kernels and test samples than its own."""
    n_train, n_test = map(len, rows)
    free = ridge.free_device_memory()
    # It counts two numbers a test sample and voxel: observed and predicted.
    n_test += math.ceil(held * n_test / 2)
    try:
        return ridge.plan_batches(
            n_train, n_test, *sizes, memory_gb - beside, None if free is None else free - beside
        )
    except InputError as error:
        if not beside:
            raise
        remedy = "Add it to what is expected"
        more = Finding("encoding.memory_gb", f"{beside:.2f} more, for two kernels", "none", remedy)
        raise InputError(*error.findings, more) from None


def plan_fits(rows, n_voxels, n_alphas, n_folds, memory_gb, held=0, n_kernels=1, beside=0):
    """Plan the fits of a subject, and log what they will take.

    Parameters
    ----------
    rows : (train, test)
        As `find_rows` returns them.
    n_voxels, n_alphas, n_folds : int
    memory_gb : float
        Memory the process may use, in units of 1e9 bytes.
    held : int
        Predictions of the test samples by other models that are kept meanwhile.
    n_kernels : int
        Kernels of one model.
    beside : int
        Bytes that are needed besides.

    Returns
    -------
    dict of int
        As `nsdldm.ridge.plan_batches` returns it.

    Raises
    ------
    InputError
        Too little memory.
    """
    n_train, n_test = map(len, rows)
    # Each further kernel as read, himalaya's copy, its centred one and the weighted one.
    beside += 4 * (n_kernels - 1) * n_train * (4 * n_train + n_test)
    plan = _plan_beside(rows, beside / 1e9, held, memory_gb, n_voxels, n_alphas, n_folds)
    plan["peak"] += beside
    plan["device_peak"] += beside if plan["device_peak"] else 0
    logger.info(
        "%d training and %d test samples; %d voxels, %d in a call",
        *(n_train, n_test, n_voxels, plan["voxels"]),
    )
    where = f" and {plan['device_peak'] / 1e9:.1f} GB on the GPU" if plan["device_peak"] else ""
    message = "predicted peak memory %.1f GB%s (batches of %d voxels and %d alphas)"
    logger.info(message, plan["peak"] / 1e9, where, plan["targets"], plan["alphas"])
    return plan


def load_kernel(path, rows):
    """Read what a fit needs of a kernel.

    Parameters
    ----------
    path : path
        Gram matrix of all images.
    rows : (train, test)
        As `find_rows` returns them.

    Returns
    -------
    list of float32 arrays of shapes (n_train, n_train) and (n_test, n_train)
    """
    kernel, train = load_array(path), rows[0]
    return [np.array(kernel[np.ix_(samples, train)]) for samples in rows]


def count_every(betas, every):
    """Number of voxels when only every so many are taken, from the first."""
    return -(-load_array(betas).shape[1] // every)


def prepare_blocks(betas, trials, images, rows, plan, train_on, zscore, every=1):
    """Read and prepare as many voxels at a time as the plan allows.

    Parameters
    ----------
    betas : path
    trials, images : DataFrame
    rows : (train, test)
        As `find_rows` returns them.
    plan : dict
        As `nsdldm.ridge.plan_batches` returns it.
    train_on : "averages" or "trials"
    zscore : bool
    every : int
        Take every so many voxels.

    Yields
    ------
    block : slice
        The voxels, counted among those taken.
    fitted, observed : float32 arrays of shape (n_train, n_block) and (n_test, n_block)
        Responses to fit to, and averages over the test images' trials.
    ratio : float32 array of shape (n_block,)
        ncsnr; NaN without z-scores.
    """
    # Preparing takes up to 48 bytes a trial and voxel.
    step = max(1, plan["spare"] // (48 * len(trials)))
    how = {"trials": trials, "images": images, "train_on": train_on, "zscore": zscore}
    n_voxels = count_every(betas, every)
    for start in range(0, n_voxels, plan["voxels"]):
        block = slice(start, min(start + plan["voxels"], n_voxels))
        yield block, *_prepare_block(betas, block, rows, step, every, **how)


def describe_noise(ratio, trials, images):
    """The columns of a table that say how well any model could predict a voxel.

    Parameters
    ----------
    ratio : float array of shape (n_voxels,)
        ncsnr.
    trials, images : DataFrame

    Returns
    -------
    dict of float arrays of shape (n_voxels,)
        ncsnr and ceiling, the largest correlation with averaged test trials.
    """
    repeats = images["nsd_id"].map(trials["nsd_id"].value_counts())[images["split"] == "test"]
    return {"ncsnr": ratio, "ceiling": responses.noise_ceiling(ratio, repeats.to_numpy())}


def warn_edges(name, chosen, alphas):
    """Warn where many of the penalties chosen are the smallest or largest of those tried.

    Parameters
    ----------
    name : str
        What was fitted.
    chosen : Series of shape (n_significant,)
        The penalty of each significant voxel.
    alphas : list of float
        Penalties tried.
    """
    for edge, where in ((min(alphas), "smallest"), (max(alphas), "largest")):
        share = (chosen == edge).mean() if len(chosen) else 0
        if share > EDGE_SHARE:
            message = "%s: %.0f %% of significant voxels chose the %s alpha, %g; widen the range"
            logger.warning(message, name, 100 * share, where, edge)


def _finish(name, table, alphas, n_test, q):
    """Add significance to a table of scores and log what matters about it."""
    table.loc[table["r"].isna(), "alpha"] = np.nan
    table["p"] = stats.p_values(table["r"], n_test)
    table["significant"] = stats.fdr(table["p"], q)
    chosen = table.loc[table["significant"], "alpha"]
    found = f"{name}: {len(chosen)} of {len(table)} voxels predicted at FDR {q:g}"
    logger.info("%s, median r %.3f", found, table["r"].median())
    warn_edges(name, chosen, alphas)
    return table


def write_maps(table, mask, map_path, table_path, every=1):
    """Write a table of voxels, and its columns as volumes of a 4-D map.

    Parameters
    ----------
    table : DataFrame
        One row per voxel, in the C-order of the mask, or per every so many voxels.
    mask : path
    map_path, table_path : path
        float32 NIfTI, NaN off the mask; table with i, j, k before the columns of `table`.
    """
    data, affine = load_volume(mask)
    places = np.argwhere(data > 0)[::every]
    volumes = np.full((*data.shape, table.shape[1]), np.nan, np.float32)
    volumes[tuple(places.T)] = table.to_numpy(np.float32)
    save_volume(map_path, volumes, affine)
    voxels = pd.DataFrame(places, columns=["i", "j", "k"])
    save_table(table_path, voxels.join(table))


def collect_shares(mask, regions, every, images, min_ncsnr):
    """A collector of what each test image adds to scores.

    Parameters
    ----------
    mask, regions, every, min_ncsnr
        As `fit_encoders` takes them.
    images : DataFrame

    Returns
    -------
    nsdldm.encoding.cells.Collector
    """
    tested = images.loc[images["split"] == "test", "nsd_id"]
    return Collector(find_cells(mask, regions, every), tested, min_ncsnr)


def fit_encoders(
    *,
    kernels,
    betas,
    trials,
    images,
    mask,
    regions,
    maps,
    tables,
    sums,
    alphas,
    n_folds,
    fdr,
    train_on,
    zscore,
    memory_gb,
    device,
    seed,
    weights=(1,),
    min_ncsnr=0,
    every=1,
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
    regions : dict of path
        Masks of the regions over which `sums` are made.
    maps, tables : dict of path
        Output for each space: a float32 NIfTI whose volumes are `nsdldm.encoding.summary.MAPS`, NaN
        off the mask, and a table with a row a voxel in C-order of the mask (i, j, k and these).
    sums : path
        Output: what each test image adds to r, by ``r:{space}``, as
        `nsdldm.encoding.cells.load_sums` reads.
    alphas, weights : list of float
        Penalties tried are those of `nsdldm.ridge.list_penalties`, as beside joint models; kernels
        have a mean diagonal of 1.
    n_folds : int
    fdr : float
        False discovery rate.
    train_on : "averages" or "trials"
        Fit to each image's averaged trials or to single trials.
    zscore : bool
        z-score each session by its training trials; without, no noise ceiling is known.
    min_ncsnr : float
        Least ncsnr of the voxels in `sums`; 0 takes all.
    every : int
        Controls are fitted in every so many voxels, which have sums of their own.
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
    shown, seen = check_inputs(kernels, betas, trials, images, mask)
    ridge.set_device(device)
    rows = find_rows(shown, seen, train_on)
    n_voxels = load_array(betas).shape[1]
    alphas = ridge.list_penalties(alphas, weights)
    plan = plan_fits(rows, n_voxels, len(alphas), n_folds, memory_gb)
    folds = ridge.group_folds(rows[0], n_folds, seed)
    shares = collect_shares(mask, regions, every, seen, min_ncsnr)

    scores = {name: np.empty((3, n_voxels)) for name in kernels}
    ratio = np.empty(n_voxels, np.float32)
    how = shown, seen, rows, plan, train_on, zscore
    for block, fitted, observed, known in prepare_blocks(betas, *how):
        ratio[block] = known
        for name, path in kernels.items():
            began = time.monotonic()
            kernel = load_kernel(path, rows)
            predicted, chosen = ridge.fit_ridge(*kernel, fitted, alphas, folds, plan)[:2]
            del kernel
            scores[name][:, block] = *score(observed, predicted), chosen
            voxels = np.arange(n_voxels)[block]
            shares.add(f"r:{name}", voxels, stats.share_r(observed, predicted), known)
            seconds = time.monotonic() - began
            logger.info("%s: voxels to %d of %d in %.0f s", name, block.stop, n_voxels, seconds)

    known = describe_noise(ratio, shown, seen)
    for name in kernels:
        table = pd.DataFrame(dict(zip(("r", "r2", "alpha"), scores[name], strict=True)) | known)
        table = _finish(name, table, alphas, len(rows[1]), fdr)
        write_maps(table[list(MAPS)], mask, maps[name], tables[name])
    shares.save(sums)
