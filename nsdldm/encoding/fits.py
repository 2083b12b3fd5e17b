"""Fit encoders of one subject's voxels. Fits only predict the test images; scoring is elsewhere."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from nsdldm import ridge
from nsdldm.encoding.joint import BASE, check_weights, count_dividing, fit_beside, read_kernels
from nsdldm.encoding.predictions import (
    Model,
    Predictions,
    create_predictions,
    name_pair,
    write_model,
)
from nsdldm.features.kernels import Kernels
from nsdldm.responses import UNUSED, Responses
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import load_table

logger = logging.getLogger(__name__)


class FitSettings(NamedTuple):
    """How encoders are fitted.

    Parameters
    ----------
    alphas : list of float
        Penalties tried; kernels have a mean diagonal of 1.
    weights : list of float
        Weights of the base space tried in joint models, from 0 to 1. Models of a single space also
        try the penalties that these weights imply (`nsdldm.ridge.list_penalties`); a weight of 1
        alone adds none.
    n_folds : int
        Cross-validation folds, grouped by image.
    memory_gb : float
        Memory the process may use, in units of 1e9 bytes; sets the batches.
    seed : int
        Shuffles images over folds.
    device : {"auto", "cpu", "cuda"}
    """

    alphas: list
    weights: list
    n_folds: int
    memory_gb: float
    seed: int
    device: str


def find_rows(responses: Responses, images: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Row of the kernels that belongs to each training and each test response.

    Parameters
    ----------
    responses : nsdldm.responses.Responses
    images : DataFrame

    Returns
    -------
    train, test : int arrays of shape (n_train,) and (n_test,)
    """
    position = pd.Series(np.arange(len(images)), images["nsd_id"])
    return tuple(position[ids].to_numpy() for ids in (responses.train_ids, responses.test_ids))


def check_inputs(kernels: Kernels, responses: Responses, images: Path | str) -> pd.DataFrame:
    """Compare the images of all inputs, and report every contradiction.

    Parameters
    ----------
    kernels : nsdldm.features.kernels.Kernels
    responses : nsdldm.responses.Responses
    images : path

    Returns
    -------
    DataFrame
        The table of images.

    Raises
    ------
    InputError
    """
    table = load_table(images)
    shape = (len(table),) * 2
    findings = []
    for space, found in kernels.shapes.items():
        if found != shape:
            where, expected = f"{kernels.find(space)}, {space}", f"shape {shape} as in {images}"
            findings.append(Finding(where, expected, str(found), "Compute it again"))
    used = table[table["split"] != UNUSED]
    ids = {split: set(own) for split, own in used.groupby("split")["nsd_id"]}
    both = {"train": set(responses.train_ids), "test": set(responses.test_ids)}
    if ids != {split: own for split, own in both.items() if own}:
        remedy = "Prepare the responses again"
        findings.append(Finding(str(responses.path), f"the images of {images}", "others", remedy))
    if len(both["test"]) < 3:
        remedy = "Use sessions that share images with the other subjects"
        findings.append(Finding(str(images), "at least 3 test images", "fewer", remedy))
    if findings:
        raise InputError(*findings)
    return table


def _plan_beside(rows, beside, held, memory_gb, *sizes):
    """`ridge.plan_batches`, with memory for additional kernels and test samples."""
    n_train, n_test = map(len, rows)
    free = ridge.free_device_memory()
    # It counts two numbers per test sample and voxel.
    n_test += math.ceil(held * n_test / 2)
    try:
        return ridge.plan_batches(
            n_train, n_test, *sizes, memory_gb - beside, None if free is None else free - beside
        )
    except InputError as error:
        if not beside:
            raise
        remedy = "Add it to what is expected"
        more = Finding("`memory_gb`", f"{beside:.2f} more, for further kernels", "none", remedy)
        raise InputError(*error.findings, more) from None


