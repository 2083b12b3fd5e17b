"""Divide the variance of each voxel among several feature spaces.

R² of all subsets of spaces divides that of the joint model: what only one space explains (its
unique variance), and what several explain in common. The common parts can be negative, where spaces
together explain more than the sum of what they explain alone (suppression), or where a smaller
model generalises better.
"""

from __future__ import annotations

import logging
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from nsdldm import stats
from nsdldm.encoding.flips import draw_signs, flip_signs
from nsdldm.encoding.maps import score, write_maps
from nsdldm.encoding.predictions import Predictions, name_pair
from nsdldm.encoding.subsets import COMPLETE, list_subsets
from nsdldm.intervals import bootstrap_interval
from nsdldm.support.files import load_mask, save_table

if TYPE_CHECKING:
    from nsdldm.encoding.flips import FlipTest

logger = logging.getLogger(__name__)

UNIQUE, COMMON, SHARED, TOTAL = "unique", "common", "shared", "r2"


class Interval(NamedTuple):
    """How intervals of means over a region are found.

    Parameters
    ----------
    bootstrap : int
        Draws of test images.
    seed : int
    """

    bootstrap: int
    seed: int


def list_parts(spaces: list[str]) -> dict[str, dict[tuple[str, ...], int]]:
    """Write each part of the variance as a sum of R² of models.

    Parameters
    ----------
    spaces : list of str

    Returns
    -------
    dict of str to dict of tuple of str to int
        By name the factor of each model's R²: ``r2`` of all spaces, ``unique_{space}``,
        ``shared`` (r2 minus all unique parts) and, with up to three spaces, ``common_{a}+{b}`` for
        what exactly these spaces explain. The model without any space has R² 0.
    """
    whole = tuple(spaces)
    parts = {TOTAL: {whole: 1}}
    without = {space: tuple(name for name in spaces if name != space) for space in spaces}
    for space in spaces:
        parts[f"{UNIQUE}_{space}"] = {whole: 1, without[space]: -1}
    parts[SHARED] = {whole: 1 - len(spaces)} | dict.fromkeys(without.values(), 1)
    if len(spaces) <= COMPLETE:
        for size in range(2, len(spaces) + 1):
            for subset in combinations(spaces, size):
                parts[f"{COMMON}_{name_pair(subset)}"] = _count_common(subset, spaces)
    return parts


def _count_common(subset, spaces):
    """Factors of the part that exactly these spaces explain, by inclusion and exclusion."""
    factors = {}
    for size in range(len(subset) + 1):
        for inner in combinations(subset, size):
            sign = (-1) ** (len(subset) - size)
            # What disappears without the inner spaces: R² of all minus that of the others.
            rest = tuple(name for name in spaces if name not in inner)
            for model, factor in ((tuple(spaces), sign), (rest, -sign)):
                factors[model] = factors.get(model, 0) + factor
    return {model: factor for model, factor in factors.items() if factor and model}


def _combine(parts, values):
    """Each part from the values of models."""
    return {
        name: sum(factor * values[model] for model, factor in factors.items())
        for name, factors in parts.items()
    }


