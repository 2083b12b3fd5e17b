"""Representational similarity: do responses and features find the same images alike?

Dissimilarities of all pairs of test images are compared by rank (Kriegeskorte, Mur & Bandettini
2008, Frontiers in Systems Neuroscience 2, 4): one minus the correlation of response patterns over a
region's voxels, and one minus the cosine of features that are centred on the training images.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from nsdldm.features.kernels import Kernels
from nsdldm.intervals import draw_counts, take_interval
from nsdldm.responses import Responses
from nsdldm.support.errors import Finding, InputError
from nsdldm.support.files import load_mask, load_table, save_table

if TYPE_CHECKING:
    from nsdldm.encoding.components import Interval

logger = logging.getLogger(__name__)

FEWEST = 3  # voxels and images
PERMUTATIONS = 1000


def measure_patterns(patterns: np.ndarray) -> np.ndarray:
    """Dissimilarities of response patterns.

    Parameters
    ----------
    patterns : float array of shape (n_images, n_voxels)

    Returns
    -------
    float64 array of shape (n_images, n_images)
        One minus Pearson's correlation over voxels.
    """
    return 1 - np.corrcoef(patterns.astype(np.float64))


def measure_kernel(kernel: np.ndarray) -> np.ndarray:
    """Dissimilarities of images in a feature space.

    Parameters
    ----------
    kernel : float array of shape (n_images, n_images)
        Inner products of centred features.

    Returns
    -------
    float64 array of shape (n_images, n_images)
        One minus the cosine.
    """
    kernel = kernel.astype(np.float64)
    length = np.sqrt(kernel.diagonal())
    return 1 - kernel / np.outer(length, length)


def compare_ranks(a: np.ndarray, b: np.ndarray) -> float:
    """Compare two matrices of dissimilarities by rank.

    Parameters
    ----------
    a, b : float array of shape (n_images, n_images)

    Returns
    -------
    float
        Spearman's correlation over pairs of images.
    """
    pairs = np.triu_indices(len(a), 1)
    return float(np.corrcoef(rankdata(a[pairs]), rankdata(b[pairs]))[0, 1])


def resample(a: np.ndarray, b: np.ndarray, interval: Interval) -> tuple[float, float]:
    """Confidence interval (95 %) of `compare_ranks`, over images.

    Parameters
    ----------
    a, b : float array of shape (n_images, n_images)
    interval : Interval

    Returns
    -------
    low, high : float
        Pairs of one image with itself, which images drawn twice give, are left out.
    """
    counts = draw_counts(len(a), interval.bootstrap, interval.seed)
    pairs = np.triu_indices(len(a), 1)
    # Ranks over all images: a correlation weighted by how often a pair was drawn.
    x, y = (rankdata(each[pairs]) for each in (a, b))
    weights = (counts[:, pairs[0]] * counts[:, pairs[1]]).astype(np.float64)
    weights /= weights.sum(axis=1, keepdims=True)
    means = [weights @ each for each in (x, y)]
    covariance = weights @ (x * y) - means[0] * means[1]
    variances = (weights @ each**2 - mean**2 for each, mean in zip((x, y), means, strict=True))
    low, high = take_interval((covariance / np.sqrt(np.prod([*variances], axis=0)))[:, None])
    return float(low[0]), float(high[0])


def draw_chance(a: np.ndarray, b: np.ndarray, seed: int) -> float:
    """Find what `compare_ranks` reaches by chance.

    Parameters
    ----------
    a, b : float array of shape (n_images, n_images)
    seed : int

    Returns
    -------
    float
        95th percentile when images are permuted.
    """
    rng, pairs = np.random.default_rng(seed), np.triu_indices(len(a), 1)
    ranks = np.zeros(a.shape)
    ranks[pairs] = rankdata(a[pairs])
    ranks += ranks.T
    x = rankdata(b[pairs])
    x = (x - x.mean()) / x.std()
    found = []
    for _ in range(PERMUTATIONS):
        order = rng.permutation(len(a))
        y = ranks[np.ix_(order, order)][pairs]
        found.append((x * (y - y.mean())).mean() / y.std())
    return float(np.quantile(found, 0.95))


def find_ceiling(halves: list[np.ndarray]) -> float:
    """Noise ceiling: the correlation of the true dissimilarities with those measured.

    Parameters
    ----------
    halves : list of two float array of shape (n_images, n_images)
        Dissimilarities from two thirds and from one third of the trials, or from two halves.

    Returns
    -------
    float
        Square root of the reliability of all trials together, by Spearman and Brown's formula; 0 if
        the two are not correlated. It is right where dissimilarities are reliable. Where noise
        dominates it is too low, since a dissimilarity is of the second degree in noise, which then
        averages out faster than the formula assumes.
    """
    r = compare_ranks(*halves)
    return float(np.sqrt(2 * r / (1 + r))) if r > 0 else 0.0


def _shared_images(responses, halves):
    """Rows of test images that are in both halves, among those of all and of each half."""
    ids = [set(each.test_ids) for each in halves]
    common = [number for number in responses.test_ids if all(number in own for own in ids)]
    return [pd.Index(each.test_ids).get_indexer(common) for each in (responses, *halves)]


def score_rsa(
    *,
    spaces: list[str],
    kernels: list[Path | str],
    responses: Path | str,
    halves: list[Path | str],
    form: str,
    images: Path | str,
    mask: Path | str,
    regions: dict[str, Path | str],
    output: Path | str,
    interval: Interval,
    min_ncsnr: float | None = 0,
) -> None:
    """Compare the geometry of a subject's responses with that of feature spaces.

    Parameters
    ----------
    spaces : list of str
    kernels : list of path
        As `nsdldm.features.kernels.compute_kernels` writes them.
    responses : path
        Of the cortex; averages of test images.
    halves : list of two path
        The same from two parts of the trials, for the noise ceiling.
    form : str
        Of the responses.
    images, mask : path
    regions : dict of str to path
    output : path
        Table: roi, space, rho (Spearman's correlation), its 95 % interval over images (ci_low,
        ci_high), chance (95th percentile when images are permuted), ceiling, n_voxels, n_images.
    interval : Interval
    min_ncsnr : float, optional
        Voxels below are left out.

    Raises
    ------
    InputError
        Inputs contradict each other, or too few images have trials in both halves.
    """
    known = Responses(responses, form)
    parts = [Responses(path, form) for path in halves]
    rows = _shared_images(known, parts)
    if len(rows[0]) < FEWEST:
        expected, remedy = f"{FEWEST} test images with trials in both halves", "Use more sessions"
        raise InputError(Finding(str(halves[0]), expected, str(len(rows[0])), remedy))
    files = Kernels(kernels)
    places = pd.Index(load_table(images)["nsd_id"]).get_indexer(known.test_ids)
    models = {}
    for space in spaces:
        kernel = files.read(space)
        models[space] = measure_kernel(kernel[np.ix_(places, places)])
    kept = np.ones(known.n_voxels, bool) if min_ncsnr is None else known.ncsnr >= min_ncsnr
    inside, table = load_mask(mask), []
    columns = slice(0, known.n_voxels)
    observed = [each.read_test(columns) for each in (known, *parts)]
    for name, path in regions.items():
        chosen = load_mask(path)[inside] & kept
        if chosen.sum() < FEWEST:
            logger.info("%s: too few voxels", name)
            continue
        brain = measure_patterns(observed[0][:, chosen])
        split = [
            measure_patterns(each[own][:, chosen])
            for each, own in zip(observed[1:], rows[1:], strict=True)
        ]
        ceiling = find_ceiling(split)
        for space, model in models.items():
            rho, bounds = compare_ranks(brain, model), resample(brain, model, interval)
            chance = draw_chance(brain, model, interval.seed)
            sizes = int(chosen.sum()), len(brain)
            table.append((name, space, rho, *bounds, chance, ceiling, *sizes))
    columns = ("roi", "space", "rho", "ci_low", "ci_high", "chance", "ceiling")
    save_table(output, pd.DataFrame(table, columns=[*columns, "n_voxels", "n_images"]))
    logger.info("%d regions, %d spaces", len(regions), len(spaces))
