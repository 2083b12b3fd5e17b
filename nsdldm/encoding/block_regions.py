"""Which block of the U-Net predicts a region best on average, with intervals over test images."""

import logging

import numpy as np
import pandas as pd

from nsdldm.intervals import bootstrap_group
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import load_array, load_mask, load_table, save_table

logger = logging.getLogger(__name__)

MEAN = "mean"


def scale_errors(observed, predictions):
    """Squared errors in units of each voxel's variance over the test images.

    Parameters
    ----------
    observed : float32 array of shape (n_test, n_voxels)
    predictions : float32 array of shape (n_blocks, n_test, n_voxels)

    Yields
    ------
    float16 array of shape (n_test, n_voxels)
        Of each block; NaN for voxels that are constant. 1 minus its mean over images is R².
    """
    variance = observed.var(axis=0)
    variance[np.ptp(observed, axis=0) == 0] = np.nan
    most = np.finfo(np.float16).max
    for predicted in predictions:
        yield np.minimum(np.square(observed - predicted) / variance, most).astype(np.float16)


def read_regions(errors, table, images, masks, blocks):
    """Average the errors of each region's voxels, as far as they can be predicted at all.

    These are the voxels that their best block predicts in training cross-validation (R² above 0),
    which does not depend on the test images.

    Parameters
    ----------
    errors : path
        float16 array of shape (n_blocks, n_test, n_voxels) of `scale_errors`.
    table : path
        Table of the voxels, with i, j, k and cv_{block}.
    images : path
        Table of images.
    masks : dict of path
        Of the regions.
    blocks : list of str

    Returns
    -------
    dict of dict
        For each region that has such voxels: ``errors``, a DataFrame with a row a test image
        (nsd_id) and a column a block; ``cv``, the mean R² of each block over training folds; and
        ``n_voxels``.
    """
    voxels, seen, values = load_table(table), load_table(images), load_array(errors)
    nsd_ids = seen.loc[seen["split"] == "test", "nsd_id"].to_numpy()
    cv = voxels[[f"cv_{block}" for block in blocks]].to_numpy()
    if values.shape != (len(blocks), len(nsd_ids), len(voxels)):
        expected = f"shape ({len(blocks)}, {len(nsd_ids)}, {len(voxels)}): blocks, images, voxels"
        raise InputError(
            Finding(str(errors), expected, str(values.shape), "Choose the blocks again")
        )
    known = (cv.max(axis=1) > 0) & np.isfinite(values[0, 0])
    places, regions = tuple(voxels[axis] for axis in "ijk"), {}
    for roi, path in masks.items():
        chosen = np.flatnonzero(load_mask(path)[places] & known)
        if len(chosen):
            means = [block[:, chosen].mean(axis=1, dtype=np.float64) for block in values]
            found = pd.DataFrame(dict(zip(blocks, means, strict=True)), nsd_ids)
            regions[roi] = {"errors": found, "cv": cv[chosen].mean(0), "n_voxels": len(chosen)}
    return regions


def summarise_regions(subjects, blocks, repeats, seed):
    """Name the block that predicts each region best, and how clearly.

    The best block and the second are those of training cross-validation, averaged over a region's
    voxels; test images say by how much the first predicts better than the second.

    Parameters
    ----------
    subjects : dict of dict
        For each subject what `read_regions` returns.
    blocks : list of str
    repeats, seed : int
        Of the bootstrap over images; all subjects share the draws.

    Returns
    -------
    DataFrame
        One row per subject and region, and one for their ``mean`` if several: subject, roi, block,
        second, lead (R² of the block minus that of the second), ci_low, ci_high (95 %), r2_{block}
        of each, n_voxels, n_images, and for the mean n_subjects, n_agree (subjects with the same
        best block) and n_clear (of these, those whose interval is above 0).
    """
    rows = []
    for roi in dict.fromkeys(roi for regions in subjects.values() for roi in regions):
        own = {subject: regions[roi] for subject, regions in subjects.items() if roi in regions}
        single = [
            {"subject": subject} | _compare([region], blocks, repeats, seed)
            for subject, region in own.items()
        ]
        if len(subjects) > 1:
            mean = _compare(list(own.values()), blocks, repeats, seed)
            agree = [row for row in single if row["block"] == mean["block"]]
            mean |= {"n_subjects": len(single), "n_agree": len(agree)}
            mean |= {"subject": MEAN, "n_clear": sum(row["ci_low"] > 0 for row in agree)}
            single.append(mean)
        rows += [{"roi": roi} | row for row in single]
    counts = ["n_subjects", "n_agree", "n_clear"]
    numbers = ["lead", "ci_low", "ci_high", *(f"r2_{block}" for block in blocks)]
    columns = ["subject", "roi", "block", "second", *numbers, "n_voxels", "n_images", *counts]
    table = pd.DataFrame(rows, columns=columns)
    return table.astype(dict.fromkeys(counts, "Int64"))


def _compare(regions, blocks, repeats, seed):
    """Best and second block of one region, over one subject or several."""
    cv = np.mean([region["cv"] for region in regions], axis=0)
    best, second = (blocks[number] for number in np.argsort(-cv, kind="stable")[:2])
    errors = [region["errors"] for region in regions]
    groups = [(own.index.to_numpy(), (own[second] - own[best]).to_numpy()) for own in errors]
    low, high = bootstrap_group(groups, repeats, seed)
    row = {"block": best, "second": second, "ci_low": low, "ci_high": high}
    row["lead"] = np.mean([values.mean() for _, values in groups])
    row |= {f"r2_{block}": 1 - np.mean([own[block].mean() for own in errors]) for block in blocks}
    row["n_voxels"] = sum(region["n_voxels"] for region in regions)
    return row | {"n_images": len(set().union(*(own.index for own in errors)))}


def tabulate_blocks(*, errors, tables, images, masks, blocks, output, repeats, seed):
    """Set the best block of each region side by side, by subject and denoising step.

    Parameters
    ----------
    errors, tables : dict of path
        Keys (subject, share of the denoising steps): as `nsdldm.encoding.blocks.choose_blocks`
        writes them.
    images : dict of path
        Of each subject.
    masks : dict of path
        Keys (subject, roi).
    blocks : list of str
    output : path
        Table of the rows of `summarise_regions`, with the column share.
    repeats, seed : int
        As `summarise_regions`.
    """
    parts = []
    for share in dict.fromkeys(share for _, share in errors):
        subjects = {}
        for subject in images:
            own = {roi: path for (owner, roi), path in masks.items() if owner == subject}
            files = errors[subject, share], tables[subject, share], images[subject]
            subjects[subject] = read_regions(*files, own, blocks)
        part = summarise_regions(subjects, blocks, repeats, seed)
        part.insert(1, "share", share)
        parts.append(part)
    table = pd.concat(parts, ignore_index=True)
    save_table(output, table)
    logger.info("%d rows", len(table))
