"""Which block of the U-Net predicts a region best on average, with intervals over test images."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from nsdldm.intervals import bootstrap_group
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import load_table, save_table

logger = logging.getLogger(__name__)

MEAN = "mean"


class RegionErrors:
    """Averages the errors of each region's voxels, one block of voxels at a time.

    Only voxels that their best block predicts in training cross-validation (R² above 0) count, a
    choice that does not depend on the test images. Squared errors are in units of a voxel's
    variance over the test images, so that 1 minus their mean over images is R².

    Parameters
    ----------
    members : dict of bool array of shape (n_voxels,)
        The voxels of each region.
    blocks : list of str
    test_ids : int array of shape (n_test,)
        nsd_id of the test images.
    """

    def __init__(self, members, blocks, test_ids):
        self.members, self.blocks, self.test_ids = members, blocks, test_ids
        self.errors = {roi: np.zeros((len(test_ids), len(blocks))) for roi in members}
        self.scores = {roi: np.zeros(len(blocks)) for roi in members}
        self.counts = dict.fromkeys(members, 0)

    def add(
        self, voxels: slice, observed: np.ndarray, predictions: np.ndarray, cv_scores: np.ndarray
    ) -> None:
        """Add a block of voxels.

        Parameters
        ----------
        voxels : slice
            Their positions among all voxels.
        observed : float32 array of shape (n_test, n_block)
        predictions : float32 array of shape (n_blocks, n_test, n_block)
        cv_scores : float array of shape (n_blocks, n_block)
        """
        known = (cv_scores.max(axis=0) > 0) & (np.ptp(observed, axis=0) > 0)
        variance = observed.var(axis=0)
        for roi, member in self.members.items():
            chosen = np.flatnonzero(member[voxels] & known)
            self.counts[roi] += len(chosen)
            self.scores[roi] += cv_scores[:, chosen].sum(axis=1, dtype=np.float64)
            for number, predicted in enumerate(predictions):
                errors = np.square(observed[:, chosen] - predicted[:, chosen]) / variance[chosen]
                self.errors[roi][:, number] += errors.sum(axis=1, dtype=np.float64)

    def save(self, path: Path | str) -> None:
        """Write a table that `read_regions` reads.

        A row per region that has such voxels and test image: roi, n_voxels, nsd_id,
        error_{block}, and cv_{block}, the mean R² over training folds, which is the same in all
        rows of a region.
        """
        parts = []
        for roi, count in self.counts.items():
            if count:
                part = pd.DataFrame({"roi": roi, "n_voxels": count, "nsd_id": self.test_ids})
                for number, block in enumerate(self.blocks):
                    part[f"error_{block}"] = self.errors[roi][:, number] / count
                    part[f"cv_{block}"] = self.scores[roi][number] / count
                parts.append(part)
        columns = [f"{what}_{block}" for block in self.blocks for what in ("error", "cv")]
        empty = pd.DataFrame(columns=["roi", "n_voxels", "nsd_id", *columns])
        save_table(path, pd.concat(parts, ignore_index=True) if parts else empty)


def read_regions(path: Path | str, blocks: list[str]) -> dict[str, dict]:
    """Read what `RegionErrors` wrote.

    Parameters
    ----------
    path : path
    blocks : list of str

    Returns
    -------
    dict of dict
        For each region: ``errors``, a DataFrame with a row per test image (nsd_id) and a column per
        block; ``cv``, the mean R² of each block over training folds; and ``n_voxels``.

    Raises
    ------
    InputError
        The table has other blocks.
    """
    table = load_table(path)
    wanted = {what: [f"{what}_{block}" for block in blocks] for what in ("error", "cv")}
    missing = [name for names in wanted.values() for name in names if name not in table]
    if missing:
        expected = f"errors of the blocks {', '.join(blocks)}"
        found = f"no {', '.join(missing)}"
        raise InputError(Finding(str(path), expected, found, "Choose the blocks again"))
    regions = {}
    for roi, own in table.groupby("roi", sort=False):
        errors = own.set_index("nsd_id")[wanted["error"]].set_axis(blocks, axis=1)
        cv = own[wanted["cv"]].iloc[0].to_numpy(float)
        regions[roi] = {"errors": errors, "cv": cv, "n_voxels": int(own["n_voxels"].iloc[0])}
    return regions


def summarise_regions(
    subjects: dict[str, dict], blocks: list[str], repeats: int, seed: int
) -> pd.DataFrame:
    """Name the block that predicts each region best, and how clearly.

    The best block and the second best are chosen by training cross-validation, averaged over a
    region's voxels; test images show by how much the best predicts better.

    Parameters
    ----------
    subjects : dict of dict
        For each subject, what `read_regions` returns.
    blocks : list of str
    repeats, seed : int
        Of the bootstrap over images; all subjects share the draws.

    Returns
    -------
    DataFrame
        One row per subject and region, and one for the ``mean`` over several subjects: subject,
        roi, block, second, lead (R² of the block minus that of the second), ci_low, ci_high (95 %),
        r2_{block} of each block, n_voxels, n_images, and for the mean n_subjects, n_agree (subjects
        with the same best block) and n_clear (of these, those whose interval is above 0).
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


def tabulate_blocks(
    *,
    errors: dict[tuple[str, float | str], Path | str],
    blocks: list[str],
    output: Path | str,
    repeats: int,
    seed: int,
    names: dict[str, str] | None = None,
) -> None:
    """Tabulate the block that predicts each region best, for all subjects and steps.

    Parameters
    ----------
    errors : dict of path
        By (subject, share of the denoising steps), as `nsdldm.encoding.blocks.choose_blocks` writes
        them; for the layers of a network by (subject, network).
    blocks : list of str
    output : path
        Output: the table of `summarise_regions`, with the additional column share.
    repeats, seed : int
        As `summarise_regions`.
    names : dict of str, optional
        Other names of columns, such as network for share and layer for block.
    """
    parts = []
    for share in dict.fromkeys(share for _, share in errors):
        own = {subject: path for (subject, each), path in errors.items() if each == share}
        subjects = {subject: read_regions(path, blocks) for subject, path in own.items()}
        part = summarise_regions(subjects, blocks, repeats, seed)
        part.insert(1, "share", share)
        parts.append(part)
    table = pd.concat(parts, ignore_index=True).rename(columns=names or {})
    save_table(output, table)
    logger.info("%d rows", len(table))
