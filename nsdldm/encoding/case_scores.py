"""Score encoders on the test images of a case, by region and class of image."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t as student

from nsdldm import stats
from nsdldm.encoding.predictions import Predictions
from nsdldm.intervals import LEVEL
from nsdldm.nsd.grids import load_masks
from nsdldm.responses import Responses, noise_ceiling
from nsdldm.support.errors import Finding, InputError, reading
from nsdldm.support.files import REMAKE, load_mask, load_table, open_hdf5, save_table

logger = logging.getLogger(__name__)

# The name of all test images among the classes, and the fewest images of a class.
ALL = "all"
LEAST_IMAGES = 5
SCORES = ("r", "low", "high", "ceiling", "normalised", "normalised_low", "normalised_high")


def find_members(
    mask: Path | str, regions: dict[str, Path | str], n_voxels: int
) -> dict[str, np.ndarray]:
    """Which voxels of a mask lie in each region.

    Parameters
    ----------
    mask : path
    regions : dict of path
        Masks on the same grid.
    n_voxels : int
        That models were fitted to.

    Returns
    -------
    dict of bool array of shape (n_voxels,)
        In C-order of the mask.

    Raises
    ------
    InputError
        The grids differ, or the mask has another number of voxels.
    """
    load_masks({"the mask": mask} | regions)
    inside = load_mask(mask)
    if inside.sum() != n_voxels:
        expected = f"a mask of {n_voxels} voxels, as were fitted"
        found = str(inside.sum())
        raise InputError(Finding(str(mask), expected, found, "Make the mask again"))
    return {name: load_mask(path)[inside] for name, path in regions.items()}


def score_case_encoders(
    *,
    predictions: Path | str,
    responses: Path | str,
    images: Path | str,
    mask: Path | str,
    regions: dict[str, Path | str],
    ncsnr: Path | str,
    min_ncsnr: float,
    table: Path | str,
    by_group: bool = True,
) -> None:
    """Score how well encoders predict the test images of a case, and each class of them.

    A row holds the mean over voxels of a region of the correlation over images. Its interval (95 %)
    is that of the jackknife over images, with Student's t; unlike a bootstrap, it holds with as few
    images as a class has. Voxels are read a block at a time.

    Parameters
    ----------
    predictions : path
        As `nsdldm.encoding.transfer.predict_case` writes them.
    responses : path
        Of the case, as `nsdldm.responses.prepare_responses` writes them.
    images : path
        Its table of images: nsd_id, group.
    mask : path
        NIfTI mask of the voxels; their C-order is that of the responses.
    regions : dict of path
        Masks.
    ncsnr : path
        Responses of the core experiment, by whose ncsnr voxels are chosen in every case.
    min_ncsnr : float
        Minimum ncsnr of the voxels; 0 takes all.
    table : path
        Output, a row per region, space and group (``all``, and each class with at least
        `LEAST_IMAGES` test images): n_voxels, n_images, r, low, high; ceiling, the mean noise
        ceiling of the same voxels with as many trials as the group's images have; normalised,
        normalised_low and normalised_high, these divided by it; and reliability, left empty. The
        ceiling assumes that a class varies responses as much as all images do, so within a class
        of similar images it is too high.
    by_group : bool
        Whether there are rows of single groups.

    Raises
    ------
    InputError
        Inputs contradict each other.
    """
    fitted = Predictions(predictions)
    known = fitted.open_responses(responses)
    members = find_members(mask, regions, known.n_voxels)
    core = Responses(ncsnr, fitted.form).ncsnr
    if len(core) != known.n_voxels:
        found, remedy = f"{len(core)}", "Prepare the responses again"
        raise InputError(Finding(str(ncsnr), f"{known.n_voxels} voxels", found, remedy))
    chosen = (core >= min_ncsnr) | (min_ncsnr == 0)
    inside = np.array([member & chosen for member in members.values()], np.float64)
    repeats = _read_repeats(responses, len(known.test_ids))
    groups = _find_groups(images, known.test_ids)
    groups = groups if by_group else {ALL: groups[ALL]}
    sums = {}
    for block, _ in fitted.blocks():
        observed = known.read_test(block)
        for space in fitted.names:
            predicted = fitted.read(space, block).predictions
            for name, rows in groups.items():
                pair = observed[rows], predicted[rows]
                ceilings = noise_ceiling(known.ncsnr[block], repeats[rows])
                added = _add_block(*pair, ceilings, inside[:, block])
                before = sums.get((space, name))
                sums[space, name] = added if before is None else before + added
    rows = [
        {"region": region, "space": space, "group": name} | row
        for (space, name), found in sums.items()
        for region, row in zip(members, _summarise(found), strict=True)
    ]
    save_table(table, pd.DataFrame(rows).sort_values("region", kind="stable", key=_order(members)))
    logger.info("%d test images, %d groups of them", len(known.test_ids), len(groups) - 1)


def _order(members):
    """Sorts rows by region in the order given."""
    places = {name: place for place, name in enumerate(members)}
    return lambda names: names.map(places)


def _read_repeats(path, n_test):
    """Number of trials of each test image."""
    with reading(path, "trials of each test image", REMAKE), open_hdf5(path) as file:
        repeats = file["repeats"][:]
    if len(repeats) != n_test:
        expected = f"the trials of {n_test} test images"
        raise InputError(Finding(str(path), expected, f"of {len(repeats)}", REMAKE))
    return repeats


def _find_groups(images, test_ids):
    """Rows of all test images, and of each class of at least `LEAST_IMAGES`."""
    table = load_table(images).set_index("nsd_id")
    if "group" not in table or not set(test_ids) <= set(table.index):
        expected = "the test images of the responses, and their group"
        remedy = "Divide the images again"
        raise InputError(Finding(str(images), expected, "others", remedy))
    # Numbers of clusters are read as float where other images have none.
    groups = table["group"].convert_dtypes().astype("string").fillna("")[test_ids].to_numpy(str)
    found = {ALL: np.arange(len(test_ids))}
    for name in sorted(set(groups) - {"", ALL}):
        rows = np.flatnonzero(groups == name)
        if len(rows) >= LEAST_IMAGES:
            found[name] = rows
    return found


def _add_block(observed, predicted, ceilings, inside):
    """Sums over the voxels of each region: their number, that of known ceilings, these ceilings, r,
    and r without each image."""
    r, others = stats.correlate(observed, predicted), stats.leave_out_r(observed, predicted)
    scored = np.isfinite(r) & np.isfinite(others).all(axis=0)
    known = np.isfinite(ceilings[scored])
    numbers = np.ones(len(known)), known, np.where(known, ceilings[scored], 0), r[scored]
    return np.vstack([*numbers, others[:, scored]]) @ inside[:, scored].T


def _summarise(sums):
    """Yield the scores of each region from the sums over its voxels."""
    n = len(sums) - 4
    with np.errstate(invalid="ignore", divide="ignore"):
        ceilings, r, others = sums[2] / sums[1], sums[3] / sums[0], sums[4:] / sums[0]
        error = np.sqrt((n - 1) * others.var(axis=0))
        half = student.ppf((1 + LEVEL) / 2, n - 2) * error
        r = np.array([r, r - half, r + half])
        scores = [*r, ceilings, *(r / np.where(ceilings > 0, ceilings, np.nan))]
    for n_voxels, values in zip(sums[0], np.transpose(scores), strict=True):
        row = {"n_voxels": int(n_voxels), "n_images": n}
        yield row | dict(zip(SCORES, values, strict=True)) | {"reliability": np.nan}