def plan_fits(
    rows: tuple[np.ndarray, np.ndarray],
    n_voxels: int,
    settings: FitSettings,
    n_kernels: int = 1,
    beside: int = 0,
    kept: int | None = None,
) -> dict[str, int]:
    """Plan the fits of a subject, and log the memory they need.

    Parameters
    ----------
    rows : (train, test)
        As `find_rows` returns them.
    n_voxels : int
    settings : FitSettings
    n_kernels : int
        Kernels of one model.
    beside : int
        Bytes needed in addition.
    kept : int, optional
        Further models whose predictions are kept during a fit: by default one for each further
        kernel.

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
    # Each further kernel as read, himalaya's copy, its centred copy and the weighted kernel; and,
    # alongside the predictions of a joint model, those of single models.
    beside += 4 * (n_kernels - 1) * n_train * (4 * n_train + n_test)
    n_penalties = len(ridge.list_penalties(settings.alphas, settings.weights))
    sizes = n_voxels, n_penalties, settings.n_folds
    kept = n_kernels - 1 if kept is None else kept
    plan = _plan_beside(rows, beside / 1e9, kept, settings.memory_gb, *sizes)
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


def _open_base(path, responses):
    """Models of the base space, which must have been fitted to the same responses."""
    base = Predictions(path)
    if base.every != 1 or base.form != responses.form:
        expected = f"models of all voxels, fitted to {responses.form}"
        found = f"of every {base.every}, fitted to {base.form}"
        raise InputError(Finding(str(path), expected, found, "Fit the encoders again"))
    base.open_responses(responses.path)
    return base


def fit_encoders(
    *,
    spaces: list[str],
    kernels: list[Path | str],
    responses: Path | str,
    form: str,
    images: Path | str,
    predictions: Path | str,
    settings: FitSettings,
    base: Path | str | None = None,
    every: int = 1,
) -> None:
    """Predict every voxel of a subject from each feature space, alone or jointly with a base space.

    Each voxel and space has a kernel ridge regression with an intercept and a penalty chosen by
    cross-validation over training images, with the same folds for all. A joint model is a kernel
    ridge regression on a weighted sum of two kernels, that of the base space and that of another
    space, with weights and penalty chosen on the same folds (`nsdldm.encoding.joint`).

    Parameters
    ----------
    spaces : list of str
        With a base, ``{space}-linear`` and ``{space}-residual`` are derived from the kernel of
        {space}: the part that is linear in the base space, and the remainder.
    kernels : list of path
        Files with the kernel of each space, and of the base if there is one, as
        `nsdldm.features.kernels.compute_kernels` writes them.
    responses : path
        As `nsdldm.responses.prepare_responses` writes them; never read at once.
    form : str
        Of the responses, such as ``zscored/averages``.
    images : path
        ``images.tsv``: a row per image, in the order of the kernels.
    predictions : path
        Output, read by `nsdldm.encoding.predictions.Predictions`: models called ``{space}``, or
        with a base ``z+{space}``.
    settings : FitSettings
    base : path, optional
        Predictions from the base space z, made by this function for all voxels.
    every : int
        Fit only every n-th voxel, which suffices for means over regions of controls.

    Raises
    ------
    InputError
        Inputs contradict each other, or there is too little memory.
    """
    known, kernels = Responses(responses, form), Kernels(kernels)
    table = check_inputs(kernels, known, images)
    if base:
        check_weights(settings.weights)
    ridge.set_device(settings.device)
    rows, n_voxels = find_rows(known, table), -(-known.n_voxels // every)
    beside = count_dividing(spaces, len(table))
    plan = plan_fits(rows, n_voxels, settings, 2 if base else 1, beside)
    folds = ridge.group_folds(rows[0], settings.n_folds, settings.seed)
    read = read_kernels(kernels, table, rows, settings)
    base = base and _open_base(base, known)
    names = [*spaces, *(name_pair((BASE, space)) for space in spaces if base)]
    penalties = ridge.list_penalties(settings.alphas, settings.weights)
    with create_predictions(predictions, names, n_voxels, known, penalties, every) as file:
        for start in range(0, n_voxels, plan["voxels"]):
            block = slice(start, min(start + plan["voxels"], n_voxels))
            columns = slice(every * start, every * (block.stop - 1) + 1, every)
            fit = known.read_train(columns), penalties, folds, plan
            alone = base and base.read(BASE, columns)
            for space in spaces:
                began, kernel = time.monotonic(), read(space)
                single = Model(*ridge.fit_ridge(*kernel, *fit))
                write_model(file, space, block, single)
                if base:
                    joint = fit_beside((read(BASE), kernel), (alone, single), settings, fit)
                    write_model(file, name_pair((BASE, space)), block, joint)
                del kernel
                message = "%s: voxels to %d of %d in %.0f s"
                logger.info(message, space, block.stop, n_voxels, time.monotonic() - began)