def divide_variance(
    *,
    spaces: list[str],
    predictions: Path | str,
    responses: Path | str,
    mask: Path | str,
    regions: dict[str, Path | str],
    output_map: Path | str,
    output_table: Path | str,
    summary: Path | str,
    test: FlipTest,
    interval: Interval,
    min_ncsnr: float | None = 0,
) -> None:
    """Divide the variance of every voxel of a subject among the spaces of a joint model.

    Unique variance is tested as between two spaces (`nsdldm.encoding.partition`): one-sided, by
    flipping the signs of the images' differences of squared errors, with FDR control over voxels
    that the joint model predicts in training.

    Parameters
    ----------
    spaces : list of str
    predictions : path
        As `nsdldm.encoding.banded.fit_banded` writes them.
    responses, mask : path
    regions : dict of str to path
        Masks that means are taken over.
    output_map, output_table : path
        Outputs: a float32 NIfTI and a table with a row per voxel: r, r2, p and significant of the
        joint model, cv, tested, the parts of `list_parts`, p_unique_ and significant_ of each
        space, ceiling, ncsnr, and share_, the weight of each space.
    summary : path
        Output: a row per region and part: mean over voxels, its 95 % interval over test images, and
        the mean squared noise ceiling.
    test : nsdldm.encoding.flips.FlipTest
    interval : Interval
    min_ncsnr : float, optional
        Voxels below are left out of means over regions.

    Raises
    ------
    InputError
        Inputs contradict each other.
    """
    file = Predictions(predictions)
    known, subsets = file.open_responses(responses), list_subsets(spaces)
    parts, whole = list_parts(spaces), tuple(spaces)
    signs = draw_signs(test.flips, len(known.test_ids), test.seed)
    means = _Means(mask, regions, known.ncsnr, min_ncsnr)
    tables = []
    for block, columns in file.blocks():
        observed = known.read_test(columns)
        models = {subset: file.read(name_pair(subset), block) for subset in subsets}
        joint = models[whole]
        found = {name: stats.r2(observed, model.predictions) for name, model in models.items()}
        table = score(observed, joint.predictions) | {"cv": joint.cv_scores}
        table |= _combine({k: v for k, v in parts.items() if k != TOTAL}, found)
        for space in spaces:
            less = models[tuple(name for name in spaces if name != space)].predictions
            p = flip_signs(observed, less, joint.predictions, signs)
            table[f"p_unique_{space}"] = np.where(np.isnan(table[TOTAL]), np.nan, p)
        tables.append(pd.DataFrame(table))
        means.add(columns, observed, {name: model.predictions for name, model in models.items()})
    table = _judge(pd.concat(tables, ignore_index=True), spaces, len(known.test_ids), test.fdr)
    table = table.assign(ceiling=known.ceiling, ncsnr=known.ncsnr)
    shares = file.read_shares(name_pair(whole))
    table = table.assign(**{f"share_{n}": own for n, own in zip(spaces, shares, strict=True)})
    write_maps(table, mask, output_map, output_table)
    save_table(summary, means.tabulate(parts, known.ceiling, interval))


def _judge(table, spaces, n_test, q):
    """Add significance, and log the counts."""
    table["p"] = stats.p_values(table["r"], n_test)
    table["significant"] = stats.fdr(table["p"], q)
    table["tested"] = (table["cv"] > 0) & table["r2"].notna()
    for space in spaces:
        p = table[f"p_unique_{space}"].where(table["tested"])
        table[f"significant_{space}"] = stats.fdr(p, q)
        found = table[f"significant_{space}"].sum(), table["tested"].sum(), len(table)
        logger.info("unique variance of %s in %d of %d voxels tested, of %d", space, *found)
    return table


class _Means:
    """Contributions of test images to R² of every model, averaged over the voxels of regions."""

    def __init__(self, mask, regions, ncsnr, min_ncsnr):
        inside = load_mask(mask)
        kept = np.ones(len(ncsnr), bool) if min_ncsnr is None else ncsnr >= min_ncsnr
        self.members = {name: load_mask(path)[inside] & kept for name, path in regions.items()}
        self.sums = {name: {} for name in regions}

    def add(self, columns, observed, predictions):
        mean = np.broadcast_to(observed.mean(axis=0), observed.shape)
        usable = np.ptp(observed, axis=0) > 0
        for model, predicted in predictions.items():
            shares = stats.share_gain(observed, mean, predicted)
            for name, members in self.members.items():
                chosen = members[columns] & usable
                own = shares[:, chosen].sum(axis=1)
                self.sums[name][model] = self.sums[name].get(model, 0) + own
        for members in self.members.values():
            members[columns] &= usable

    def tabulate(self, parts, ceiling, interval):
        rows = []
        for name, sums in self.sums.items():
            members = self.members[name]
            if not (n := int(members.sum())):
                continue
            shares = _combine(parts, {model: own / n for model, own in sums.items()})
            values = np.stack([*shares.values()], axis=1)
            low, high = bootstrap_interval(values, interval.bootstrap, interval.seed)
            square = float(np.nanmean(ceiling[members] ** 2))
            for part, mean, below, above in zip(
                shares, values.mean(axis=0), low, high, strict=True
            ):
                rows.append((name, part, mean, below, above, square, n))
        columns = ["roi", "part", "value", "ci_low", "ci_high", "ceiling", "n_voxels"]
        return pd.DataFrame(rows, columns=columns)


def tabulate_parts(*, subjects: list[str], summaries: list[Path | str], output: Path | str) -> None:
    """Join the summaries of subjects.

    Parameters
    ----------
    subjects : list of str
    summaries : list of path
        As `divide_variance` writes them.
    output : str or Path
        Table with the columns of the summaries, and subject.
    """
    tables = [
        pd.read_csv(path, sep="\t").assign(subject=subject)
        for subject, path in zip(subjects, summaries, strict=True)
    ]
    table = pd.concat(tables, ignore_index=True)
    save_table(output, table[["subject", *table.columns.drop("subject")]])
